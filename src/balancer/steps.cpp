#include "balancer/steps.hpp"

#include <algorithm>

#include "balancer/render.hpp"
#include "base/text.hpp"

namespace croft::balancer {

namespace {

void change_slot(std::vector<std::string>& out, const std::string& server, const Slot& was, const Slot& is) {
  bool same = was.ip == is.ip && was.port == is.port && was.state == is.state;
  if (same) return;
  if (is.state == Slot::State::free) {
    if (was.state != Slot::State::free) out.push_back(fmt::format("set server {} state maint", server));
    return;
  }
  if (was.ip != is.ip || was.port != is.port) {
    // In maintenance first, so that no request goes to the new address under the old one's health.
    if (was.state != Slot::State::free) out.push_back(fmt::format("set server {} state maint", server));
    out.push_back(fmt::format("set server {} addr {} port {}", server, is.ip, is.port));
  }
  out.push_back(fmt::format("set server {} state {}", server, is.state == Slot::State::ready ? "ready" : is.state == Slot::State::drain ? "drain" : "maint"));
}

/// A place and its twin: the twin leaves before it and comes after it.
void change_place(std::vector<std::string>& out, const std::string& server, const std::string& twin, const Slot& was, const Slot& is) {
  bool stays = was.agrees && was.state == Slot::State::ready && is.state == Slot::State::ready && was.ip == is.ip && was.port == is.port;
  bool was_in = was.state == Slot::State::ready || !was.agrees, comes = is.state == Slot::State::ready && !stays;
  if (was_in && !stays) out.push_back(fmt::format("set server {} state maint", twin));
  change_slot(out, server, was, is);
  if (!comes) return;
  out.push_back(fmt::format("set server {} addr {} port {}", twin, is.ip, is.port));
  out.push_back(fmt::format("set server {} state ready", twin));
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> out;
  for (std::size_t at = 0; at < line.size();) {
    auto end = std::min(line.find_first_of(" \t\r", at), line.size());
    if (end > at) out.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

template <class F>
void each_line(std::string_view text, F&& f) {
  for (std::size_t at = 0; at < text.size();) {
    auto end = std::min(text.find('\n', at), text.size());
    f(text.substr(at, end - at));
    at = end + 1;
  }
}

}  // namespace

Steps steps_between(const Plan& has, const Plan& wanted) {
  Steps s;
  s.after = has;
  for (auto& [name, old] : s.after.backends) {
    auto at = wanted.backends.find(name);
    static const std::vector<Slot> none;
    const auto& slots = at == wanted.backends.end() ? none : at->second.slots;
    for (std::size_t i = 0; i < old.slots.size(); ++i) {
      static const Slot free;
      const auto& is = i < slots.size() ? slots[i] : free;
      auto server = fmt::format("{}/{}", name, server_name(i));
      if (old.last_resort) change_place(s.commands, server, fmt::format("{}/{}", name, twin_name(i)), old.slots[i], is);
      else change_slot(s.commands, server, old.slots[i], is);
      bool stays = is.state == Slot::State::ready && is.ip == old.slots[i].ip && is.port == old.slots[i].port;
      s.any_leaves = s.any_leaves || (old.slots[i].state == Slot::State::ready && !stays);
      old.slots[i] = is;
    }
    for (std::size_t i = old.slots.size(); i < slots.size(); ++i) s.all_placed = s.all_placed && slots[i].state == Slot::State::free;
  }
  return s;
}

Plan plan_seen(std::string_view text) {
  Plan plan;
  std::map<std::string, std::vector<Slot>> twins;
  each_line(text, [&](std::string_view line) {
    auto f = words_of(line);
    if (f.size() < 19 || f[0].starts_with('#') || !(f[3].starts_with('s') || f[3].starts_with('l'))) return;
    auto number = to_int(f[3].substr(1));
    auto admin = to_int(f[6]), port = to_int(f[18]);
    if (!number || *number < 1 || *number > 100'000 || !admin || !port) return;
    auto i = static_cast<std::size_t>(*number - 1);
    auto& slots = f[3].starts_with('l') ? twins[std::string(f[1])] : plan.backends[std::string(f[1])].slots;
    if (slots.size() <= i) slots.resize(i + 1);
    auto& slot = slots[i];
    constexpr std::int64_t forced_maint = 1, forced_drain = 8;
    bool maint = (*admin & forced_maint) != 0, unused = f[4] == "127.0.0.1" && *port == 1;
    if (maint && unused) return;
    slot.ip = f[4];
    slot.port = static_cast<std::uint16_t>(*port);
    slot.state = maint ? Slot::State::maint : (*admin & forced_drain) ? Slot::State::drain : Slot::State::ready;
  });
  for (auto& [name, b] : plan.backends) {
    b.name = name;
    auto seen = twins.find(name);
    if (seen == twins.end()) continue;
    b.last_resort = true;
    seen->second.resize(b.slots.size());
    for (std::size_t i = 0; i < b.slots.size(); ++i) {
      auto &slot = b.slots[i], &twin = seen->second[i];
      bool in = slot.state == Slot::State::ready;
      slot.agrees = in ? twin.state == Slot::State::ready && twin.ip == slot.ip && twin.port == slot.port : twin.state == Slot::State::free || twin.state == Slot::State::maint;
    }
  }
  return plan;
}

std::map<std::string, unsigned> sessions_seen(std::string_view csv) {
  std::map<std::string, unsigned> out;
  std::size_t address = 0;
  each_line(csv, [&](std::string_view line) {
    auto f = split(line, ',');
    if (f[0].starts_with('#')) address = static_cast<std::size_t>(std::find(f.begin(), f.end(), "addr") - f.begin());
    else if (f.size() > 4 && address < f.size()) out[f[0] + "/" + f[address]] += static_cast<unsigned>(to_int(f[4]).value_or(0) + to_int(f[2]).value_or(0));
  });
  return out;
}

std::vector<int> old_workers_seen(std::string_view text) {
  std::vector<int> out;
  bool old = false;
  each_line(text, [&](std::string_view line) {
    if (line.starts_with('#')) old = line.starts_with("# old workers");
    auto f = words_of(line);
    if (!old || f.size() < 2 || f[1] != "worker") return;
    if (auto pid = to_int(f[0]); pid && *pid > 1) out.push_back(static_cast<int>(*pid));
  });
  return out;
}

}  // namespace croft::balancer
