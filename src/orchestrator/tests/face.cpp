#include "face.hpp"

#include <gtest/gtest.h>

#include "base/text.hpp"

namespace croft::orchestrator::test {

namespace asio = boost::asio;

std::shared_ptr<const View> FarmLeader::view() const {
  auto v = std::make_shared<View>();
  for (const auto* t : farm_.cluster().tasks()) v->tasks.set(t->spec.id, std::make_shared<cluster::Task>(*t));
  for (const auto* agent : farm_.cluster().agents()) v->agents.push_back(std::make_shared<cluster::Agent>(*agent));
  for (const auto& [id, app] : farm_.core().apps()) v->apps.set(id, std::make_shared<AppView>(farm_.core().view(id, farm_.now)));
  for (const auto& [id, d] : farm_.core().deployments()) v->deployments.push_back(d);
  v->group_version = farm_.core().group_version();
  v->cluster_id = "test";
  v->hostname = "master";
  v->leader = leads ? "10.0.0.1:8080" : "";
  v->made = farm_.now.wall;
  return v;
}

asio::awaitable<std::expected<Accepted, Refusal>> FarmLeader::change(Make make) {
  auto intent = make(farm_.core(), farm_.now);
  if (!intent) co_return std::unexpected(intent.error());
  auto done = farm_.change(std::move(*intent));
  if (!done) co_return std::unexpected(done.error());
  co_return Accepted{done->version, done->deployment, view()};
}

asio::awaitable<std::expected<std::vector<Step>, Refusal>> FarmLeader::rehearse(Make make) {
  auto intent = make(farm_.core(), farm_.now);
  if (!intent) co_return std::unexpected(intent.error());
  auto proposal = farm_.core().propose(*intent, farm_.now);
  if (!proposal) co_return std::unexpected(proposal.error());
  co_return proposal->steps;
}

asio::awaitable<Result<std::vector<cluster::Task>>> FarmLeader::kill_tasks(std::vector<TaskId> tasks) {
  std::vector<cluster::Task> out;
  for (const auto& id : farm_.core().kill_tasks(tasks, farm_.now)) out.push_back(*farm_.cluster().task(id));
  farm_.turn();
  co_return out;
}

asio::awaitable<bool> FarmLeader::reset_delay(AppId app) {
  bool queued = farm_.core().app(app) && farm_.core().view(app, farm_.now).queue;
  farm_.core().reset_delay(app);
  farm_.turn();
  co_return queued;
}

asio::awaitable<void> FarmLeader::read(std::function<void(const Orchestrator&, Now)> reader) {
  reader(farm_.core(), farm_.now);
  co_return;
}

asio::awaitable<std::optional<std::vector<BusEvent>>> FarmLeader::events_after(std::uint64_t, Millis) {
  if (events.empty()) co_return std::nullopt;
  co_return std::exchange(events, {});
}

Face::Face(Options options) : farm(options), leader(std::make_shared<FarmLeader>(farm)) {
  MarathonOptions o{.base_url = "http://10.0.0.1:8080", .leader = "10.0.0.1:8080", .policy = {.users = {"*"}}, .leader_wait = Millis(10)};
  add_marathon_routes(router_, leader, o);
  mark_refusals(router_, o);
}

net::Response Face::call(std::string method, std::string target, std::string body, net::Headers headers) {
  net::Request r;
  r.method = std::move(method);
  auto question = target.find('?');
  r.path = target.substr(0, question);
  if (question != std::string::npos) r.query = net::Query(std::string_view(target).substr(question + 1));
  r.target = std::move(target);
  r.body = std::move(body);
  r.headers = std::move(headers);
  r.peer = "192.0.2.1";
  auto work = router_.handle(std::move(r));
  auto answer = asio::co_spawn(io_, std::move(work), asio::use_future);
  io_.restart();
  io_.run();
  return answer.get();
}

json::value Face::ask(int status, std::string method, std::string target, std::string body) {
  auto what = method + " " + target + " " + body;
  auto answer = call(std::move(method), std::move(target), std::move(body));
  EXPECT_EQ(answer.status, status) << what << "\n" << answer.body;
  auto parsed = json::parse(answer.body);
  EXPECT_TRUE(parsed) << what << "\n" << answer.body;
  return parsed ? *parsed : json::value();
}

namespace {
struct Sink final : net::StreamWriter {
  asio::awaitable<bool> write(std::string chunk) override {
    text += chunk;
    co_return true;
  }
  [[nodiscard]] bool closed() const override { return false; }
  std::string text;
};
}  // namespace

std::string Face::stream(std::string target) {
  net::Headers headers;
  headers.set("Accept", "text/event-stream");
  auto answer = call("GET", std::move(target), {}, headers);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.get("Content-Type"), "text/event-stream;charset=UTF-8");
  if (!answer.stream) return "";
  auto sink = std::make_shared<Sink>();
  auto work = answer.stream(sink);
  auto done = asio::co_spawn(io_, std::move(work), asio::use_future);
  io_.restart();
  io_.run();
  done.get();
  return sink->text;
}

std::string at(const json::value& v, std::string_view path) {
  const json::value* now = &v;
  for (const auto& part : split(path, '.')) {
    if (now->is_array()) {
      auto i = to_int(part);
      if (!i || static_cast<std::size_t>(*i) >= now->get_array().size()) return "";
      now = &now->get_array()[static_cast<std::size_t>(*i)];
    } else {
      now = json::find(*now, part);
    }
    if (!now) return "";
  }
  return now->is_string() ? std::string(now->get_string()) : json::print(*now);
}

}  // namespace croft::orchestrator::test
