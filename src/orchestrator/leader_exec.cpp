// Commands inside tasks (`croft exec`): opened by a person who may, written into the audit log, told to the agent; then both sides bring and fetch bytes.

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "model/exec_frames.hpp"
#include "orchestrator/leader_impl.hpp"

namespace croft::orchestrator {

namespace {

constexpr Millis patience{2000};              // of one request that waits for bytes, or for room
constexpr Millis sweep_pause{500};
constexpr std::size_t shown_of_command = 200;  // bytes, in the audit log
constexpr std::size_t put_max = 128u << 10;

net::Response exec_answer(const Error& error) {
  int status = error.code == Errc::not_found ? 404 : error.code == Errc::forbidden ? 403 : error.code == Errc::conflict ? 409 : error.code == Errc::invalid ? 422 : 503;
  return net::Response::message(status, error.context);
}

std::string client_name(const net::Request& r) { return r.caller ? r.caller->who.str() : std::string(); }

/// A command for the audit log: its words' borders are seen, white space hides nothing, and what is left out is told.
std::string shown(const std::vector<std::string>& command) {
  JsonWriter w;
  w.begin_array();
  for (const auto& word : command) w.value(word);
  w.end_array();
  std::string out;
  for (char c : w.str())
    if (c != ' ' || out.empty() || out.back() != ' ') out += c;
  if (out.size() <= shown_of_command) return out;
  return fmt::format("{}… ({} bytes, sha256 {})", out.substr(0, shown_of_command), w.str().size(), hex(sha256(w.str())).substr(0, 16));
}

/// Errors: invalid, in words that name the field.
Result<std::vector<std::string>> command_of(const json::value& body) {
  const auto* given = json::find(body, "command");
  if (!given || !given->is_array() || given->get_array().empty()) return fail(Errc::invalid, "command: must be a list of one word or more");
  std::vector<std::string> words;
  std::size_t size = 0;
  for (const auto& word : given->get_array()) {
    if (!word.is_string()) return fail(Errc::invalid, "command: every word must be text");
    words.emplace_back(word.get_string());
    size += words.back().size() + 1;
    if (words.back().find('\0') != std::string::npos) return fail(Errc::invalid, "command: a word has a NUL character in it");
  }
  if (words[0].empty()) return fail(Errc::invalid, "command: the first word is empty");
  if (words.size() > exec::words_max) return fail(Errc::invalid, "command: more than {} words", exec::words_max);
  if (size > exec::command_max) return fail(Errc::invalid, "command: longer than {} bytes", exec::command_max);
  return words;
}

}  // namespace

/// What gives a host away is for admins, once policy allows it at all: a command in such a task would be as good as being given it.
static Status check_exec_rights(const secure::CallerPtr& caller, const std::string& app, const TaskId& task, bool admins_only) {
  auto decision = secure::may(caller, secure::Verb::change, {secure::Kind::exec, app});
  if (!decision.allowed) return fail(Errc::forbidden, "{}", decision.reason);
  if (admins_only && !secure::may(caller, secure::Verb::administer, {secure::Kind::app, app}).allowed)
    return fail(Errc::forbidden, "task {} has what policy gives to admins only, and so would a command in it", task);
  return {};
}

bool LeaderService::Impl::for_admins_only(const TaskSpec& spec) const {
  auto policy = policy_at(options.policy, spec.app.str(), false);
  return spec.docker ? !check_policy(*spec.docker, spec.volumes, policy).empty() : check_user(spec.user, policy).has_value();
}

asio::awaitable<Result<LeaderService::Impl::ExecOpened>> LeaderService::Impl::exec_on_strand(ExecOrder order) {
  auto self = shared_from_this();
  co_await lock();
  std::shared_ptr<void> locked(nullptr, [self](void*) { self->unlock(); });
  if (!leads || !term) co_return fail(Errc::unavailable, "this master does not lead");
  const auto* task = term->cluster.task(order.task);
  if (!task) co_return fail(Errc::not_found, "there is no task {}", order.task);
  auto now = system_now();
  auto app = task->spec.app.str();
  AuditRecord record;
  if (order.caller) record = {0, now.wall, order.caller->who.str(), order.caller->source, fmt::format("POST /croft/v1/exec {}: {}", order.task, shown(order.command)), {app}};
  bool admins_only = for_admins_only(task->spec);
  if (auto may = check_exec_rights(order.caller, app, order.task, admins_only); !may) {
    record.done = false;
    record.reason = may.error().context;
    note_on_strand(std::move(record));
    if (!secure::sees(order.caller, app)) co_return fail(Errc::not_found, "there is no task {}", order.task);
    co_return fail(std::move(may).error());
  }
  if (auto can = term->cluster.may_exec(order.task); !can) co_return fail(std::move(can).error());
  const auto* agent = term->cluster.agent(task->agent);
  ExecBoard::Order session{order.caller ? order.caller->who.str() : "", agent->id, agent->info.hostname, order.task, app, admins_only,
                           secure::may(order.caller, secure::Verb::administer, {secure::Kind::farm, {}}).allowed};
  auto epoch = term->term.epoch;
  auto host = session.host;
  auto opened = exec_board.open(std::move(session), now.mono);
  if (!opened) {
    record.done = false;
    record.reason = opened.error().context;
    if (order.caller) note_on_strand(std::move(record));
    co_return fail(std::move(opened).error());
  }
  // Closed again unless it has come to run.
  auto who = order.caller ? order.caller->who.str() : std::string();
  bool runs = false;
  std::shared_ptr<void> pending(nullptr, [self, name = *opened, who, &runs](void*) {
    if (!runs) self->exec_board.close(name, who);
  });
  if (order.caller) {
    coordination::Batch batch;
    record = term->audit.entry(std::move(record));
    term->audit.put(record, batch);
    auto number = co_await commit(std::move(batch));
    if (!number || !in_term(epoch)) co_return fail(Errc::unavailable, "it cannot be written into the audit log: {}", number ? "this master no longer leads" : number.error().context);
    keep_audit(std::move(record));
  }
  if (auto sent = term->cluster.exec({epoch, *opened, order.task, order.command, order.terminal}); !sent) co_return fail(std::move(sent).error());
  log::info("leader", "task={} session={} host={} who={} runs {}", order.task, *opened, host, who.empty() ? "-" : who, order.command[0].substr(0, 100));
  runs = true;
  turn(system_now());
  if (!std::exchange(exec_watched, true)) net::spawn(strand, "exec sessions", watch_exec(), self);
  co_return ExecOpened{*opened, host};
}

/// As long as there are sessions: those of the silent end.
asio::awaitable<void> LeaderService::Impl::watch_exec() {
  auto self = shared_from_this();
  while (!stopping && exec_board.sweep(system_now().mono) > 0) {
    exec_signal->notify();
    co_await net::sleep_for(sweep_pause);
  }
  exec_watched = false;
}

asio::awaitable<net::Response> LeaderService::Impl::open_exec(net::Request request) {
  auto self = shared_from_this();
  auto body = json::parse(request.body);
  if (!body) co_return net::Response::message(400, body.error().context);
  auto command = command_of(*body);
  if (!command) co_return exec_answer(command.error());
  auto terminal = json::text(*body, "terminal");
  if (!terminal.empty() && !exec::is_terminal(terminal)) co_return net::Response::message(422, "terminal: must be ROWSxCOLUMNS:TYPE, as in 24x80:xterm");
  ExecOrder order{TaskId(json::text(*body, "task")), std::move(*command), std::move(terminal), request.caller};
  if (order.task.empty()) co_return net::Response::message(422, "task: must be given");
  auto job = exec_on_strand(order);
  auto opened = co_await asio::co_spawn(strand, std::move(job), asio::use_awaitable);
  if (!opened) co_return exec_answer(opened.error());
  JsonWriter w;
  w.begin_object().field("session", opened->session).field("task", order.task).field("host", opened->host).end_object();
  co_return net::Response::json(std::move(w).take());
}

/// GET ?after=N and POST ?at=N of either side. A GET without anything to give, and a POST without room, wait a while.
asio::awaitable<net::Response> LeaderService::Impl::carry_exec(net::Request request, ExecBoard::Side side, std::string name) {
  auto self = shared_from_this();
  auto session = request.params["session"];
  bool puts = request.method == "POST";
  auto given = request.query.get(puts ? "at" : "after");
  auto number = to_int(given.value_or("0"));
  if (!number || *number < 0) co_return net::Response::message(422, fmt::format("{}: must be a number of bytes", puts ? "at" : "after"));
  auto at = static_cast<std::uint64_t>(*number);
  auto until = std::chrono::steady_clock::now() + patience;
  for (;;) {
    if (!leads) co_return net::Response::message(503, "this master does not lead");
    auto ticket = exec_signal->ticket();
    auto now = system_now().mono;
    auto left = std::chrono::ceil<Millis>(until - std::chrono::steady_clock::now());
    std::string out;
    bool done = false;
    if (puts) {
      auto end = exec_board.put(session, side, name, at, request.body, now);
      if (!end) co_return exec_answer(end.error());
      out = std::to_string(*end);
      done = *end == at + request.body.size();
      if (done && !request.body.empty()) exec_signal->notify();
    } else {
      auto taken = exec_board.take(session, side, name, at, now);
      if (!taken) co_return exec_answer(taken.error());
      if (taken->made_room) exec_signal->notify();
      done = !taken->bytes.empty();
      out = std::move(taken->bytes);
    }
    if (done || left.count() <= 0) {
      net::Response response;
      response.headers.set("Content-Type", puts ? "text/plain" : "application/octet-stream");
      response.headers.set("Cache-Control", "no-store");
      response.body = std::move(out);
      co_return response;
    }
    (void)co_await exec_signal->wait(ticket, left);
  }
}

asio::awaitable<net::Response> LeaderService::Impl::client_exec(net::Request request) {
  auto name = client_name(request);
  if (request.method == "DELETE") {
    if (!exec_board.close(request.params["session"], name)) co_return net::Response::message(404, "there is no such session: it is over, or another master leads");
    exec_signal->notify();
    co_return net::Response{.status = 204, .headers = {}, .body = {}, .stream = {}};
  }
  // Rights of now, and not of when it was opened.
  auto session = request.params["session"];
  auto order = exec_board.order(session, name);
  if (order && request.caller)
    if (auto may = check_exec_rights(request.caller, order->app, order->task, order->admins_only); !may) {
      exec_board.close(session, name);
      exec_signal->notify();
      AuditRecord record{0, {}, name, request.caller->source, fmt::format("{} /croft/v1/exec of {}, which is ended", request.method, order->task), {order->app}, false, may.error().context};
      auto told = [self = shared_from_this(), record] { self->note_on_strand(record); };
      co_await on_strand(told);
      co_return exec_answer(may.error());
    }
  co_return co_await carry_exec(std::move(request), ExecBoard::Side::client, std::move(name));
}

asio::awaitable<net::Response> LeaderService::Impl::agent_exec(net::Request request) {
  auto host = exec_board.host(request.params["session"]);
  if (!host) co_return net::Response::message(404, "there is no such session: it is over, or another master leads");
  if (auto ok = secure::check_speaks_for(request.caller, *host); !ok) co_return exec_answer(ok.error());
  auto name = request.params["id"];
  co_return co_await carry_exec(std::move(request), ExecBoard::Side::agent, std::move(name));
}

void LeaderService::add_exec_routes(net::Router& router) {
  auto impl = impl_;
  auto route = [&](std::string_view method, std::string_view pattern, asio::awaitable<net::Response> (Impl::*handle)(net::Request)) {
    router.on(method, pattern, [impl, handle](net::Request request) { return (impl.get()->*handle)(std::move(request)); });
  };
  route("POST", "/croft/v1/exec", &Impl::open_exec);
  for (auto method : {"GET", "POST", "DELETE"}) route(method, "/croft/v1/exec/{session}", &Impl::client_exec);
  for (auto method : {"GET", "POST"}) route(method, "/croft/v1/agents/{id}/exec/{session}", &Impl::agent_exec);
  for (auto pattern : {"/croft/v1/exec", "/croft/v1/exec/{session}", "/croft/v1/agents/{id}/exec/{session}"}) router.body_limit(pattern, put_max);
}

}  // namespace croft::orchestrator
