// taskStats: how long an app's tasks have been up, by what they were started with.

#include <algorithm>
#include <vector>

#include "orchestrator/marathon_json.hpp"

namespace croft::orchestrator {

namespace {

struct Sums {
  std::uint32_t staged = 0, running = 0, healthy = 0, unhealthy = 0;
  std::vector<double> seconds;

  void add(const cluster::Task& task, Wall now) {
    auto state = task.status.state;
    staged += state == TaskState::staging || state == TaskState::starting;
    if (state != TaskState::running) return;
    ++running;
    if (task.status.healthy) ++(*task.status.healthy ? healthy : unhealthy);
    if (task.status.started_at) seconds.push_back(std::max(0.0, to_seconds(now - *task.status.started_at)));
  }
};

void write_sums(JsonWriter& w, std::string_view key, Sums s) {
  if (s.staged + s.running == 0) return;
  w.key(key).begin_object().key("stats").begin_object().key("counts").begin_object();
  w.field("staged", s.staged).field("running", s.running).field("healthy", s.healthy).field("unhealthy", s.unhealthy).end_object();
  if (!s.seconds.empty()) {
    std::sort(s.seconds.begin(), s.seconds.end());
    double sum = 0;
    for (auto n : s.seconds) sum += n;
    auto middle = s.seconds.size() / 2;
    auto median = s.seconds.size() % 2 ? s.seconds[middle] : (s.seconds[middle - 1] + s.seconds[middle]) / 2;
    w.key("lifeTime").begin_object().field("averageSeconds", sum / static_cast<double>(s.seconds.size())).field("medianSeconds", median).end_object();
  }
  w.end_object().end_object();
}

}  // namespace

void write_stats(JsonWriter& w, const View& view, const AppView& app) {
  Sums all, latest, outdated, scaled;
  for (const auto& id : *app.tasks) {
    const auto* found = view.tasks.find(id);
    if (!found || is_terminal((*found)->status.state)) continue;
    const auto& task = **found;
    all.add(task, view.made);
    (task.spec.app_version >= app.app->last_config_change ? latest : outdated).add(task, view.made);
    if (to_iso8601(task.staged_at) >= app.app->last_scaling) scaled.add(task, view.made);
  }
  w.key("taskStats").begin_object();
  write_sums(w, "startedAfterLastScaling", std::move(scaled));
  write_sums(w, "withLatestConfig", std::move(latest));
  write_sums(w, "withOutdatedConfig", std::move(outdated));
  write_sums(w, "totalSummary", std::move(all));
  w.end_object();
}

}  // namespace croft::orchestrator
