// Marathon's task paths.

#include <algorithm>
#include <set>

#include "base/json.hpp"
#include "base/text.hpp"
#include "orchestrator/marathon_face.hpp"
#include "orchestrator/marathon_json.hpp"
#include "secure/caller.hpp"
#include "orchestrator/problems.hpp"

namespace croft::orchestrator {

namespace {

using net::Request;
using net::Response;

bool wants_text(const Request& r) { return r.headers.get("Accept").find("text/plain") != std::string_view::npos; }

/// The form that the HAProxy bridge script of 2013 reads: one line a service port, tab separated.
std::string text_list(const View& view, const std::function<bool(const AppId&)>& wanted) {
  std::string out;
  view.apps.for_each([&](const AppId& id, const auto& app) {
    if (!wanted(id)) return;
    auto name = id.str().substr(1);
    std::replace_if(name.begin(), name.end(), [](char c) { return c == '/' || c == ' '; }, '_');
    auto host_of = [&](const cluster::Task& t) {
      auto at = t.spec.env.find("HOST");
      return at == t.spec.env.end() ? std::string() : at->second;
    };
    bool mapped = !app->app->networks.empty() && app->app->networks[0].mode != NetworkMode::host;
    for (std::size_t i = 0; i < std::max<std::size_t>(app->app->ports.size(), 1); ++i) {
      bool none = app->app->ports.empty();
      out += name + "\t" + (none ? " " : std::to_string(mapped ? app->app->ports[i].service_port : app->app->ports[i].port)) + "\t";
      for (const auto& id_of_task : *app->tasks) {
        const auto* task = view.tasks.find(id_of_task);
        if (!task || (*task)->status.state != TaskState::running) continue;
        if (none) out += host_of(**task) + " ";
        else if (i < (*task)->spec.ports.size()) out += fmt::format("{}:{}\t", host_of(**task), (*task)->spec.ports[i].host_port);
      }
      out += "\n";
    }
  });
  return out;
}

asio::awaitable<Response> app_tasks(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  auto id = path_id(r);
  bool group = id.str().ends_with("/*");
  auto prefix = group ? id.str().substr(0, id.str().size() - 1) : std::string();
  if (!group && !view->apps.find(id)) co_return no_app(id);
  auto wanted = [&](const AppId& app) { return group ? app.str().starts_with(prefix) : app == id; };
  if (group && prefix != "/") {
    bool known = false;
    view->apps.for_each([&](const AppId& app, const auto&) { known = known || wanted(app); });
    if (!known) co_return Response::message(404, fmt::format("Group '{}' does not exist", prefix.substr(0, prefix.size() - 1)));
  }
  if (wants_text(r)) co_return Response::text(text_list(*view, wanted));
  JsonWriter w;
  w.begin_object().key("tasks").begin_array();
  view->apps.for_each([&](const AppId& app, const auto& v) {
    if (!wanted(app)) return;
    for (const auto& task : *v->tasks)
      if (const auto* t = view->tasks.find(task); t && !is_terminal((*t)->status.state)) write_task(w, **t, *view, true);
  });
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> all_tasks(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  if (wants_text(r)) co_return Response::text(text_list(*view, [](const AppId&) { return true; }));
  auto states = r.query.all("status");
  for (auto& more : r.query.all("status[]")) states.push_back(std::move(more));
  JsonWriter w;
  w.begin_object().key("tasks").begin_array();
  view->tasks.for_each([&](const TaskId&, const auto& task) {
    auto state = task->status.state;
    if (is_terminal(state)) return;
    bool running = state == TaskState::running, staging = state == TaskState::staging || state == TaskState::starting;
    auto asked = [&](std::string_view s) { return (s == "running" && running) || (s == "staging" && staging); };
    if (states.empty() || std::any_of(states.begin(), states.end(), asked)) write_task(w, *task, *view, true);
  });
  w.end_array().end_object();
  co_return Response::json(std::move(w).take());
}

/// A kill is no change of intent: whether it may be is judged here, and the audit log told.
std::optional<Response> not_allowed(Face& face, const View& view, const Request& r, const std::vector<TaskId>& tasks) {
  if (!r.caller) return std::nullopt;
  AuditRecord record{0, {}, r.caller->who.str(), r.caller->source, r.method + " " + r.path, {}};
  for (const auto& id : tasks) {
    const auto* task = view.tasks.find(id);
    if (!task) continue;
    const auto& app = (*task)->spec.app.str();
    auto decision = secure::may(r.caller, secure::Verb::change, {secure::Kind::app, app});
    if (std::find(record.paths.begin(), record.paths.end(), app) == record.paths.end()) record.paths.push_back(app);
    if (decision.allowed) continue;
    record.done = false;
    record.reason = decision.reason;
    face.leader->note(std::move(record));
    return refused({{Errc::forbidden, decision.reason}, {}, {}, true});
  }
  if (!tasks.empty()) face.leader->note(std::move(record));
  return std::nullopt;
}

/// Kills; with scale also lowers the apps' instances, in a deployment.
asio::awaitable<Response> kill(FacePtr face, Request r, std::vector<TaskId> tasks, bool one) {
  auto view = co_await fresh_view(face, r);
  const auto* found = one && !tasks.empty() ? view->tasks.find(tasks[0]) : nullptr;
  if (one && !found) co_return Response::message(404, fmt::format("Task '{}' does not exist", tasks.empty() ? "" : tasks[0].str()));  // it has ended since it was looked for
  if (r.query.flag("scale") && r.query.flag("wipe")) co_return Response::message(400, "You cannot use scale and wipe at the same time.");
  if (r.query.flag("scale")) {
    Leader::Make make = [&](const Orchestrator& state, Now) -> std::expected<Intent, Refusal> {
      Intent intent;
      intent.force = r.query.flag("force");
      ask(intent, r);
      for (const auto& id : tasks) {
        const auto* task = view->tasks.find(id);
        const auto* app = task ? state.app((*task)->spec.app) : nullptr;
        if (!app || (*task)->goal != link::Goal::run) continue;  // one that is told to go already is no instance any more
        auto [at, fresh] = intent.apps.try_emplace(app->id, *app);
        if (at->second->instances > 0) --at->second->instances;
        intent.victims[app->id].push_back(id);
      }
      return intent;
    };
    auto done = co_await change(face, r, make);
    co_return done ? deployed(*done) : refused(done.error());
  }
  if (auto refusal = not_allowed(*face, *view, r, tasks)) co_return std::move(*refusal);
  auto done = co_await face->leader->kill_tasks(std::move(tasks));
  if (!done) co_return refused({std::move(done).error(), {}});
  auto& killed = *done;
  JsonWriter w;
  w.begin_object();
  if (one) {
    // It may have ended between our look at it and now; then this is what it was.
    w.key("task");
    write_task(w, killed.empty() ? **found : killed[0], *view, false);
  } else {
    w.key("tasks").begin_array();
    for (const auto& task : killed) write_task(w, task, *view, false);
    w.end_array();
  }
  w.end_object();
  co_return Response::json(std::move(w).take());
}

asio::awaitable<Response> kill_app_tasks(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  auto id = path_id(r);
  const auto* app = view->apps.find(id);
  if (!app) co_return no_app(id);
  auto host = r.query.get("host").value_or("*");
  std::vector<TaskId> tasks;
  for (const auto& task : *(*app)->tasks) {
    const auto* t = view->tasks.find(task);
    if (!t || is_terminal((*t)->status.state)) continue;
    auto at = (*t)->spec.env.find("HOST");
    if (host.empty() || host == "*" || (at != (*t)->spec.env.end() && at->second == host)) tasks.push_back(task);
  }
  if (tasks.empty() && r.query.flag("scale")) co_return Response::message(404, fmt::format("Path '{}' does not exist", id));
  auto job = kill(face, std::move(r), std::move(tasks), false);
  co_return co_await std::move(job);
}

asio::awaitable<Response> kill_app_task(FacePtr face, Request r) {
  auto view = co_await fresh_view(face, r);
  auto id = path_id(r);
  const auto* app = view->apps.find(id);
  if (!app) co_return no_app(id);
  TaskId task(r.params.at("task"));
  const auto* t = view->tasks.find(task);
  if (!t || (*t)->spec.app != id || is_terminal((*t)->status.state)) co_return Response::message(404, fmt::format("Task '{}' does not exist", task));
  std::vector<TaskId> tasks{task};
  auto job = kill(face, std::move(r), std::move(tasks), true);
  co_return co_await std::move(job);
}

/// Others' tasks are passed over as if they were not there, as Marathon did; that it was tried stands in the audit log.
void note_unseen(const Face& face, const View& seen, const Request& r, const json::value& body) {
  if (!r.caller) return;
  auto all = face.leader->view();
  AuditRecord record{0, {}, r.caller->who.str(), r.caller->source, r.method + " " + r.path, {}, false, "it names tasks of apps that are not this login's to see"};
  for (const auto& id : json::texts(body, "ids")) {
    const auto* task = seen.tasks.find(TaskId(id)) ? nullptr : all->tasks.find(TaskId(id));
    if (task && std::ranges::find(record.paths, (*task)->spec.app.str()) == record.paths.end()) record.paths.push_back((*task)->spec.app.str());
  }
  if (!record.paths.empty()) face.leader->note(std::move(record));
}

asio::awaitable<Response> delete_tasks(FacePtr face, Request r) {
  auto body = body_of(r, boost::json::kind::object);
  if (!body) co_return body.error();
  const auto* ids = json::find(*body, "ids");
  Problems problems;
  if (!ids || ids->is_null()) problems.shape("/ids", "error.path.missing");
  else if (!ids->is_array()) problems.shape("/ids", "error.expected.jsarray");
  else
    for (std::size_t i = 0; i < ids->get_array().size(); ++i)
      if (!ids->get_array()[i].is_string()) problems.shape(fmt::format("/ids({})", i), "error.expected.jsstring");
  if (problems.any()) co_return Response::json(problems.json(), 422);
  auto view = co_await fresh_view(face, r);
  note_unseen(*face, *view, r, *body);
  std::vector<TaskId> tasks;
  for (const auto& id : json::texts(*body, "ids")) {
    auto dot = id.find('.');
    if (dot == std::string::npos || dot == 0 || dot + 1 == id.size())
      co_return Response::message(400, fmt::format("Invalid task id '{}'. [Task id must have the form <app>.<id>]", id));
    const auto* task = view->tasks.find(TaskId(id));
    if (task && !is_terminal((*task)->status.state)) tasks.emplace_back(id);
  }
  auto job = kill(face, std::move(r), std::move(tasks), false);
  co_return co_await std::move(job);
}

}  // namespace

void add_task_routes(const FaceRoutes& on) {
  on("GET", "/v2/apps/{*id}/tasks", app_tasks);
  on("DELETE", "/v2/apps/{*id}/tasks", kill_app_tasks);
  on("DELETE", "/v2/apps/{*id}/tasks/{task}", kill_app_task);
  for (auto list : {"/v2/tasks", "/v2/tasks/"}) on("GET", list, all_tasks);
  on("POST", "/v2/tasks/delete", delete_tasks);
}

}  // namespace croft::orchestrator
