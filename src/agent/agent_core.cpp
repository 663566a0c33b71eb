#include "agent/agent_core.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::agent {

namespace {
constexpr std::size_t progress_max = 1000;
constexpr std::size_t statuses_max = 2000;  // in one report; the rest follows at once
}  // namespace

std::string AgentCore::new_uuid() {
  if (options_.seed == 0) return random_uuid();
  dice_ = dice_ * 6364136223846793005ull + 1442695040888963407ull;
  return fmt::format("{:016x}", dice_);
}

void AgentCore::adopt(link::HeldTask held) {
  auto id = held.spec.id;
  tasks_[id].held = std::move(held);
}

link::Registration AgentCore::registration(const link::AgentInfo& info) {
  if (life_.empty()) life_ = new_uuid();
  link::Registration r{info, membership_.id, membership_.cluster_id, membership_.epoch, membership_.commit, {}, life_, ++registrations_, membership_.lives};
  for (const auto& [id, entry] : tasks_) r.tasks.push_back(entry.held);
  return r;
}

void AgentCore::disconnected() {
  subscription_.clear();
  in_step_ = false;
  n_ = told_n_ = number_ = 0;
}

void AgentCore::work_in(const link::WantedTask& w, Decisions& out) {
  wanted_.insert(w.spec.id);
  auto [at, fresh] = tasks_.try_emplace(w.spec.id);
  auto& held = at->second.held;
  if (fresh) {
    if (w.goal == link::Goal::kill) {  // killed before it ever came here: nothing to start, its end is told
      held.spec = w.spec;
      held.goal = w.goal;
      held.status.task = w.spec.id;
      held.status.state = TaskState::killed;
      held.status.message = "killed before it was started";
      held.status.uuid = new_uuid();
      at->second.unacked.push_back({held.status, {}, {}});
      out.report = true;
      return;
    }
    held.spec = w.spec;
    held.status.task = w.spec.id;
    held.status.state = TaskState::staging;
    out.start.push_back(w.spec);
  }
  if (w.goal > held.goal) {  // goals only move forward
    held.goal = w.goal;
    held.draining_since = w.draining_since;
    if (!is_terminal(held.status.state)) out.goals.emplace_back(w.spec.id, w.goal);
  }
}

Result<Decisions> AgentCore::on_down(const link::Down& record, Now) {
  Decisions out;
  if (const auto* w = std::get_if<link::Welcome>(&record)) {
    if (!membership_.cluster_id.empty() && w->cluster_id != membership_.cluster_id)
      return fail(Errc::conflict, "the leader is of cluster {}, this agent of {}", w->cluster_id, membership_.cluster_id);
    if (w->epoch < membership_.epoch) return fail(Errc::conflict, "the leader's epoch {} is older than {}", w->epoch, membership_.epoch);
    if (w->commit < membership_.commit) return fail(Errc::conflict, "the leader's store ends at commit {}, this agent has heard of {}", w->commit, membership_.commit);
    Membership next{w->agent, w->cluster_id, w->epoch, w->commit, membership_.lives};
    out.persist = !(next == membership_);
    membership_ = next;
    subscription_ = w->subscription;
    epoch_ = w->epoch;
    heartbeat_ = w->heartbeat;
    in_step_ = false;
    n_ = told_n_ = number_ = 0;
    last_report_ = {};
    // The registration told how each task is now; what was to be told before that would take the leader back to it.
    for (auto& [id, entry] : tasks_) {
      if (entry.unacked.size() > 1) entry.unacked.erase(entry.unacked.begin(), std::prev(entry.unacked.end()));
      for (auto& p : entry.unacked) p.due = {}, p.wait = Millis(0);
    }
    out.report = true;
    return out;
  }
  auto epoch = std::visit([](const auto& r) { return r.epoch; }, record);
  if (subscription_.empty() || epoch != epoch_) return fail(Errc::conflict, "a record of epoch {} in a stream of epoch {}", epoch, epoch_);
  if (const auto* s = std::get_if<link::Snapshot>(&record)) {
    wanted_.clear();
    for (const auto& task : s->tasks) work_in(task, out);
    n_ = s->n;
    in_step_ = true;
    out.report = true;
  } else if (const auto* d = std::get_if<link::Delta>(&record)) {
    if (!in_step_ || d->n != n_ + 1) return fail(Errc::conflict, "delta {} after {}", d->n, n_);
    n_ = d->n;
    for (const auto& task : d->set) work_in(task, out);
    for (const auto& id : d->forget) {
      auto at = tasks_.find(id);
      if (at == tasks_.end() || !is_terminal(at->second.held.status.state)) continue;
      out.forget.push_back(id);
      tasks_.erase(at);
      wanted_.erase(id);
    }
  } else if (const auto* a = std::get_if<link::Ack>(&record)) {
    auto at = tasks_.find(a->task);
    if (at != tasks_.end() && !at->second.unacked.empty() && at->second.unacked.front().status.uuid == a->uuid) {
      at->second.unacked.pop_front();
      out.report = !at->second.unacked.empty();
    }
  } else if (const auto* secret = std::get_if<link::Secret>(&record)) {
    auto [at, fresh] = secrets_.try_emplace(secret->name);
    if (fresh || !(at->second == secret->value)) out.secrets.push_back(secret->name);
    at->second = secret->value;
  } else if (const auto* exec = std::get_if<link::Exec>(&record)) {
    out.exec.push_back(*exec);
  } else if (const auto* h = std::get_if<link::Heartbeat>(&record)) {
    if (in_step_ && h->n != n_) return fail(Errc::conflict, "the leader is at delta {}, this agent at {}", h->n, n_);
    if (h->commit > membership_.commit) membership_.commit = h->commit, out.persist = true;
    out.report = true;
  }
  return out;
}

