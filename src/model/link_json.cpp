#include "model/link_json.hpp"

#include "base/text.hpp"
#include "model/json_parts.hpp"

namespace croft::link {

using namespace croft::wire;

namespace {

template <class T>
void write_task(JsonWriter& w, const T& t) {  // HeldTask and WantedTask, less the status
  w.key("spec");
  write(w, t.spec);
  if (t.goal != Goal::run) w.field("goal", static_cast<int>(t.goal));
  if (t.draining_since) write_wall(w, "draining_ms", *t.draining_since);
}

template <class T>
Status read_task(const json::value& v, T& into) {
  const auto* spec = json::find(v, "spec");
  if (!spec) return fail(Errc::invalid, "task: 'spec' is missing");
  auto read = spec_from(*spec);
  if (!read) return fail(std::move(read).error());
  into.spec = std::move(*read);
  into.goal = enum_from(v, "goal", Goal::kill);
  into.draining_since = optional_wall_from(v, "draining_ms");
  return {};
}

void write_wanted(JsonWriter& w, std::string_view key, const std::vector<WantedTask>& tasks) {
  w.key(key).begin_array();
  for (const auto& t : tasks) {
    w.begin_object();
    write_task(w, t);
    w.end_object();
  }
  w.end_array();
}

Result<std::vector<WantedTask>> wanted_from(const json::value& v, std::string_view key) {
  std::vector<WantedTask> out;
  for (const auto& t : json::list(v, key)) {
    if (auto ok = read_task(t, out.emplace_back()); !ok) return fail(std::move(ok).error());
  }
  return out;
}

struct DownWriter {
  JsonWriter& w;
  void operator()(const Welcome& r) {
    w.field("type", "welcome").field("epoch", r.epoch).field("commit", r.commit).field("cluster_id", r.cluster_id);
    w.field("subscription", r.subscription).field("agent", r.agent).field("heartbeat_ms", r.heartbeat.count());
  }
  void operator()(const Snapshot& r) {
    w.field("type", "snapshot").field("epoch", r.epoch).field("n", r.n);
    write_wanted(w, "tasks", r.tasks);
  }
  void operator()(const Delta& r) {
    w.field("type", "delta").field("epoch", r.epoch).field("n", r.n);
    write_wanted(w, "set", r.set);
    write_ids(w, "forget", r.forget);
  }
  void operator()(const Ack& r) { w.field("type", "ack").field("epoch", r.epoch).field("task", r.task).field("uuid", r.uuid); }
  void operator()(const Secret& r) {
    w.field("type", "secret").field("epoch", r.epoch).field("name", r.name).field("version", r.value.version).field("value", base64_encode(r.value.value));
  }
  void operator()(const Exec& r) {
    w.field("type", "exec").field("epoch", r.epoch).field("session", r.session).field("task", r.task);
    if (!r.terminal.empty()) w.field("terminal", r.terminal);
    w.key("command").begin_array();
    for (const auto& word : r.command) w.value(word);
    w.end_array();
  }
  void operator()(const Heartbeat& r) { w.field("type", "heartbeat").field("epoch", r.epoch).field("n", r.n).field("commit", r.commit); }
};

std::uint64_t natural(const json::value& v, std::string_view key) { return static_cast<std::uint64_t>(json::integer(v, key)); }

AgentInfo info_from(const json::value& v) {
  AgentInfo i;
  i.hostname = json::text(v, "hostname");
  i.ip = json::text(v, "ip");
  i.port = static_cast<std::uint16_t>(json::integer(v, "port", 5051));
  i.attributes = labels_from(v, "attributes");
  i.total = resources_from(v, "total");
  if (auto ports = PortSet::parse(json::text(v, "ports"))) i.ports = std::move(*ports);
  i.boot_id = json::text(v, "boot_id");
  i.version = json::text(v, "version");
  i.docker = json::boolean(v, "docker");
  i.native = json::boolean(v, "native", true);
  i.exec = json::boolean(v, "exec");
  i.engine = json::texts(v, "engine");
  if (i.engine.size() > engine_facts_max) i.engine.resize(engine_facts_max);
  return i;
}

}  // namespace

std::string encode(const Down& record) {
  JsonWriter w;
  w.begin_object();
  std::visit(DownWriter{w}, record);
  w.end_object();
  return std::move(w).take();
}

std::string encode(const Registration& r) {
  JsonWriter w;
  w.begin_object().key("info").begin_object().field("hostname", r.info.hostname).field("ip", r.info.ip).field("port", r.info.port);
  wire::write(w, "attributes", r.info.attributes);
  wire::write(w, "total", r.info.total);
  w.field("ports", r.info.ports.str()).field("boot_id", r.info.boot_id).field("version", r.info.version);
  w.field("docker", r.info.docker).field("native", r.info.native).field("exec", r.info.exec);
  if (!r.info.engine.empty()) {
    w.key("engine").begin_array();
    for (const auto& fact : r.info.engine) w.value(fact);
    w.end_array();
  }
  w.end_object();
  w.field("id", r.id).field("cluster_id", r.cluster_id).field("epoch_seen", r.epoch_seen).field("commit_seen", r.commit_seen);
  w.field("life", r.life).field("number", r.number).field("lives", r.lives);
  w.key("tasks").begin_array();
  for (const auto& t : r.tasks) {
    w.begin_object();
    write_task(w, t);
    w.key("status");
    write(w, t.status);
    w.end_object();
  }
  w.end_array().end_object();
  return std::move(w).take();
}

std::string encode(const Report& r) {
  JsonWriter w;
  w.begin_object().field("agent", r.agent).field("subscription", r.subscription).field("number", r.number);
  w.field("epoch", r.epoch).field("applied_n", r.applied_n).key("statuses").begin_array();
  for (const auto& s : r.statuses) write(w, s);
  w.end_array();
  if (!r.progress.empty()) {
    w.key("progress").begin_array();
    for (const auto& p : r.progress) w.begin_object().field("task", p.task).field("text", p.text).end_object();
    w.end_array();
  }
  w.end_object();
  return std::move(w).take();
}

Result<Down> decode_down(std::string_view line) {
  auto parsed = json::parse(line);
  if (!parsed) return fail(std::move(parsed).error().within("link record"));
  const auto& v = *parsed;
  auto type = json::text(v, "type");
  auto epoch = natural(v, "epoch");
  if (type == "heartbeat") return Heartbeat{epoch, natural(v, "n"), natural(v, "commit")};
  if (type == "ack") return Ack{epoch, TaskId(json::text(v, "task")), json::text(v, "uuid")};
  if (type == "welcome")
    return Welcome{epoch, natural(v, "commit"), json::text(v, "cluster_id"), json::text(v, "subscription"), AgentId(json::text(v, "agent")),
                   Millis(json::integer(v, "heartbeat_ms", 5000))};
  if (type == "secret") {
    auto value = base64_decode(json::text(v, "value"));
    if (!value || json::text(v, "name").empty()) return fail(Errc::invalid, "link record: a secret without name or value");
    return Secret{epoch, json::text(v, "name"), {natural(v, "version"), std::move(*value)}};
  }
  if (type == "exec") return Exec{epoch, json::text(v, "session"), TaskId(json::text(v, "task")), json::texts(v, "command"), json::text(v, "terminal")};
  if (type != "snapshot" && type != "delta") return fail(Errc::invalid, "link record: unknown type '{}'", type);
  auto tasks = wanted_from(v, type == "snapshot" ? "tasks" : "set");
  if (!tasks) return fail(std::move(tasks).error().within("link record"));
  if (type == "snapshot") return Snapshot{epoch, natural(v, "n"), std::move(*tasks)};
  return Delta{epoch, natural(v, "n"), std::move(*tasks), ids_from<TaskId>(v, "forget")};
}

Result<Registration> decode_registration(std::string_view body) {
  auto parsed = json::parse(body);
  if (!parsed) return fail(std::move(parsed).error().within("registration"));
  const auto& v = *parsed;
  Registration r;
  const auto* info = json::find(v, "info");
  if (!info) return fail(Errc::invalid, "registration: 'info' is missing");
  r.info = info_from(*info);
  if (r.info.hostname.empty()) return fail(Errc::invalid, "registration: 'info.hostname' is missing");
  if (r.info.total.negative()) return fail(Errc::invalid, "registration: 'info.total' is negative");
  r.id = AgentId(json::text(v, "id"));
  r.cluster_id = json::text(v, "cluster_id");
  r.epoch_seen = natural(v, "epoch_seen");
  r.commit_seen = natural(v, "commit_seen");
  r.life = json::text(v, "life");
  r.number = natural(v, "number");
  r.lives = natural(v, "lives");
  for (const auto& t : json::list(v, "tasks")) {
    HeldTask held;
    if (auto ok = read_task(t, held); !ok) return fail(std::move(ok).error().within("registration"));
    const auto* status = json::find(t, "status");
    auto read = status ? status_from(*status) : fail(Errc::invalid, "task {}: 'status' is missing", held.spec.id);
    if (!read) return fail(std::move(read).error().within("registration"));
    held.status = std::move(*read);
    r.tasks.push_back(std::move(held));
  }
  return r;
}

Result<Report> decode_report(std::string_view body) {
  auto parsed = json::parse(body);
  if (!parsed) return fail(std::move(parsed).error().within("report"));
  const auto& v = *parsed;
  Report r{AgentId(json::text(v, "agent")), json::text(v, "subscription"), natural(v, "number"), natural(v, "epoch"), natural(v, "applied_n"), {}, {}};
  if (r.subscription.empty()) return fail(Errc::invalid, "report: 'subscription' is missing");
  for (const auto& s : json::list(v, "statuses")) {
    auto status = status_from(s);
    if (!status) return fail(std::move(status).error().within("report"));
    r.statuses.push_back(std::move(*status));
  }
  for (const auto& p : json::list(v, "progress")) r.progress.push_back({TaskId(json::text(p, "task")), json::text(p, "text")});
  return r;
}

}  // namespace croft::link
