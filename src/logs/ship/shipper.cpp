#include "logs/shipper.hpp"

#include <boost/asio/strand.hpp>

#include <algorithm>
#include <atomic>
#include <map>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "logs/ship/batch.hpp"
#include "logs/ship/lines.hpp"
#include "logs/ship/log_input.hpp"
#include "logs/ship/tail.hpp"
#include "logs/store/ids.hpp"
#include "net/async.hpp"

namespace croft::logs {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::milliseconds pause_first{100}, pause_asked_max{30'000};
constexpr int unnamed_looks = 20;
constexpr std::size_t bulk_bytes = 4u << 20, source_bytes = 1u << 20, input_bytes = 2u << 20;

}  // namespace

struct Shipper::Impl : std::enable_shared_from_this<Shipper::Impl> {
  Impl(asio::any_io_executor p, ShipperOptions o, Metrics& metrics)
      : pool(p), strand(asio::make_strand(p)), options(std::move(o)), client(p), spool(options.spool / "input"), input(std::make_shared<LogInput>(p, options.host, spool, metrics)),
        shipped(metrics.counter("croft_shipper_lines_total", "Lines sent to the log host.")),
        lost(metrics.counter("croft_shipper_lost_bytes_total", "Bytes of lines that were gone before they could be sent.")),
        refused(metrics.counter("croft_shipper_refused_lines_total", "Lines that the log host refused for good.")),
        spooled(metrics.gauge("croft_shipper_spool_bytes", "What waits in the spool.")) {}

  struct Source {
    LogSource about;
    Tail out, err;
    bool finished = false;
    int unnamed = 0;  // looks in a row in which the agent did not know it
  };

  /// Without a stream nothing but a new one can come, which may be noticed a little later.
  [[nodiscard]] std::chrono::milliseconds pause() const { return sources.empty() ? 2 * options.look_every : options.look_every; }

  // --- which streams there are, and what must not be lost of them ---

  asio::awaitable<void> tend() {
    auto self = shared_from_this();
    for (int looks = 1; !stopping; ++looks) {
      auto list = co_await options.sources();
      refresh(list);
      // Known on the disk before anything of it is: while the log host is away, nothing else would write it down.
      if (std::exchange(new_source, false)) save();
      if (looks == unnamed_looks) clean_spool();
      for (auto& [task, s] : sources) {
        s.out.keep(offset_of(task + "/stdout"));
        s.err.keep(offset_of(task + "/stderr"));
      }
      bound_spool();
      co_await net::sleep_for(pause());
    }
    --running;
  }

  std::uint64_t offset_of(const std::string& source) const {
    auto at = offsets.find(source);
    return at == offsets.end() ? 0 : at->second;
  }

  void add_source(const LogSource& s) {
    auto folder = options.spool.empty() ? std::filesystem::path() : options.spool / "tasks" / s.task;
    sources.emplace(s.task, Source{s, Tail(s.sandbox, "stdout", folder, offset_of(s.task + "/stdout")), Tail(s.sandbox, "stderr", folder, offset_of(s.task + "/stderr")), false, 0});
    unsaved = new_source = true;
  }

  void refresh(const std::vector<LogSource>& list) {
    std::map<std::string, bool> named;
    for (const auto& s : list) {
      named[s.task] = true;
      if (done.contains(s.task)) continue;
      auto at = sources.find(s.task);
      if (at == sources.end()) add_source(s);
      else at->second.about.ended = s.ended;
    }
    std::erase_if(done, [&](const auto& task) { return !named.contains(task); });
    // A task that the agent has forgotten is read to its end once more, then dropped.
    std::set<std::string> unshipped;
    for (auto at = sources.begin(); at != sources.end();) {
      auto& s = at->second;
      s.unnamed = named.contains(at->first) ? 0 : s.unnamed + 1;
      if (s.unnamed >= unnamed_looks) s.about.ended = true;  // not at once: an agent that just started may not have listed it yet
      if (!(s.about.ended && s.finished)) {
        unshipped.insert(s.about.sandbox);
        ++at;
        continue;
      }
      if (named.contains(at->first)) done.insert(at->first);
      release_shipped(at->first, s);
      offsets.erase(at->first + "/stdout");
      offsets.erase(at->first + "/stderr");
      at = sources.erase(at);
      unsaved = true;
    }
    if (options.unshipped) options.unshipped->set(std::move(unshipped));
  }

