#pragma once
// One HAProxy as a process of its own: started, adopted, reloaded, spoken to. Everything here blocks for at most its time-out.

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace croft::balancer {

/// What Keeper needs of a HAProxy; tests have one of their own.
class Proxy {
 public:
  virtual ~Proxy() = default;
  struct Info {
    int pid = 0;                               ///< of the worker that takes connections
    std::string shape;                         ///< what it says of its configuration (shape_of)
  };
  /// Nothing when none of ours answers.
  [[nodiscard]] virtual std::optional<Info> info() const = 0;
  /// Master and worker, on their own: they outlive us. A HAProxy of this run folder that does not answer any more is ended first.
  virtual Status start() = 0;
  /// The worker is replaced by one with the configuration on disk; listeners are handed over. Returns when the new one answers.
  virtual Status reload() = 0;
  /// Commands for the worker that takes connections; an old one takes none. Errors: unavailable, invalid (HAProxy's words).
  virtual Status run(const std::vector<std::string>& commands) const = 0;
  /// A question to a worker, 0: the one that takes connections.
  [[nodiscard]] virtual Result<std::string> ask(const std::string& command, int worker = 0) const = 0;
  [[nodiscard]] virtual Result<std::string> ask_master(const std::string& command) const = 0;
  /// Ends an old worker: what clients still keep open to it is closed. 0 and the numbers of others are left alone.
  virtual void end_worker(int worker) const = 0;
  /// `haproxy -c`. Errors: invalid with HAProxy's own words; any other code says nothing about the configuration.
  [[nodiscard]] virtual Status check(const std::string& config) const = 0;
  virtual Status write_config(const std::string& config) const = 0;
  [[nodiscard]] virtual std::string config_on_disk() const = 0;      ///< "" when there is none
  [[nodiscard]] virtual bool port_is_free(const std::string& address, std::uint16_t port) const = 0;
};

struct HaproxyOptions {
  std::filesystem::path run_dir;               ///< haproxy.cfg, haproxy.sock, master.sock, haproxy.pid
  std::string program = "/usr/sbin/haproxy";
  bool by_unit = false;                        ///< somebody else starts it when it is not there
  std::chrono::milliseconds reload_limit{10'000};
};

class Haproxy final : public Proxy {
 public:
  explicit Haproxy(HaproxyOptions options) : options_(std::move(options)) {}
  [[nodiscard]] std::optional<Info> info() const override;
  /// Master and worker, on their own: they outlive us. With `by_unit`: waits until somebody has started them.
  Status start() override;
  Status reload() override;
  Status run(const std::vector<std::string>& commands) const override;
  [[nodiscard]] Result<std::string> ask(const std::string& command, int worker) const override;
  [[nodiscard]] Result<std::string> ask_master(const std::string& command) const override;
  void end_worker(int worker) const override;
  [[nodiscard]] Status check(const std::string& config) const override;
  Status write_config(const std::string& config) const override;
  [[nodiscard]] std::string config_on_disk() const override;
  [[nodiscard]] bool port_is_free(const std::string& address, std::uint16_t port) const override;
  /// Ends master and workers; sessions get no time. Blocks some hundred milliseconds.
  void stop();

 private:
  [[nodiscard]] Result<std::string> talk(const std::filesystem::path& socket, const std::string& text) const;
  [[nodiscard]] std::optional<int> master_pid() const;
  [[nodiscard]] std::filesystem::path config_file() const { return options_.run_dir / "haproxy.cfg"; }
  HaproxyOptions options_;
};

}  // namespace croft::balancer
