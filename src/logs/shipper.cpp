#include "logs/shipper.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "logs/store/store.hpp"
#include "logs/tail.hpp"
#include "net/async.hpp"

namespace croft::logs {

namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;
using asio::ip::tcp;

namespace {

constexpr std::chrono::milliseconds look_every{150};
constexpr std::size_t bulk_bytes = 4u << 20, source_bytes = 1u << 20;
constexpr std::size_t input_queue_max = 16u << 20;       // bytes of TCP lines waiting; then the senders wait
constexpr std::size_t input_line_max = 1u << 20;
constexpr int input_connections_max = 1000;

std::string index_for(Wall at) {
  auto iso = to_iso8601(at);
  return fmt::format("logstash-{}.{}.{}", iso.substr(0, 4), iso.substr(5, 2), iso.substr(8, 2));
}

void append_action(std::string& out, std::string_view index, const std::string& id) {
  JsonWriter w;
  w.begin_object().key(id.empty() ? "index" : "create").begin_object().field("_index", index);
  if (!id.empty()) w.field("_id", id);
  w.end_object().end_object();
  out += std::move(w).take();
  out += '\n';
}

/// A line as a document: a JSON object is merged in, any other text is the message.
std::string document_of(const std::string& line, Wall at, const std::vector<std::pair<std::string_view, std::string>>& fields, Wall& time) {
  time = at;
  JsonWriter w;
  w.begin_object();
  std::string_view text = trim(line);
  auto parsed = text.starts_with('{') && text.ends_with('}') ? json::parse(text) : Result<json::value>(fail(Errc::invalid, ""));
  bool own_time = false, own_message = false;
  if (parsed && parsed->is_object()) {
    for (const auto& m : parsed->get_object()) {
      if (std::any_of(fields.begin(), fields.end(), [&](const auto& f) { return f.first == m.key(); })) continue;
      if (m.key() == "@timestamp") {
        auto given = m.value().is_string() ? from_iso8601(std::string_view(m.value().get_string())) : std::nullopt;
        if (!given) continue;
        time = *given;
        own_time = true;
      }
      own_message = own_message || m.key() == "message";
      w.key(m.key()).value(m.value());
    }
  }
  if (!own_time) w.field("@timestamp", to_iso8601(at));
  if (!own_message) w.field("message", line);
  for (const auto& [key, value] : fields) {
    if (auto number = key == "offset" ? to_int(value) : std::nullopt) w.field(key, *number);
    else w.field(key, value);
  }
  w.end_object();
  return std::move(w).take();
}

}  // namespace

struct Shipper::Impl : std::enable_shared_from_this<Shipper::Impl> {
  Impl(asio::any_io_executor p, ShipperOptions o, Metrics& metrics)
      : pool(p), strand(asio::make_strand(p)), options(std::move(o)), client(p), shipped(metrics.counter("croft_shipper_lines_total", "Lines sent to the log host.")),
        lost(metrics.counter("croft_shipper_lost_bytes_total", "Bytes that rotation took before they were sent.")) {}

  struct Source {
    LogSource about;
    Tail out, err;
    bool finished = false;
  };

  asio::awaitable<void> run() {
    auto self = shared_from_this();
    load();
    auto saved_at = std::chrono::steady_clock::now();
    while (!stopping) {
      auto list = co_await options.sources();
      refresh(list);
      bool more = co_await round();
      if (std::chrono::steady_clock::now() - saved_at > std::chrono::seconds(1)) save(), saved_at = std::chrono::steady_clock::now();
      if (!more && !stopping) co_await net::sleep_for(look_every);
    }
    save();
    ended = true;
  }

  void refresh(const std::vector<LogSource>& list) {
    std::map<std::string, bool> named;
    for (const auto& s : list) {
      named[s.task] = true;
      auto at = sources.find(s.task);
      if (at == sources.end()) {
        auto known = [&](const char* stream) {
          auto offset = offsets.find(s.task + "/" + stream);
          return offset == offsets.end() ? 0 : offset->second;
        };
        sources.emplace(s.task, Source{s, Tail(s.sandbox, "stdout", known("stdout")), Tail(s.sandbox, "stderr", known("stderr")), false});
      } else {
        at->second.about.ended = s.ended;
      }
    }
    // A task that the agent has forgotten is read to its end once more, then dropped.
    for (auto at = sources.begin(); at != sources.end();) {
      if (named.contains(at->first)) {
        ++at;
      } else if (!at->second.about.ended) {
        at->second.about.ended = true;
        ++at;
      } else if (at->second.finished) {
        offsets.erase(at->first + "/stdout");
        offsets.erase(at->first + "/stderr");
        at = sources.erase(at);
      } else {
        ++at;
      }
    }
  }

