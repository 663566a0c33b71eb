#pragma once
// Views in Marathon's JSON. Private to the Marathon face.

#include <functional>
#include <optional>
#include <string>

#include "base/json_writer.hpp"
#include "net/http.hpp"
#include "orchestrator/leader.hpp"

namespace croft::orchestrator {

/// What a client wants beside an app's definition and counts.
struct Embed { bool tasks = false, failure = false, stats = false, readiness = false; };
struct GroupEmbed { bool groups = true, apps = true, pods = true; Embed app; };

void write_app_info(JsonWriter& w, const View& view, const AppView& app, Embed embed);
/// As Marathon's clients know it. A task that drains is TASK_KILLING there: it is not one to send requests to.
void write_task(JsonWriter& w, const cluster::Task& task, const View& view, bool with_service_ports);
void write_stats(JsonWriter& w, const View& view, const AppView& app);   ///< taskStats
/// `both`: the action's name under "type" too, as the events of 2015 had it.
void write_step(JsonWriter& w, const Step& step, bool both);
void write_deployment(JsonWriter& w, const View& view, const Deployment& d);
void write_queue_item(JsonWriter& w, const View& view, const AppView& app, bool unused_offers);
void write_group(JsonWriter& w, const View& view, const std::string& path, const GroupEmbed& embed);
/// `hosts`: whether the hosts are shown, which are the whole farm's.
void write_overview(JsonWriter& w, const View& view, bool hosts = true);
/// The event's Marathon name and its JSON; nothing for events that Marathon does not have.
struct WireEvent { std::string type, data; };
std::vector<WireEvent> wire_events(const BusEvent& e);

net::Response deployed(const Accepted& accepted, int status = 200);
net::Response refused(const Refusal& refusal);

/// label selector: "a==b,c!=d,e in (f,g),h notin (i),j". Errors: invalid, Marathon's words.
Result<std::function<bool(const Labels&)>> parse_selector(std::string_view text);

}  // namespace croft::orchestrator
