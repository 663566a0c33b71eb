#pragma once
// A Docker Engine, by its HTTP API on its unix socket. Source: Engine API 1.41.

#include <boost/json/value.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "net/http_client.hpp"

namespace croft::agent {

namespace asio = boost::asio;

/// Shape    each call is one exchange with a deadline of its own.
/// Errors   the Engine's own words: not_found for 404, conflict for 409, invalid for the rest of these, io for its own troubles; unavailable when
///          it does not answer or broke off.
/// Threads  as its executor.
class DockerEngine {
 public:
  DockerEngine(asio::any_io_executor executor, std::string socket);

  struct Info { std::string version; bool live_restore = false, init = false; std::vector<std::string> facts = {}; };  ///< facts: AgentInfo::engine
  asio::awaitable<Result<Info>> info();
  asio::awaitable<Result<bool>> has_image(std::string image);
  asio::awaitable<Result<boost::json::value>> image(std::string name);
  /// `line` gets each progress line; an error of its ends the pull.
  asio::awaitable<Status> pull(std::string name, std::string tag, std::optional<std::string> auth, Millis limit, std::function<Status(const boost::json::value&)> line);
  asio::awaitable<Status> create(std::string name, std::string body);
  asio::awaitable<Result<boost::json::value>> inspect(std::string name);
  asio::awaitable<Status> remove(std::string name);      ///< kills it first; one that is gone is no error
  struct Container { std::string name, task; };
  asio::awaitable<Result<std::vector<Container>>> list(std::string label);

  [[nodiscard]] const std::string& socket() const { return origin_.unix_path; }

 private:
  asio::awaitable<Result<net::Response>> call(std::string method, std::string target, std::string body, Millis limit);
  net::HttpClient client_;
  net::Origin origin_;
};

}  // namespace croft::agent
