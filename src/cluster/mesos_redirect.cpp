#include "cluster/mesos_redirect.hpp"

#include "base/text.hpp"

namespace croft::cluster {

namespace {

bool of_any_master(std::string_view path) {
  if (path.starts_with("/master/")) path.remove_prefix(7);
  for (std::string_view own : {"/", "/health", "/version", "/flags", "/favicon.ico"})
    if (path == own) return true;
  return path.starts_with("/metrics") || path.starts_with("/ui") || path.starts_with("/assets") || path.starts_with("/croft/");
}

bool is_redirect(std::string_view path) { return path == "/redirect" || path == "/master/redirect"; }

net::asio::awaitable<net::Response> redirect(std::shared_ptr<coordination::Detector> detector, net::Request request) {
  auto seen = detector->sighting();
  if (!seen.leader) co_return net::Response::message(503, "No leader elected");
  auto where = fmt::format("//{}:{}", seen.leader->hostname, seen.leader->mesos_port);
  if (!is_redirect(request.path)) where += request.target;
  co_return net::Response::redirect(std::move(where), 307);
}

}  // namespace

void redirect_to_leader(net::Router& router, std::function<bool()> leading, std::shared_ptr<coordination::Detector> detector) {
  auto when = [leading = std::move(leading)](const net::Request& q) { return !of_any_master(q.path) && !leading(); };
  router.divert(when, [detector](net::Request q) { return redirect(detector, std::move(q)); });
}

}  // namespace croft::cluster
