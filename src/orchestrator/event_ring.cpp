#include "orchestrator/event_ring.hpp"

#include <utility>

namespace croft::orchestrator {

namespace {

constexpr std::size_t entry = 64, object = 1024;  // what stands around a text, and an app's or task's fields of a fixed size

std::size_t weight(const Labels& texts) {
  std::size_t out = 0;
  for (const auto& [name, value] : texts) out += name.size() + value.size() + entry;
  return out;
}

std::size_t weight(const std::optional<std::string>& cmd, const std::optional<std::vector<std::string>>& args) {
  auto out = cmd ? cmd->size() : 0;
  if (args)
    for (const auto& word : *args) out += word.size() + entry;
  return out;
}

std::size_t weight(const std::vector<Artifact>& fetch) {
  std::size_t out = 0;
  for (const auto& artifact : fetch) out += artifact.uri.size() + artifact.dest_path.size() + 2 * entry;
  return out;
}

std::size_t weight(const boost::json::value& kept) {
  std::size_t out = entry;
  if (const auto* text = kept.if_string()) out += text->size();
  if (const auto* list = kept.if_array())
    for (const auto& v : *list) out += weight(v);
  if (const auto* fields = kept.if_object())
    for (const auto& field : *fields) out += field.key().size() + weight(field.value());
  return out;
}

std::size_t weight(const App& app) { return object + weight(app.env) + weight(app.labels) + weight(app.cmd, app.args) + weight(app.fetch) + weight(app.kept); }

}  // namespace

std::size_t weight(const BusEvent& event, bool shared) {
  auto out = sizeof(BusEvent) + event.text.size() + event.origin.size();
  if (event.definition) out += weight(*event.definition);
  if (event.task) out += object + weight(event.task->spec.env) + weight(event.task->spec.labels) + weight(event.task->spec.cmd, event.task->spec.args) + weight(event.task->spec.fetch);
  if (!event.deployment || shared) return out;
  for (const auto* apps : {&event.deployment->original, &event.deployment->target})
    for (const auto& [id, app] : *apps) out += entry + (app ? weight(*app) : 0);
  return out;
}

void EventRing::push(BusEvent event) {
  // Events of one deployment share its definitions, and go one after the other.
  bool shared = !events_.empty() && event.deployment && events_.back().event.deployment == event.deployment;
  auto bytes = weight(event, shared);
  events_.push_back({std::move(event), bytes});
  bytes_ += bytes;
  while (events_.size() > 1 && (events_.size() > count_max || bytes_ > bytes_max)) bytes_ -= events_.front().bytes, events_.pop_front();
}

std::optional<std::vector<BusEvent>> EventRing::after(std::uint64_t sequence) const {
  std::vector<BusEvent> out;
  if (events_.empty() || events_.back().event.sequence <= sequence) return out;
  if (events_.front().event.sequence > sequence + 1) return std::nullopt;
  for (auto i = static_cast<std::size_t>(sequence + 1 - events_.front().event.sequence); i < events_.size(); ++i) out.push_back(events_[i].event);
  return out;
}

}  // namespace croft::orchestrator