  /// Past the bound the oldest goes, whose ever it is. The gap is recorded where it is met.
  void bound_spool() {
    for (;;) {
      auto sum = spool.bytes();
      Tail* oldest = nullptr;
      std::int64_t at = INT64_MAX;
      for (auto& [task, s] : sources)
        for (auto* tail : {&s.out, &s.err})
          if (auto kept = tail->oldest_kept()) {
            sum += tail->kept_bytes();
            if (kept->at < at) at = kept->at, oldest = tail;
          }
      spooled.set(static_cast<double>(sum));
      if (sum <= options.spool_bytes) return;
      if (!std::exchange(told_full, true)) log::error("shipper", "the spool holds {} bytes and is full: the oldest lines are dropped", sum);
      if (auto waiting = spool.oldest(); !oldest || (waiting && *waiting < at)) {
        auto dropped = spool.drop_oldest();
        if (!dropped) return;
        lost.add(dropped->to - dropped->from);
        if (dropped->to > dropped->from) input->tell_gap(dropped->source, dropped->from, dropped->to);
      } else {
        oldest->drop_oldest_kept();
      }
    }
  }

  // --- sending ---

  asio::awaitable<void> run() {
    auto self = shared_from_this();
    auto saved_at = std::chrono::steady_clock::now();
    while (!stopping) {
      Batch batch;
      std::map<std::string, std::uint64_t> next;
      gather(batch, next);
      bool much = batch.bytes() >= source_bytes / 2;  // one source alone that is behind may be all there is
      if (!batch.empty() && co_await deliver(batch)) {
        for (auto& [source, offset] : next) acknowledge(source, offset);
        unsaved = true;
      }
      if (std::chrono::steady_clock::now() - saved_at > options.save_every) save(), saved_at = std::chrono::steady_clock::now();
      if (!much && !stopping) co_await net::sleep_for(pause());
    }
    save();
    --running;
  }

  void gather(Batch& batch, std::map<std::string, std::uint64_t>& next) {
    for (auto& line : spool.read(input_bytes)) {
      batch.add(line.index, make_shipped_id(line.source, line.end), line.document);
      next[line.source] = line.end;
    }
    // Round robin: whoever was left out last time comes first.
    auto at = sources.upper_bound(last_read);
    for (std::size_t i = 0; i < sources.size(); ++i, ++at) {
      if (at == sources.end()) at = sources.begin();
      if (batch.bytes() > bulk_bytes) break;
      last_read = at->first;
      if (!at->second.finished || !at->second.about.ended) read_source(at->first, at->second, batch, next);
    }
  }

  void read_source(const std::string& task, Source& s, Batch& batch, std::map<std::string, std::uint64_t>& next) {
    bool any = false, ended = s.about.ended;
    for (auto* tail : {&s.out, &s.err}) {
      std::string stream = tail == &s.out ? "stdout" : "stderr";
      auto source = fmt::format("{}/{}", task, stream);
      LineContext context;
      context.fields = {{"app", s.about.app}, {"task", task}, {"host", options.host}, {"stream", stream}};
      std::vector<Gap> gaps;
      auto looked = system_now().wall;
      auto found = tail->read(source_bytes, ended, gaps);
      for (const auto& gap : gaps) {
        lost.add(gap.to - gap.from);
        auto now = system_now().wall;
        batch.add(index_for(now), fmt::format("gap:{}:{}", source, gap.from), gap_document(context.fields, "rotation or the spool's bound took them before they could be sent", gap.from, gap.to, now));
        next[source] = gap.to;
        any = true;
      }
      for (const auto& line : found) {
        context.at = may_be_true(line.at, looked) ? line.at : looked;  // times lie in the sandbox, where a task can write them anew
        context.cut = line.cut;
        context.offset = static_cast<std::int64_t>(line.end);
        auto document = document_of(line.text, context);
        batch.add(index_for(document.at), make_shipped_id(source, line.end), document.json);
        next[source] = line.end;
        any = true;
      }
    }
    s.finished = ended && !any;
  }

  void acknowledge(const std::string& source, std::uint64_t offset) {
    if (source.starts_with("input/")) {
      spool.release(source, offset);
      offsets[source] = offset;
      if (!spool.holds(source)) offsets.erase(source);
      return;
    }
    if (sources.contains(source.substr(0, source.rfind('/')))) offsets[source] = offset;
  }

  void release_shipped(const std::string& task, Source& s) {
    s.out.release(offset_of(task + "/stdout"));
    s.err.release(offset_of(task + "/stderr"));
  }

