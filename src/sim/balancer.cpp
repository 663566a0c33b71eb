#include "sim/balancer.hpp"

#include <algorithm>

#include "model/catalog_json.hpp"
#include "sim/farm.hpp"

namespace croft::sim {

namespace {

constexpr Millis retry_min{50}, retry_max{2000}, silent_for{3000}, stream_patience{2000}, confirm_every{500}, save_every{1000};

}  // namespace

std::string Balancer::label() const { return farm_.net.name(node); }

void Balancer::boot() {
  farm_.net.start(node);
  follower = catalog::Follower();
  applied_.reset();
  applying_ = saving_ = false;
  pause_ = retry_min;
  for (const auto& [app, tasks] : rotation) unnamed_.insert(tasks.begin(), tasks.end());
  if (saved_) {
    if (auto ok = follower.restore(*saved_); !ok) return farm_.fail("C12", "a saved copy cannot be read: " + ok.error().context);
    farm_.probe(Probe::follower_restored);
    if (!confirms) carry_out();  // before it answers anybody; a HAProxy that runs knows more than the copy, and is left alone until a leader is heard
  }
  connect();
  confirm_loop();
}

void Balancer::crash() {
  farm_.net.stop(node);
  if (stream) stream->broken_at_reader = nullptr, farm_.net.close(stream);
  stream.reset();
  ++connection;
  if (confirms) return;  // its HAProxy knows more than the copy
  // What a DNS server had not written down by now it cannot know again.
  catalog::Follower copy;
  if (saved_ && !copy.restore(*saved_)) return;
  const auto& c = copy.content();
  std::erase_if(seen, [&](const auto& entry) {
    auto e = c.endpoints.find(entry.first);
    auto service = e == c.endpoints.end() ? c.services.end() : c.services.find(e->second.app);
    return service == c.services.end() || !e->second.serves(!service->second.health_checks.empty());
  });
}

// --- the stream ---

void Balancer::connect() {
  auto& f = farm_;
  auto mine = ++connection;
  heard_ = f.world.elapsed();
  auto to = master;
  auto after = follower.index();
  f.net.post(node, f.masters[to]->node, [&f, to, mine, who = index, after] { f.masters[to]->on_follow(who, mine, after); }, [this, mine] { on_refused(mine); });
  f.net.after(node, stream_patience, [this, mine] {
    if (!stream) on_refused(mine);
  });
  auto watch = std::make_shared<Work>();
  std::weak_ptr<Work> again = watch;
  *watch = [this, mine, again] {
    if (mine != connection) return;
    auto left = heard_ + silent_for - farm_.world.elapsed();
    if (left.count() <= 0) return leave(Millis(0));
    if (auto w = again.lock()) farm_.net.after(node, left, [w] { (*w)(); });
  };
  f.net.after(node, silent_for, [watch] { (*watch)(); });
}

void Balancer::on_refused(std::uint64_t of) {
  if (of == connection) leave(Millis(0));
}

/// The one that led last is asked first, and everybody before it waits.
void Balancer::leave(Millis at_least) {
  bool had = stream != nullptr;
  if (had) farm_.note("{} has no stream any more", label()), unfollowed = farm_.world.elapsed();
  if (stream) stream->broken_at_reader = nullptr, farm_.net.close(stream);
  stream.reset();
  auto mine = ++connection;
  asked_ = had ? 0 : asked_ + 1;
  if (!had) master = (master + 1) % farm_.masters.size();
  bool round = had || asked_ % farm_.masters.size() == 0;
  if (round) pause_ = had ? retry_min : std::min(pause_ * 2, retry_max);
  farm_.net.after(node, round ? std::max(at_least, pause_ / 2 + farm_.world.between(0, pause_.count() / 2)) : Millis(1), [this, mine] {
    if (mine == connection) connect();
  });
}

void Balancer::on_line(const PipePtr& pipe, std::uint64_t of, const std::shared_ptr<const std::string>& line) {
  auto& f = farm_;
  if (of != connection || (stream && stream != pipe)) return f.net.close(pipe);
  if (!stream) {
    f.note("{} follows {}", label(), f.net.name(f.masters[master]->node));
    followed = f.world.elapsed();
  }
  stream = pipe;
  heard_ = f.world.elapsed();
  auto record = catalog::decode_record(*line);
  if (!record) return f.fail("C12", "a catalog record does not decode: " + record.error().context);
  auto change = follower.apply(*record);
  if (!change) {
    f.probe(Probe::stream_gap);
    f.note("{} leaves the catalog of {}: {}", label(), f.net.name(f.masters[master]->node), change.error().context);
    return leave(Millis(0));
  }
  misled = misled || f.faults.bad_store;
  if (std::holds_alternative<catalog::Heartbeat>(*record)) return;
  unsaved_ = true;
  save();
  if (const auto* s = std::get_if<catalog::Snapshot>(&*record); s && follower.content().endpoints.size() > s->content.endpoints.size()) f.probe(Probe::catalog_kept_over_failover);
  if (f.has(Bug::confirmed_too_early)) applied_ = follower.index(), confirm();
  apply_later();
}

/// The data plane follows a moment later.
void Balancer::apply_later() {
  if (std::exchange(applying_, true)) return;
  farm_.net.after(node, farm_.world.between(2, 60), [this] {
    applying_ = false;
    carry_out();
  });
}

/// Places of an adopted HAProxy that the content has nobody for, as Keeper leaves them.
void Balancer::keep_unheard(const std::map<AppId, std::set<TaskId>>& old, const std::map<AppId, std::map<TaskId, AgentId>>& old_homes, const catalog::Doubt& doubt) {
  const auto& c = follower.content();
  for (const auto& [app, tasks] : old)
    for (const auto& id : tasks) {
      if (c.endpoints.contains(id) || !unnamed_.contains(id)) continue;
      if (!c.services.contains(app) || !doubt.may_serve_at(addresses_[id])) continue;
      farm_.probe(Probe::unheard_kept);
      rotation[app].insert(id);
      homes[app][id] = old_homes.at(app).at(id);
    }
}

void Balancer::carry_out() {
  const auto& c = follower.content();
  auto doubt = confirms && !farm_.has(Bug::doubt_ignored) ? follower.doubt() : catalog::Doubt();
  auto old = std::exchange(rotation, {});
  auto old_homes = std::exchange(homes, {});
  std::map<TaskId, std::uint32_t> open;
  for (const auto& [id, e] : c.endpoints) {
    auto service = c.services.find(e.app);
    if (service == c.services.end()) continue;
    unnamed_.erase(id);
    auto before = old.find(e.app);
    bool recalled = doubt.recalled.contains(id), had = before != old.end() && before->second.contains(id);
    if (recalled ? had : e.serves(!service->second.health_checks.empty())) {
      rotation[e.app].insert(id);
      homes[e.app][id] = e.agent;
      addresses_[id] = e.ip;
    } else if (e.draining) {
      auto told = open_.find(id);
      open[id] = told != open_.end() ? told->second : static_cast<std::uint32_t>(farm_.world.roll(4));
    }
  }
  keep_unheard(old, old_homes, doubt);
  for (const auto& [app, tasks] : old)
    for (const auto& id : tasks)
      if (confirms && !has(app, id)) farm_.judge.left_rotation(*this, app, id);
  std::erase_if(addresses_, [&](const auto& a) { return std::none_of(rotation.begin(), rotation.end(), [&](const auto& r) { return r.second.contains(a.first); }); });
  for (const auto& [app, tasks] : old)
    if (!rotation.contains(app)) farm_.note("{} has nobody left for {}, had {}", label(), app, tasks.begin()->str());
  open_ = std::move(open);
  applied_ = follower.index();
  if (stream && !farm_.faults.bad_store) misled = false;
  if (applied_) carried = std::max(carried, *applied_);
  confirm();
}

void Balancer::confirm() {
  if (!confirms || !stream || !applied_) return;
  auto& f = farm_;
  catalog::Confirmation c{{BalancerId(label()), label(), "10.0.2.1"}, *applied_, {}};
  for (const auto& [id, n] : open_)
    if (n > 0) c.open[id] = n;
  auto to = master;
  f.net.post(node, f.masters[to]->node, [&f, to, c = std::move(c)] { f.masters[to]->on_confirm(c, 0); });
}

void Balancer::confirm_loop() {
  farm_.net.after(node, confirm_every, [this] { confirm_loop(); });
  for (auto& [id, n] : open_)
    if (n > 0 && farm_.world.chance(0.7)) --n;
  confirm();
}

/// The first change is on disk at once, later ones at most once a second.
void Balancer::save() {
  if (std::exchange(saving_, true)) return;
  saved_ = follower.save();
  unsaved_ = false;
  farm_.net.after(node, save_every, [this] {
    saving_ = false;
    if (unsaved_) save();
  });
}

}  // namespace croft::sim
