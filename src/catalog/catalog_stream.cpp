#include "catalog/catalog_stream.hpp"

#include "base/text.hpp"
#include "model/catalog_json.hpp"

namespace croft::catalog {

namespace {

constexpr std::chrono::milliseconds heartbeat{1000};

std::optional<Index> index_from(std::string_view text) {
  auto dot = text.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  auto epoch = to_int(text.substr(0, dot)), n = to_int(text.substr(dot + 1));
  if (!epoch || !n || *epoch < 0 || *n < 0) return std::nullopt;
  return Index{static_cast<std::uint64_t>(*epoch), static_cast<std::uint64_t>(*n)};
}

/// A follower that does not read is cut by the writer's own time-out; it comes back and starts from a snapshot.
boost::asio::awaitable<void> feed_follower(std::optional<Index> after, Feed feed, std::shared_ptr<net::Signal> changed, std::shared_ptr<net::StreamWriter> out) {
  while (!out->closed()) {
    auto ticket = changed->ticket();
    auto batch = co_await feed(after);
    if (!batch.leading) co_return;
    std::string chunk;
    for (const auto& line : batch.lines) chunk += *line, chunk += '\n';
    after = batch.at;
    if (chunk.empty()) {
      if (co_await changed->wait(ticket, heartbeat)) continue;
      chunk = encode(Record(Heartbeat{batch.at})) + "\n";
      auto newer = co_await feed(after);  // a delta that came in this moment goes before the heartbeat
      if (!newer.leading || newer.at != batch.at) continue;
    }
    if (!co_await out->write(std::move(chunk))) co_return;
  }
}

}  // namespace

boost::asio::awaitable<net::Response> serve_catalog(net::Request request, Feed feed, std::shared_ptr<net::Signal> changed) {
  std::optional<Index> after;
  if (auto text = request.query.get("after"); text && !text->empty()) {
    after = index_from(*text);
    if (!after) co_return net::Response::message(422, "after: must be <epoch>.<n>");
  }
  auto first = co_await feed(after);
  if (!first.leading) co_return net::Response::message(503, "this master does not lead");
  net::Response response;
  response.headers.set("Content-Type", "application/x-ndjson");
  response.stream = [after, feed = std::move(feed), changed = std::move(changed)](std::shared_ptr<net::StreamWriter> out) {
    return feed_follower(after, feed, changed, std::move(out));
  };
  co_return response;
}

}  // namespace croft::catalog