  /// Gathers, sends, and only then moves on. True when there is more to send.
  asio::awaitable<bool> round() {
    std::string body;
    std::map<std::string, std::uint64_t> next;
    std::size_t lines = 0;
    std::string inputs;
    {
      std::lock_guard lock(input_mutex);
      inputs.swap(input);
      lines += std::exchange(input_lines, 0);
    }
    body += inputs;
    for (auto& [task, s] : sources) {
      if (s.finished && s.about.ended) continue;
      bool any = false;
      for (auto* tail : {&s.out, &s.err}) {
        if (body.size() > bulk_bytes) break;
        auto stream = tail == &s.out ? "stdout" : "stderr";
        std::vector<Gap> gaps;
        auto found = tail->read(source_bytes, s.about.ended, gaps);
        for (const auto& gap : gaps) gap_record(body, s.about, stream, gap);
        for (const auto& line : found) {
          Wall time;
          auto source = fmt::format("{}/{}", task, stream);
          auto text = document_of(line.text, line.at, {{"app", s.about.app}, {"task", task}, {"host", options.host}, {"stream", stream}, {"offset", std::to_string(line.end)}}, time);
          append_action(body, index_for(time), make_shipped_id(source, line.end));
          body += text + "\n";
          next[source] = line.end;
          ++lines;
          any = true;
        }
      }
      s.finished = s.about.ended && !any;
    }
    if (body.empty()) co_return false;
    auto pause = std::chrono::milliseconds(100);
    while (!stopping && !co_await send(body)) {
      co_await net::sleep_for(pause);
      pause = std::min(pause * 2, std::chrono::milliseconds(5000));
    }
    if (stopping) co_return false;
    for (auto& [source, offset] : next) offsets[source] = offset;
    unsaved = true;
    shipped.add(lines);
    co_return body.size() >= bulk_bytes / 2;
  }

  void gap_record(std::string& body, const LogSource& s, std::string_view stream, const Gap& gap) {
    lost.add(gap.to - gap.from);
    auto now = system_now().wall;
    JsonWriter w;
    w.begin_object().field("@timestamp", to_iso8601(now)).field("message", fmt::format("{} bytes of {} were rotated away before they could be sent", gap.to - gap.from, stream));
    w.field("app", s.app).field("task", s.task).field("host", options.host).field("stream", stream).key("gap").begin_object().field("from", gap.from).field("to", gap.to).field("bytes", gap.to - gap.from);
    w.end_object().end_object();
    append_action(body, index_for(now), "");
    body += std::move(w).take() + "\n";
  }

  asio::awaitable<bool> send(const std::string& body) {
    if (options.targets.empty()) co_return false;
    auto to = options.targets[turn % options.targets.size()];
    net::Request request;
    request.method = "POST";
    request.target = "/_bulk";
    request.headers.set("Content-Type", "application/x-ndjson");
    request.body = body;
    auto answer = co_await client.request(to, std::move(request));
    if (answer && answer->status == 200) {
      told = false;
      co_return true;
    }
    if (!std::exchange(told, true)) log::warn("shipper", "target={} takes nothing, lines wait here: {}", to.str(), answer ? answer->body.substr(0, 200) : answer.error().context);
    ++turn;
    // A body that is refused as such would be refused for ever.
    if (answer && answer->status == 400) co_return log::error("shipper", "a bulk was refused and is dropped: {}", answer->body.substr(0, 300)), true;
    co_return false;
  }

  // --- JSON lines over TCP ---
  asio::awaitable<void> accept(std::shared_ptr<tcp::acceptor> listener) {
    auto self = shared_from_this();
    while (!stopping) {
      boost::system::error_code ec;
      auto own = asio::make_strand(pool);
      tcp::socket socket{asio::any_io_executor(own)};
      co_await listener->async_accept(socket, redirect_error(use_awaitable, ec));
      if (ec == asio::error::operation_aborted || !listener->is_open()) break;
      if (ec || connections >= input_connections_max) continue;
      auto life = receive(std::move(socket));
      net::spawn(own, "log input", std::move(life));
    }
  }

