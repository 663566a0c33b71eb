#pragma once
// One HAProxy as a process of its own: started, adopted, reloaded, spoken to. Everything here blocks for at most its time-out.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace croft::balancer {

struct HaproxyOptions {
  std::filesystem::path run_dir;               ///< haproxy.cfg, haproxy.sock, master.sock, haproxy.pid
  std::string program = "/usr/sbin/haproxy";
  bool by_unit = false;                        ///< somebody else starts it when it is not there
};

class Haproxy {
 public:
  explicit Haproxy(HaproxyOptions options) : options_(std::move(options)) {}
  /// Whether one of ours answers on its sockets.
  [[nodiscard]] bool running() const;
  /// Master and worker, on their own: they outlive us. With `by_unit`: waits until somebody has started them.
  Status start();
  /// The worker is replaced by one with the configuration on disk; listeners are handed over. Returns when the new one answers.
  Status reload();
  void stop();
  /// Commands over the stats socket, batched; what each answered. Errors: unavailable, invalid (HAProxy's words).
  Status run(const std::vector<std::string>& commands) const;
  [[nodiscard]] Result<std::string> ask(const std::string& command) const;
  /// `haproxy -c`. Errors: invalid with HAProxy's own words.
  [[nodiscard]] Status check(const std::string& config) const;
  Status write_config(const std::string& config) const;
  /// Current sessions by "backend/server".
  [[nodiscard]] Result<std::map<std::string, unsigned>> sessions() const;
  /// Address and port by "backend/server".
  [[nodiscard]] Result<std::map<std::string, std::pair<std::string, int>>> addresses() const;
  [[nodiscard]] std::filesystem::path config_file() const { return options_.run_dir / "haproxy.cfg"; }

 private:
  [[nodiscard]] Result<std::string> talk(const std::filesystem::path& socket, const std::string& text) const;
  HaproxyOptions options_;
};

}  // namespace croft::balancer
