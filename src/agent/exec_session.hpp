#pragma once
// One command that runs inside a task for somebody: its pipes on one side, the leader's requests on the other.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/http_client.hpp"

namespace croft::agent {

namespace asio = boost::asio;

struct ExecSession {
  net::Origin leader;
  std::string target;                     ///< of the session there: "/croft/v1/agents/A/exec/S"
  std::vector<std::string> words;         ///< Runtime::inside
  std::string refused;                    ///< instead of it: why there is nothing to run
  std::function<bool()> stopping;         ///< whether this agent ends
};

/// Until the command has ended and the leader has heard of it, or the leader knows the session no more: then the command is ended.
/// Threads  one strand for each session, of its own.
asio::awaitable<void> run_exec_session(asio::any_io_executor pool, std::shared_ptr<net::HttpClient> client, ExecSession session);

}  // namespace croft::agent