  asio::awaitable<void> receive(tcp::socket socket) {
    auto self = shared_from_this();
    ++connections;
    boost::system::error_code ec;
    auto peer = socket.remote_endpoint(ec).address().to_string();
    std::string text;
    auto buffer = asio::dynamic_buffer(text, input_line_max);
    while (!stopping) {
      auto n = co_await asio::async_read_until(socket, buffer, '\n', redirect_error(use_awaitable, ec));
      if (ec) break;
      std::string line(trim(std::string_view(text).substr(0, n)));
      buffer.consume(n);
      if (line.empty()) continue;
      Wall time;
      auto document = document_of(line, system_now().wall, {}, time);
      std::string piece;
      append_action(piece, index_for(time), "");
      piece += document + "\n";
      for (;;) {
        {
          std::lock_guard lock(input_mutex);
          if (input.size() < input_queue_max) {
            input += piece;
            ++input_lines;
            break;
          }
        }
        co_await net::sleep_for(std::chrono::milliseconds(20));
        if (stopping) break;
      }
    }
    --connections;
  }

  void load() {
    auto text = read_file(options.state, 64u << 20);
    if (!text) return;
    auto parsed = json::parse(*text);
    if (!parsed) return log::warn("shipper", "{}: {}", options.state.string(), parsed.error().context);
    for (const auto& m : json::members(*parsed, "offsets")) offsets[m.key()] = static_cast<std::uint64_t>(m.value().is_int64() ? m.value().get_int64() : 0);
  }

  void save() {
    if (!std::exchange(unsaved, false)) return;
    JsonWriter w;
    w.begin_object().field("format", 1).key("offsets").begin_object();
    for (const auto& [source, offset] : offsets) w.field(source, offset);
    w.end_object().end_object();
    if (auto ok = write_file_atomic(options.state, w.str(), 0640); !ok) log::warn("shipper", "{}", ok.error().context);
  }

  asio::any_io_executor pool;
  asio::strand<asio::any_io_executor> strand;
  ShipperOptions options;
  net::HttpClient client;
  std::map<std::string, Source> sources;               // strand
  std::map<std::string, std::uint64_t> offsets;        // strand
  std::mutex input_mutex;
  std::string input;                                   // input_mutex: bulk lines
  std::size_t input_lines = 0;                         // input_mutex
  std::shared_ptr<tcp::acceptor> acceptor;
  std::size_t turn = 0;
  bool told = false, unsaved = false;
  std::atomic<bool> stopping{false}, ended{false};
  std::atomic<int> connections{0};
  Counter &shipped, &lost;
};

Shipper::Shipper(asio::any_io_executor pool, ShipperOptions options, Metrics& metrics) : impl_(std::make_shared<Impl>(std::move(pool), std::move(options), metrics)) {}
Shipper::~Shipper() = default;

Status Shipper::start() {
  auto& i = *impl_;
  if (!i.options.input_address.empty()) {
    boost::system::error_code ec;
    tcp::endpoint endpoint(asio::ip::make_address(i.options.input_address, ec), i.options.input_port);
    i.acceptor = std::make_shared<tcp::acceptor>(i.pool);
    if (!ec) i.acceptor->open(endpoint.protocol(), ec);
    if (!ec) i.acceptor->set_option(tcp::acceptor::reuse_address(true), ec);
    if (!ec) i.acceptor->bind(endpoint, ec);
    if (!ec) i.acceptor->listen(128, ec);
    if (ec) return fail(Errc::io, "log input: bind {}:{}: {}", i.options.input_address, i.options.input_port, ec.message());
    auto loop = i.accept(i.acceptor);
    net::spawn(i.pool, "log input", std::move(loop));
  }
  auto life = i.run();
  net::spawn(i.strand, "shipper", std::move(life));
  return {};
}

asio::awaitable<void> Shipper::stop() {
  auto impl = impl_;
  impl->stopping = true;
  boost::system::error_code ec;
  if (impl->acceptor) impl->acceptor->close(ec);
  for (int i = 0; i < 400 && !impl->ended; ++i) co_await net::sleep_for(std::chrono::milliseconds(5));
}

}  // namespace croft::logs
