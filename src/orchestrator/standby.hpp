#pragma once
// What a master answers while it does not lead: Marathon's paths are passed on to the leader, the links of agents and followers are told where it is.

#include <boost/asio/any_io_executor.hpp>

#include <functional>
#include <memory>
#include <string>

#include "coordination/store.hpp"
#include "net/http.hpp"
#include "net/http_client.hpp"

namespace croft::orchestrator {

struct StandbyOptions {
  std::string own;                      ///< "host:port" of this master's Marathon face: stands in Via, tells a loop
  std::function<bool()> leading;        ///< asked for every request
  std::shared_ptr<coordination::Detector> detector;
  net::Origin like;                     ///< TLS and expectation of the way to the leader; address and port are the leader's
};

/// Diverts `/v2/…` and `/croft/v1/…`, and `/ping` when another master asks. A request that comes between two leaders waits up to 2.5 s for the next
/// one. Nothing that may have reached a leader is sent twice, but for reads.
/// Errors   502 no leader, the leader refuses or breaks off, a loop; 503 too many at once; 504 the leader does not answer within 10 s.
/// Source   Marathon's leader proxy (Via, X-Forwarded-For, 64 connections and more).
void pass_on_to_leader(const std::shared_ptr<net::Router>& router, boost::asio::any_io_executor pool, StandbyOptions options);

}  // namespace croft::orchestrator
