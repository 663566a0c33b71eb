#include "orchestrator/standby.hpp"

#include <atomic>
#include <mutex>

#include "base/log.hpp"
#include "base/text.hpp"
#include "net/async.hpp"
#include "net/http_client.hpp"

namespace croft::orchestrator {

namespace asio = boost::asio;

namespace {

constexpr Millis connect_limit{5000}, answer_limit{10'000}, patience{2500}, patience_in_doubt{1000}, stream_silence{60'000}, look_again{100};
constexpr std::size_t passing_max = 512, answer_max = 256u << 20;

using Steady = std::chrono::steady_clock;

struct Standby {
  Standby(std::weak_ptr<net::Router> r, asio::any_io_executor p, StandbyOptions o) : router(std::move(r)), pool(p), client(std::move(p)), options(std::move(o)) {}
  std::weak_ptr<net::Router> router;
  asio::any_io_executor pool;
  net::HttpClient client;
  StandbyOptions options;
  std::atomic<std::size_t> passing{0};
};

/// Counts a request as long as it lives.
struct Passage {
  explicit Passage(std::shared_ptr<Standby> s) : standby(std::move(s)) { ++standby->passing; }
  Passage(const Passage&) = delete;
  Passage& operator=(const Passage&) = delete;
  ~Passage() { --standby->passing; }
  std::shared_ptr<Standby> standby;
};

/// Fields of one connection, not of the message; and those that our own client and server set anew.
bool of_the_connection(std::string_view name) {
  for (std::string_view own : {"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length",
                               "Accept-Encoding", "Expect"})
    if (iequals(name, own)) return true;
  return false;
}

/// The hosts' own paths: each shows the leader its own certificate. By segments, as the router reads them: empty ones count for nothing.
bool is_link(std::string_view path) {
  std::vector<std::string> words;
  for (auto& word : split(path, '/'))
    if (!word.empty()) words.push_back(std::move(word));
  if (words.size() < 3 || words[0] != "croft" || words[1] != "v1") return false;
  for (std::string_view own : {"agents", "catalog", "refusals", "certificates", "access"})
    if (words[2] == own) return true;
  return false;
}
bool is_stream(const net::Request& q) { return q.path == "/v2/events" || iequals(q.headers.get("Accept"), "text/event-stream"); }
bool only_reads(const net::Request& q) { return q.method == "GET" || q.method == "HEAD" || q.method == "OPTIONS"; }

net::Request forwarded(const Standby& s, const net::Request& from) {
  net::Request out;
  out.method = from.method;
  out.target = from.target;
  out.body = from.body;
  for (const auto& [name, value] : from.headers.all())
    if (!of_the_connection(name) && !(iequals(name, "Via") && trim(value).empty())) out.headers.add(name, value);
  out.headers.add("Via", "1.1 " + s.options.own);  // by which the leader knows that our certificate is not the caller's
  auto before = out.headers.get("X-Forwarded-For");
  out.headers.set("X-Forwarded-For", before.empty() ? from.peer : fmt::format("{}, {}", before, from.peer));
  return out;
}

net::Response backward(const net::Response& from) {
  net::Response out;
  out.status = from.status;
  for (const auto& [name, value] : from.headers.all())
    if (!of_the_connection(name)) out.headers.add(name, value);
  return out;
}

/// Marathon's words where masters are between two leaders; 503 where there can be none, because nobody can be elected.
net::Response no_leader(const Standby& s) {
  if (s.options.detector->sighting().certain) return net::Response::message(502, "Could not determine the current leader");
  return net::Response::message(503, "ZooKeeper does not answer, so no master can lead: nothing can be changed until it does; what runs goes on");
}

net::Response failed(const Error& error, const std::string& leader) {
  return net::Response::message(error.code == Errc::timeout ? 504 : 502, fmt::format("the leader {}: {}", leader, error.context));
}

/// An event stream, copied as it comes. Its end at the leader is its end here.
asio::awaitable<net::Response> pass_stream(std::shared_ptr<Passage> passage, net::Origin to, net::Request what) {
  net::ClientOptions how;
  how.connect_timeout = connect_limit;
  how.timeout = answer_limit;
  how.idle_timeout = stream_silence;
  auto opened = co_await passage->standby->client.open(to, std::move(what), how);
  if (!opened) co_return failed(opened.error(), to.str());
  std::shared_ptr<net::StreamReader> reader(std::move(*opened));
  auto response = backward(reader->head());
  response.stream = [passage, reader](std::shared_ptr<net::StreamWriter> out) -> asio::awaitable<void> {
    while (!out->closed()) {
      auto some = co_await reader->read_some();
      if (!some || some->empty() || !co_await out->write(std::move(*some))) break;
    }
  };
  co_return response;
}

/// One request on its way to the leader. It lives on when nobody waits for it any more, until its own deadline.
struct OnItsWay {
  std::mutex mutex;
  std::optional<Result<net::Response>> answer;  // mutex
  std::shared_ptr<net::Signal> came = net::Signal::make();
};

asio::awaitable<void> carry(std::shared_ptr<Passage> passage, std::shared_ptr<OnItsWay> way, net::Origin to, net::Request what) {
  net::ClientOptions how;
  how.connect_timeout = connect_limit;
  how.timeout = answer_limit;
  how.body_max = answer_max;
  auto answer = co_await passage->standby->client.request(std::move(to), std::move(what), how);
  {
    std::lock_guard guard(way->mutex);
    way->answer = std::move(answer);
  }
  way->came->notify();
}

/// The leader's answer; or unavailable as soon as somebody else leads: a frozen leader would be waited for in vain.
asio::awaitable<Result<net::Response>> answer_of(std::shared_ptr<Passage> passage, net::Origin to, net::Request what) {
  auto way = std::make_shared<OnItsWay>();
  auto trip = carry(passage, way, to, std::move(what));
  net::spawn(passage->standby->pool, "pass on", std::move(trip));
  for (;;) {
    auto ticket = way->came->ticket();
    {
      std::lock_guard guard(way->mutex);
      if (way->answer) co_return std::move(*way->answer);
    }
    auto seen = passage->standby->options.detector->sighting();
    if (seen.leader && seen.leader->ip != to.host) co_return fail(Errc::unavailable, "lost its leadership before it answered; the change may have been stored");
    (void)co_await way->came->wait(ticket, look_again);
  }
}

asio::awaitable<net::Response> pass_on(std::shared_ptr<Standby> s, net::Request request) {
  for (const auto& [name, value] : request.headers.all())
    if (iequals(name, "Via") && value.find(s->options.own) != std::string::npos) co_return net::Response::message(502, "Detected proxying loop");
  if (s->passing >= passing_max) co_return net::Response::message(503, fmt::format("Too many concurrent requests! Allowed: {}.", passing_max));
  auto passage = std::make_shared<Passage>(s);
  auto seen = s->options.detector->sighting();
  auto end = Steady::now() + (seen.certain ? patience : patience_in_doubt);
  for (;;) {
    if (s->options.leading()) {
      if (auto router = s->router.lock()) co_return co_await router->handle_here(std::move(request));
      co_return no_leader(*s);
    }
    auto left = std::chrono::duration_cast<Millis>(end - Steady::now());
    bool known = seen.leader && seen.leader->marathon_port != 0 && seen.leader->address() != s->options.own;
    if (known) {
      auto to = s->options.like;
      to.host = seen.leader->ip;
      to.port = seen.leader->marathon_port;
      auto what = forwarded(*s, request);
      if (is_stream(request)) co_return co_await pass_stream(passage, std::move(to), std::move(what));
      auto answer = co_await answer_of(passage, to, std::move(what));
      if (answer) {
        auto response = backward(*answer);
        response.body = std::move(answer->body);
        co_return response;
      }
      bool another = s->options.detector->sighting().turn != seen.turn;
      if (!only_reads(request) || (left.count() <= 0 && !another)) co_return failed(answer.error(), to.str());
      if (another) end = Steady::now() + patience;
    }
    if (left.count() <= 0) co_return no_leader(*s);
    // Between two leaders, or one that is just dying, or this one that is just getting ready.
    seen = co_await s->options.detector->changed(seen.turn, std::min(left, Millis(100)));
  }
}

/// Agents and followers keep their streams with the leader itself.
net::Response where_it_is(const Standby& s) {
  auto seen = s.options.detector->sighting();
  auto response = net::Response::message(503, "this master does not lead");
  if (seen.leader && seen.leader->marathon_port != 0 && seen.leader->address() != s.options.own) response.headers.set("X-Croft-Leader", seen.leader->address());
  return response;
}

asio::awaitable<net::Response> divert(std::shared_ptr<Standby> s, net::Request request) {
  if (is_link(request.path)) co_return where_it_is(*s);
  co_return co_await pass_on(s, std::move(request));
}

}  // namespace

void pass_on_to_leader(const std::shared_ptr<net::Router>& router, asio::any_io_executor pool, StandbyOptions options) {
  auto standby = std::make_shared<Standby>(router, std::move(pool), std::move(options));
  auto when = [standby](const net::Request& q) {
    if (standby->options.leading()) return false;
    return q.path.starts_with("/v2") || q.path.starts_with("/croft/v1/") || (q.path == "/ping" && q.headers.has("Via"));
  };
  router->divert(when, [standby](net::Request q) { return divert(standby, std::move(q)); });
}

}  // namespace croft::orchestrator