  /// Until all of it is stored or refused for good; false when it was told to stop before.
  asio::awaitable<bool> deliver(Batch& batch) {
    auto pause = pause_first;
    while (!stopping) {
      if (options.targets.empty()) {
        co_await net::sleep_for(options.pause_max);
        continue;
      }
      auto to = options.targets[turn % options.targets.size()];
      net::Request request;
      request.method = "POST";
      request.target = batch.target();
      request.headers.set("Content-Type", "application/x-ndjson");
      request.body = batch.body();
      auto answer = co_await client.request(to, std::move(request));
      auto verdict = batch.answered(answer ? answer->status : 0, answer ? answer->body : answer.error().context);
      shipped.add(verdict.stored);
      refused.add(verdict.refused);
      if (verdict.refused > 0) log::error("shipper", "target={} refused {} lines for good: {}", to.str(), verdict.refused, verdict.reason);
      if (!verdict.again) {
        if (std::exchange(told_away, false)) log::info("shipper", "target={} takes lines again", to.str());
        told_full = false;
        co_return true;
      }
      if (!verdict.wait) continue;
      if (!std::exchange(told_away, true)) log::warn("shipper", "target={} takes nothing, lines wait here: {}", to.str(), verdict.reason);
      auto asked = answer ? to_int(trim(answer->headers.get("Retry-After"))) : std::nullopt;
      co_await net::sleep_for(asked ? std::clamp(std::chrono::milliseconds(*asked * 1000), pause_first, pause_asked_max) : pause);
      pause = std::min(pause * 2, options.pause_max);
      if (!asked) ++turn;
    }
    co_return false;
  }

  // --- what survives a restart ---

  void load() {
    auto text = read_file(options.state, 64u << 20);
    if (!text) return;
    auto parsed = json::parse(*text);
    if (!parsed) return log::warn("shipper", "{}: {}; every line that is still there is sent again, and known ones are refused as such", options.state.string(), parsed.error().context);
    for (const auto& m : json::members(*parsed, "offsets")) offsets[m.key()] = static_cast<std::uint64_t>(m.value().is_int64() ? m.value().get_int64() : 0);
    for (const auto& m : json::members(*parsed, "sources"))  // whatever the agent has forgotten meanwhile
      add_source({m.key(), json::text(m.value(), "app"), json::text(m.value(), "sandbox"), false});
  }

  void save() {
    if (!std::exchange(unsaved, false)) return;
    JsonWriter w;
    w.begin_object().field("format", 1).key("offsets").begin_object();
    for (const auto& [source, offset] : offsets) w.field(source, offset);
    w.end_object().key("sources").begin_object();
    for (const auto& [task, s] : sources) w.key(task).begin_object().field("app", s.about.app).field("sandbox", s.about.sandbox).end_object();
    w.end_object().end_object();
    auto ok = write_file_atomic(options.state, w.str(), 0640);
    if (!ok && !told_unsaved) log::warn("shipper", "{}", ok.error().context);
    told_unsaved = !ok;
    if (!ok) unsaved = true;
    // Only now: after a crash reading goes on where the file says. On a full disk it cannot be written, and room is what is needed.
    for (auto& [task, s] : sources) release_shipped(task, s);
  }

  Status start() {
    load();
    if (!options.spool.empty()) {
      if (auto ok = spool.open(offsets); !ok) return ok;
      std::erase_if(offsets, [&](const auto& o) { return o.first.starts_with("input/") && !spool.holds(o.first); });
    }
    for (const auto& address : options.input_addresses)
      if (auto ok = input->listen(address, options.input_port); !ok) return ok;
    running = 2;
    auto loop = run(), care = tend();
    net::spawn(strand, "shipper", std::move(loop), shared_from_this());
    net::spawn(strand, "shipper", std::move(care), shared_from_this());
    return {};
  }

  /// Second names of tasks that are finished. Not before the agent had time to name those that are not, should our state be lost.
  void clean_spool() {
    std::error_code ec;
    if (options.spool.empty()) return;
    for (const auto& entry : std::filesystem::directory_iterator(options.spool / "tasks", ec))
      if (!sources.contains(entry.path().filename().string())) {
        std::error_code failed;
        std::filesystem::remove_all(entry.path(), failed);
      }
  }

  asio::any_io_executor pool;
  asio::strand<asio::any_io_executor> strand;
  ShipperOptions options;
  net::HttpClient client;
  InputSpool spool;
  std::shared_ptr<LogInput> input;
  std::map<std::string, Source> sources;               // strand
  std::set<std::string> done;                          // strand: finished, and still named by the agent
  std::map<std::string, std::uint64_t> offsets;        // strand: what the log host has
  std::string last_read;                               // strand
  std::size_t turn = 0;
  bool told_away = false, told_full = false, told_unsaved = false, unsaved = false, new_source = false;
  std::atomic<bool> stopping{false};
  std::atomic<int> running{0};
  Counter &shipped, &lost, &refused;
  Gauge& spooled;
};

Shipper::Shipper(asio::any_io_executor pool, ShipperOptions options, Metrics& metrics) : impl_(std::make_shared<Impl>(std::move(pool), std::move(options), metrics)) {}
Shipper::~Shipper() = default;

Status Shipper::start() { return impl_->start(); }
std::uint16_t Shipper::input_port() const { return impl_->input->port(); }

asio::awaitable<void> Shipper::stop() {
  auto impl = impl_;
  impl->stopping = true;
  impl->input->stop();
  for (int i = 0; i < 400 && impl->running > 0; ++i) co_await net::sleep_for(std::chrono::milliseconds(5));
}

}  // namespace croft::logs