void AgentCore::update(TaskStatus status, Now now) {
  auto at = tasks_.find(status.task);
  if (at == tasks_.end() || is_terminal(at->second.held.status.state)) return;
  auto& entry = at->second;
  status.uuid = new_uuid();
  if (!status.started_at) status.started_at = entry.held.status.started_at;
  if (!status.container_ip) status.container_ip = entry.held.status.container_ip;
  entry.held.status = status;
  // What is not sent yet is overtaken by newer news of the same state. That it ran is told also of a task that has ended since: a deployment may wait for it.
  if (entry.unacked.size() > 1 && entry.unacked.back().status.state == status.state) entry.unacked.pop_back();
  entry.unacked.push_back({std::move(status), now.mono, Millis(0)});
}

void AgentCore::progress(TaskId task, std::string text) {
  for (auto& p : progress_)
    if (p.task == task) {
      p.text = std::move(text);
      return;
    }
  if (progress_.size() < progress_max) progress_.push_back({std::move(task), std::move(text)});
}

std::optional<link::Report> AgentCore::next_report(Now now) {
  if (subscription_.empty() || !in_step_) return std::nullopt;
  link::Report r{membership_.id, subscription_, 0, epoch_, n_, {}, std::exchange(progress_, {})};
  for (auto& [id, entry] : tasks_) {
    if (entry.unacked.empty() || r.statuses.size() >= statuses_max) continue;
    auto& first = entry.unacked.front();
    if (first.wait.count() > 0 && now.mono < first.due) continue;
    first.wait = first.wait.count() == 0 ? options_.resend_first : std::min(first.wait * 2, options_.resend_max);
    first.due = now.mono + first.wait;
    r.statuses.push_back(first.status);
  }
  bool heartbeat_due = now.mono - last_report_ >= heartbeat_ / 2;
  if (r.statuses.empty() && r.progress.empty() && n_ == told_n_ && !heartbeat_due) return std::nullopt;
  told_n_ = n_;
  last_report_ = now.mono;
  r.number = ++number_;
  return r;
}

Mono AgentCore::next_due(Now now) const {
  auto due = std::max(last_report_ + heartbeat_ / 2, now.mono);
  for (const auto& [id, entry] : tasks_)
    if (!entry.unacked.empty()) due = std::min(due, entry.unacked.front().wait.count() == 0 ? now.mono : entry.unacked.front().due);
  return due;
}

Result<std::vector<SecretValue>> AgentCore::secrets_of(const TaskSpec& spec) const {
  std::vector<SecretValue> out;
  for (const auto& use : spec.secrets) {
    auto at = secrets_.find(use.secret);
    if (at == secrets_.end()) return fail(Errc::unavailable, "secret {}: the leader has not told of it yet", use.secret);
    if (at->second.version == 0) return fail(Errc::not_found, "secret {}: there is none of this name that the leader can read; croft secret set {} makes it", use.secret, use.secret);
    out.push_back(at->second);
  }
  return out;
}

const SecretValue* AgentCore::secret(const std::string& name) const {
  auto at = secrets_.find(name);
  return at == secrets_.end() ? nullptr : &at->second;
}

const link::HeldTask* AgentCore::task(const TaskId& id) const {
  auto at = tasks_.find(id);
  return at == tasks_.end() ? nullptr : &at->second.held;
}

std::vector<const link::HeldTask*> AgentCore::tasks() const {
  std::vector<const link::HeldTask*> out;
  for (const auto& [id, entry] : tasks_) out.push_back(&entry.held);
  return out;
}

}  // namespace croft::agent
