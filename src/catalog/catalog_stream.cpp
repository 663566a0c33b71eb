#include "catalog/catalog_stream.hpp"

#include "base/text.hpp"
#include "model/catalog_json.hpp"

namespace croft::catalog {

namespace {

using Steady = std::chrono::steady_clock;
constexpr std::chrono::milliseconds heartbeat{1000};
/// A follower that takes no more for this long is cut; it comes back and gets what it missed, or a snapshot.
constexpr std::chrono::milliseconds behind_max{2000};
/// Lines go out in pieces, so that a thousand followers of one big snapshot hold a piece each, not a copy each.
constexpr std::size_t piece_max = 256u << 10;

std::optional<Index> index_from(std::string_view text) {
  auto dot = text.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  auto epoch = to_int(text.substr(0, dot)), n = to_int(text.substr(dot + 1));
  if (!epoch || !n || *epoch < 0 || *n < 0) return std::nullopt;
  return Index{static_cast<std::uint64_t>(*epoch), static_cast<std::uint64_t>(*n)};
}

boost::asio::awaitable<bool> send_lines(std::vector<std::shared_ptr<const std::string>> lines, std::shared_ptr<net::StreamWriter> out) {
  std::string piece;
  for (const auto& line : lines) {
    for (std::size_t from = 0; from < line->size();) {
      auto size = std::min(line->size() - from, piece_max - std::min(piece.size(), piece_max - 1));
      piece.append(*line, from, size);
      from += size;
      if (piece.size() < piece_max) continue;
      auto full = std::exchange(piece, {});
      if (!co_await out->write(std::move(full))) co_return false;
    }
    piece.push_back('\n');
  }
  co_return co_await out->write(std::move(piece));
}

boost::asio::awaitable<void> feed_follower(std::optional<Index> after, Feed feed, std::shared_ptr<net::Signal> changed, std::shared_ptr<net::StreamWriter> out) {
  out->write_limit(behind_max);
  auto next_beat = Steady::now();  // at once: a follower that missed nothing wants to hear that
  while (!out->closed()) {
    auto ticket = changed->ticket();  // before the look, so that a change in between is not slept over
    auto batch = co_await feed(after);
    if (!batch.leading) co_return;
    bool silent = batch.lines.empty();
    auto left = std::chrono::ceil<std::chrono::milliseconds>(next_beat - Steady::now());
    if (silent && left.count() > 0) {
      co_await changed->wait(ticket, left);
      continue;
    }
    if (silent) batch.lines.push_back(std::make_shared<const std::string>(encode(Record(Heartbeat{batch.at, batch.root.commit}))));
    after = batch.at;
    auto lines = std::move(batch.lines);
    if (!co_await send_lines(std::move(lines), out)) co_return;
    next_beat = Steady::now() + heartbeat;
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
  auto cluster = request.query.get("cluster").value_or("");
  auto commit = to_int(request.query.get("commit").value_or("0")).value_or(0);
  // Two stores may be at the same epoch and number: only a snapshot tells them apart.
  if (!cluster.empty() && (cluster != first.root.cluster || commit > static_cast<std::int64_t>(first.root.commit))) after.reset();
  net::Response response;
  response.headers.set("Content-Type", "application/x-ndjson");
  response.stream = [after, feed = std::move(feed), changed = std::move(changed)](std::shared_ptr<net::StreamWriter> out) {
    return feed_follower(after, feed, changed, std::move(out));
  };
  co_return response;
}

}  // namespace croft::catalog
