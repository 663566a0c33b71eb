#pragma once
// The leader's end of the stream: any number of followers, each at its own place, all sent the same bytes.

#include <boost/asio/awaitable.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/catalog.hpp"
#include "net/async.hpp"
#include "net/http.hpp"

namespace croft::catalog {

/// Lines that a follower at `after` gets next, and the index it is at then.
struct Batch {
  Index at;
  std::vector<std::shared_ptr<const std::string>> lines;
  bool leading = false;
  Root root;
};
using Feed = std::function<boost::asio::awaitable<Batch>(std::optional<Index> after)>;

/// Answers GET /croft/v1/catalog?after=E.N&cluster=C&commit=N: a snapshot where the follower knows another store or more of this one (it will refuse it); 503 where nobody leads, else NDJSON until the follower goes, is too slow, or leadership ends.
/// `changed` is notified whenever there may be new lines.
boost::asio::awaitable<net::Response> serve_catalog(net::Request request, Feed feed, std::shared_ptr<net::Signal> changed);

}  // namespace croft::catalog
