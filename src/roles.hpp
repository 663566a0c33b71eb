#pragma once
// The roles of a host, each built from the modules that it joins. `croft dev` has all of them in one process, `croft serve` one.

#include <boost/asio/io_context.hpp>
#include <boost/asio/executor_work_guard.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/metrics.hpp"
#include "net/http_server.hpp"
#include "settings.hpp"
#include "refusals.hpp"

namespace croft {

namespace secure {
struct Caller;
}

/// One running role. stop() is called once, before the process ends.
class Role {
 public:
  virtual ~Role() = default;
  /// Also of its folder below `data`: the only one in which its process may write, where a unit of systemd's has it.
  [[nodiscard]] virtual const char* name() const = 0;
  virtual Status start() = 0;
  virtual boost::asio::awaitable<void> stop() = 0;
};

/// What roles of one process share.
class Security;

struct Host {
  boost::asio::io_context& io;
  Metrics& metrics;
  const Settings& settings;
  std::function<void(std::string)> fatal;   ///< ends the process with these words
  std::shared_ptr<Security> security;       ///< nothing: nobody is asked anything
  std::vector<std::string> host_names;      ///< what Host may name, beside addresses; empty: it is not looked at
};

std::unique_ptr<Role> make_master(Host host);
std::unique_ptr<Role> make_node(Host host);
std::unique_ptr<Role> make_balancer(Host host);
std::unique_ptr<Role> make_dns(Host host);
std::unique_ptr<Role> make_log(Host host);

/// HTTP listeners of a role: each with routes of its own, /metrics and /ping among them, behind the gate, by TLS unless the settings say "plain" of it.
class Listeners {
 public:
  explicit Listeners(Host host) : host_(host) {}
  Status add(const std::string& name, const std::vector<std::string>& addresses, std::uint16_t port, std::shared_ptr<net::Router> router, std::size_t body_max = 4u << 20);
  boost::asio::awaitable<void> stop();
  /// Who hears of refusals; before add().
  using Denied = std::function<void(const secure::Caller& caller, const net::Request& request, const std::string& path, const std::string& reason)>;
  void on_denied(Denied denied) { denied_ = std::move(denied); }

 private:
  Host host_;
  Denied denied_;                                   ///< nothing: the masters hear of it
  std::shared_ptr<RefusalReporter> refusals_;
  std::vector<std::shared_ptr<net::HttpServer>> servers_;
};

}  // namespace croft
