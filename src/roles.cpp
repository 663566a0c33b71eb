#include "roles.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <unistd.h>

#include <algorithm>
#include <map>

#include "agent/agent_service.hpp"
#include "agent/cgroups.hpp"
#include "agent/docker_runtime.hpp"
#include "agent/native_runtime.hpp"
#include "balancer/balancer_service.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "cluster/mesos_api.hpp"
#include "console/page.hpp"
#include "coordination/sealed.hpp"
#include "coordination/standalone.hpp"
#include "coordination/zookeeper.hpp"
#include "discovery/discovery_service.hpp"
#include "logs/es_api.hpp"
#include "logs/shipper.hpp"
#include "orchestrator/leader_service.hpp"
#include "orchestrator/access_api.hpp"
#include "orchestrator/marathon_api.hpp"
#include "orchestrator/secrets_api.hpp"
#include "orchestrator/standby.hpp"
#include "secure/caller.hpp"
#include "security.hpp"
#include "version.hpp"

namespace croft {

namespace asio = boost::asio;

namespace {

void add_common(net::Router& router, Metrics& metrics) {
  router.on("GET", "/metrics", [&metrics](net::Request) -> asio::awaitable<net::Response> {
    auto response = net::Response::text(metrics.print());
    response.headers.set("Content-Type", "text/plain; version=0.0.4");
    co_return response;
  });
}

/// Where hosts have certificates they are called as these say.
std::string hostname_of(const Host& h) { return h.security ? h.security->self().host : h.settings.hostname.empty() ? this_host() : h.settings.hostname; }

std::filesystem::path own_folder() {
  char path[4096];
  auto n = ::readlink("/proc/self/exe", path, sizeof path);
  return n > 0 ? std::filesystem::path(std::string(path, static_cast<std::size_t>(n))).parent_path() : ".";
}

/// Addresses for the faces that containers may read: this host's and the bridge's; where others log in, loopback too, whose tasks read without.
std::vector<std::string> with_bridge(const Settings& s) {
  std::vector<std::string> out{s.bind};
  if (s.logins()) {
    if (s.bind == "0.0.0.0") out = {s.ip};
    if (out[0] != "127.0.0.1") out.emplace_back("127.0.0.1");
    if (!s.bridge.empty() && s.bridge != out[0]) out.push_back(s.bridge);
    return out;
  }
  if (!s.bridge.empty() && s.bridge != s.bind && s.bind != "0.0.0.0") out.push_back(s.bridge);
  return out;
}

/// The log input knows no logins: where others log in, it is for this host's own tasks and containers, unless the settings say "plain" of it.
std::vector<std::string> input_addresses(const Settings& s) {
  if (!s.logins() || s.plain.contains("log_input")) return {s.bind};
  std::vector<std::string> out{"127.0.0.1"};
  if (!s.bridge.empty() && s.bridge != "127.0.0.1") out.push_back(s.bridge);
  return out;
}

net::Origin towards(const Host& h, net::Origin to, secure::HostRole role) { return h.security ? h.security->towards(std::move(to), role) : to; }

std::vector<net::Origin> masters_of(const Host& h) {
  std::vector<net::Origin> out;
  for (auto& master : h.settings.master_origins()) out.push_back(towards(h, std::move(master), secure::HostRole::master));
  return out;
}

net::Origin logs_origin(const Host& h) {
  const auto& s = h.settings;
  if (!s.elasticsearch.empty())
    if (auto url = net::Url::parse(s.elasticsearch[0])) {
      net::Origin to{.host = url->host, .port = url->port, .unix_path = {}};
      return url->scheme == "https" ? towards(h, std::move(to), secure::HostRole::log) : to;
    }
  return towards(h, {.host = s.ip, .port = s.logs_port, .unix_path = {}}, secure::HostRole::log);
}

Status check_role(const Host& h, secure::HostRole role) { return h.security ? h.security->check_role(role) : Status{}; }

TaskPolicy policy_of(const Settings& s) {
  auto users = s.allow_users.value_or(s.logins() ? std::vector<std::string>{} : std::vector<std::string>{"*"});
  auto check_ports = s.allow_check_ports;
  if (!check_ports && s.logins()) check_ports.emplace();
  return {s.allow_privileged, s.host_paths(), s.allow_docker_parameters, std::move(users), s.policies, std::move(check_ports)};
}

// --- master ---

/// A role's folder, without what a killed one was about to write.
Status prepare_folder(const std::filesystem::path& folder, unsigned mode) {
  auto made = make_dirs(folder, mode);
  if (made) remove_left_aside(folder);
  return made;
}

/// What stands behind a master: the file lock and SQLite where it is alone, ZooKeeper where there are several.
struct Coordination {
  std::unique_ptr<coordination::Store> store;
  std::unique_ptr<coordination::Election> election;
  std::shared_ptr<coordination::Detector> detector;  ///< of several masters only
};

Result<Coordination> standalone(const std::filesystem::path& dir, const std::string& advertised) {
  auto store = coordination::open_sqlite_store(dir / "store.db");
  if (!store) return fail(std::move(store).error());
  return Coordination{std::move(*store), coordination::file_election(dir / "leader.lock", advertised), nullptr};
}

Result<Coordination> of_several(const Host& host, const std::filesystem::path& dir) {
  const auto& s = host.settings;
  auto address = coordination::parse_zookeeper_address(s.zookeeper);
  if (!address) return fail(std::move(address).error().within("zookeeper"));
  auto session = coordination::ZookeeperSession::open(host.io.get_executor(), {.address = *address, .session_timeout = Millis(s.session_timeout_ms), .keep_in = dir});
  if (!session) return fail(std::move(session).error());
  coordination::Leader self{.id = random_uuid(), .hostname = hostname_of(host), .ip = s.ip, .mesos_port = s.mesos_port, .marathon_port = s.marathon_port, .version = croft_version};
  auto election = coordination::zookeeper_election(*session, std::move(self));
  if (!election) return fail(std::move(election).error());
  auto store = coordination::zookeeper_store(*session, s.zookeeper_tree);
  if (!store) return fail(std::move(store).error().within("zookeeper_tree"));
  return Coordination{std::move(*store), std::move(*election), coordination::zookeeper_detector(*session)};
}

/// Where Mesos's clients are sent while this master does not lead.
std::optional<std::string> mesos_leader(const orchestrator::LeaderService& own, const coordination::Detector& detector) {
  if (own.leading()) return std::nullopt;
  auto seen = detector.sighting();
  return seen.leader ? fmt::format("{}:{}", seen.leader->hostname, seen.leader->mesos_port) : "";
}

class MasterRole final : public Role {
 public:
  explicit MasterRole(Host host) : host_(host), listeners_(host) {}

  [[nodiscard]] const char* name() const override { return "master"; }
  Status start() override {
    const auto& s = host_.settings;
    if (auto ok = check_role(host_, secure::HostRole::master); !ok) return ok;
    auto dir = s.data / "master";
    if (auto ok = prepare_folder(dir, 0750); !ok) return ok;
    auto advertised = fmt::format("{}:{}", s.ip, s.marathon_port);
    auto made = s.zookeeper.empty() ? standalone(dir, advertised) : of_several(host_, dir);
    if (!made) return fail(std::move(made).error());
    auto pool = host_.io.get_executor();
    auto settings = options();
    settings.policy = policy_of(s);
    if (auto ok = prepare_access(settings); !ok) return ok;
    // ZooKeeper's disks and wires are other people's; a master's own disk has the keys beside the store anyway.
    if (access_.files && !s.zookeeper.empty()) made->store = coordination::sealed_store(std::move(made->store), keys());
    leader_ = orchestrator::LeaderService::make(pool, std::move(made->store), std::move(made->election), std::move(settings), host_.metrics);
    auto router = std::make_shared<net::Router>();
    orchestrator::MarathonOptions marathon{.base_url = (host_.security ? "https://" : "http://") + advertised, .leader = advertised, .policy = policy_of(s)};
    orchestrator::add_marathon_routes(*router, leader_, marathon);
    leader_->add_link_routes(*router);
    leader_->add_exec_routes(*router);
    orchestrator::add_secret_routes(*router, leader_, leader_, keys());
    if (host_.security) {
      orchestrator::add_access_routes(*router, leader_, access_);
      net::spawn(pool, "cluster's CAs", orchestrator::tend_trust(leader_, access_.files, stopping_));
      judge_refusals();
    }
    add_common(*router, host_.metrics);
    console::add_page(*router, pool, masters_of(host_), logs_origin(host_), true);
    auto mesos = std::make_shared<net::Router>();
    auto leader = leader_;
    cluster::MesosOptions face{.port = s.mesos_port, .elsewhere = {}};
    if (made->detector) face.elsewhere = [leader, detector = made->detector] { return mesos_leader(*leader, *detector); };
    cluster::add_mesos_routes(*mesos, [leader]() -> std::shared_ptr<const cluster::FarmView> { return leader->view(); }, face);
    add_common(*mesos, host_.metrics);
    console::add_page(*mesos, pool, masters_of(host_), logs_origin(host_), false);
    if (made->detector) {
      auto leading = [leader] { return leader->leading(); };
      orchestrator::pass_on_to_leader(router, pool, {.own = advertised, .leading = leading, .detector = made->detector, .like = towards(host_, {}, secure::HostRole::master)});
    }
    orchestrator::mark_refusals(*router, marathon);
    if (auto ok = listeners_.add("mesos", {s.bind}, s.mesos_port, mesos); !ok) return ok;
    auto fatal = host_.fatal;
    leader_->start([fatal](Error e) { fatal("the master cannot lead: " + e.context); });
    return listeners_.add("marathon", {s.bind}, s.marathon_port, router);
  }

  asio::awaitable<void> stop() override {
    *stopping_ = true;
    co_await leader_->stop();
    co_await listeners_.stop();
  }

 private:
  [[nodiscard]] std::shared_ptr<const secure::KeyRing> keys() const { return access_.files ? std::shared_ptr<const secure::KeyRing>(access_.files, &access_.files->seal) : nullptr; }
  /// Users, tokens and CAs: what a master needs of them when it leads, and its logins follow its own records then.
  Status prepare_access(orchestrator::LeaderOptions& o) {
    if (!host_.security) return {};
    auto files = secure::read_cluster(host_.settings.cluster_folder);
    if (!files) return fail(std::move(files).error());
    auto shared = std::make_shared<const secure::ClusterFiles>(std::move(*files));
    auto secrets = secure::master_secrets(host_.settings.cluster_folder);
    if (!secrets) return fail(std::move(secrets).error());
    access_ = {shared, host_.security->self().cluster, std::make_shared<net::BlockingPool>(2), std::move(*secrets), [security = host_.security] { return security->certificate_pem(); }};
    o.keys = keys();
    o.may_lead = [security = host_.security] { return !security->is_revoked(); };
    o.seed = [shared](const orchestrator::Records& records) { return orchestrator::seed_access(records, *shared, system_now().wall); };
    o.records_changed = [security = host_.security, shared](std::shared_ptr<const orchestrator::Records> records) {
      auto accounts = orchestrator::stored_accounts(*records);
      if (!accounts) return log::error("security", "{}", accounts.error().context);
      security->set_accounts(std::move(*accounts));
      if (auto trust = orchestrator::stored_trust(*records, shared->seal)) security->set_bundle(trust->bundle(), trust->authority().certificate_pem);
    };
    return {};
  }

  /// Refusals go to the audit log where this master leads.
  void judge_refusals() {
    host_.security->set_leads([leader = leader_] { return leader->leading(); });
    listeners_.on_denied([leader = leader_](const secure::Caller& caller, const net::Request& request, const std::string& path, const std::string& reason) {
      leader->note({0, {}, caller.who.str(), caller.source, request.method + " " + request.path, path.empty() ? std::vector<std::string>{} : std::vector<std::string>{path}, false, reason});
    });
  }

  [[nodiscard]] orchestrator::LeaderOptions options() const {
    const auto& s = host_.settings;
    orchestrator::LeaderOptions o;
    o.hostname = hostname_of(host_);
    o.ip = s.ip;
    o.marathon_port = s.marathon_port;
    o.mesos_port = s.mesos_port;
    o.version = croft_version;
    o.agent_timeout = Millis(s.agent_timeout_ms);
    o.orchestrator.drain_time = Millis(s.drain_ms);
    o.orchestrator.dns_ttl = Millis(s.dns_ttl * 1000);
    for (const auto& m : s.masters.empty() ? std::vector<net::Origin>{} : s.master_origins())
      if (m.host != s.ip && m.host != o.hostname) o.other_masters.push_back({m.host, m.host});
    return o;
  }

  Host host_;
  Listeners listeners_;
  std::shared_ptr<orchestrator::LeaderService> leader_;
  orchestrator::AccessOptions access_;
  std::shared_ptr<std::atomic<bool>> stopping_ = std::make_shared<std::atomic<bool>>(false);
};

// --- node ---

asio::awaitable<std::vector<logs::LogSource>> sources_of(std::shared_ptr<agent::AgentService> agent) {
  std::vector<logs::LogSource> out;
  auto found = co_await agent->sandboxes();
  for (auto& s : found) out.push_back({s.task.str(), s.app.str(), std::move(s.path), s.ended});
  co_return out;
}

agent::DockerOptions docker_options(const Settings& s, const agent::AgentOptions& o) {
  agent::DockerOptions d;
  d.socket = s.docker_socket;
  d.config = s.docker_config;
  std::error_code ec;
  if (!d.config.empty() && !std::filesystem::exists(d.config, ec)) log::warn("node", "docker_config: {} is not there: images are pulled without this node's logins", d.config);
  d.host.farm = s.instance;
  d.host.node = std::filesystem::absolute(o.work_dir).string();
  d.host.hostname = o.info.hostname;
  bool loopback = s.ip.starts_with("127.");
  d.host.address = loopback && !s.bridge.empty() ? s.bridge : s.ip;
  if (loopback) {  // a farm on loopback stays there; containers reach each other over the bridge
    d.host.publish.push_back(s.ip);
    if (!s.bridge.empty()) d.host.publish.push_back(s.bridge);
  }
  d.host.executor = o.executor.string();
  d.policy = policy_of(s);
  return d;
}

class NodeRole final : public Role {
 public:
  explicit NodeRole(Host host) : host_(host), listeners_(host) {}

  [[nodiscard]] const char* name() const override { return "node"; }
  Status start() override {
    const auto& s = host_.settings;
    if (auto ok = check_role(host_, secure::HostRole::node); !ok) return ok;
    agent::AgentOptions o;
    o.work_dir = s.data / "node";
    if (auto ok = prepare_folder(o.work_dir, 0755); !ok) return ok;
    o.executor = own_folder() / "croft-executor";
    if (::access(o.executor.c_str(), X_OK) != 0) return fail(Errc::not_found, "{}: the executor must stand beside croft", o.executor.string());
    o.masters = masters_of(host_);
    auto cgroup_parent = s.cgroup.empty() ? s.instance : s.cgroup;
    // Executors inherit it. Where the tasks' cgroups have a unit of their own, what holds them goes there too.
    if (!s.cgroup.empty()) ::setenv("CROFT_EXECUTOR_CGROUPS", join(agent::executor_cgroups(agent::CgroupHost::find(), cgroup_parent), ":").c_str(), 1);
    o.info.hostname = hostname_of(host_);
    o.info.ip = s.ip;
    o.info.port = s.agent_port;
    o.info.attributes = s.attributes;
    o.info.total = agent::discover_resources(o.work_dir, cgroup_parent, s.reserve_cpus, s.reserve_mem);
    if (s.cpus) o.info.total.cpus = to_milli(*s.cpus);
    if (s.mem) o.info.total.mem = to_milli(*s.mem);
    auto ports = PortSet::parse(s.ports);
    if (!ports) return fail(std::move(ports).error().within("ports"));
    o.info.ports = *ports;
    o.info.version = croft_version;
    o.dns_url = fmt::format("http://{}:{}", s.ip, s.discovery_port);
    if (!s.bridge.empty()) o.bridge_dns_url = fmt::format("http://{}:{}", s.bridge, s.discovery_port);
    o.bridge = s.bridge;
    o.fetch_paths = s.allow_fetch_paths.value_or(s.logins() ? s.host_paths() : std::vector<std::string>{"/"});
    std::unique_ptr<agent::Runtime> docker;
    if (s.docker) docker = agent::make_docker_runtime(host_.io.get_executor(), docker_options(s, o));
    agent::NativeOptions native;
    native.executor = o.executor;
    native.cgroup_parent = cgroup_parent;
    native.policy = policy_of(s);
    auto unshipped = std::make_shared<logs::Unshipped>();
    o.shipped = [unshipped](const std::filesystem::path& sandbox) { return !unshipped->contains(sandbox.string()); };
    agent_ = agent::AgentService::make(host_.io.get_executor(), o, agent::make_native_runtime(native, blocking_), std::move(docker), host_.metrics);
    if (auto ok = agent_->start(); !ok) return ok;
    logs::ShipperOptions ship;
    ship.targets = {logs_origin(host_)};
    ship.host = o.info.hostname;
    ship.state = o.work_dir / "shipper.json";
    ship.spool = o.work_dir / "spool";
    ship.spool_bytes = s.log_spool_bytes;
    ship.unshipped = unshipped;
    ship.sources = [agent = agent_] { return sources_of(agent); };
    ship.input_addresses = input_addresses(s);
    ship.input_port = s.log_input_port;
    shipper_ = std::make_unique<logs::Shipper>(host_.io.get_executor(), ship, host_.metrics);
    if (auto ok = shipper_->start(); !ok) return ok;
    auto router = std::make_shared<net::Router>();
    agent_->add_routes(*router);
    add_common(*router, host_.metrics);
    return listeners_.add("agent", {s.bind}, s.agent_port, router);
  }

  asio::awaitable<void> stop() override {
    co_await shipper_->stop();
    co_await agent_->stop();
    co_await listeners_.stop();
  }

 private:
  Host host_;
  Listeners listeners_;
  net::BlockingPool blocking_{2};
  std::shared_ptr<agent::AgentService> agent_;
  std::unique_ptr<logs::Shipper> shipper_;
};

// --- balancer ---

class BalancerRole final : public Role {
 public:
  explicit BalancerRole(Host host) : host_(host), listeners_(host) {}

  [[nodiscard]] const char* name() const override { return "balancer"; }
  Status start() override {
    const auto& s = host_.settings;
    if (auto ok = check_role(host_, secure::HostRole::balancer); !ok) return ok;
    balancer::BalancerOptions o;
    o.masters = masters_of(host_);
    o.run_dir = s.data / "balancer";
    o.saved = s.data / "balancer" / "catalog.json";
    o.host = hostname_of(host_);
    o.ip = s.ip;
    o.api_port = s.bamboo_port;
    o.address = s.bind == "0.0.0.0" ? "" : s.bind;
    o.shared_ports = s.balancer_ports;
    o.optional_ports = s.balancer_optional_ports;
    o.haproxy_by_unit = s.haproxy == "unit";
    if (auto ok = prepare_folder(o.run_dir, 0750); !ok) return ok;
    balancer_ = std::make_unique<balancer::BalancerService>(host_.io.get_executor(), o, host_.metrics);
    if (auto ok = balancer_->start(); !ok) return ok;
    auto router = std::make_shared<net::Router>();
    balancer_->add_routes(*router);
    add_common(*router, host_.metrics);
    console::add_page(*router, host_.io.get_executor(), masters_of(host_), logs_origin(host_), false);
    return listeners_.add("bamboo", {s.bind}, s.bamboo_port, router);
  }

  asio::awaitable<void> stop() override {
    co_await balancer_->stop();
    co_await listeners_.stop();
  }

 private:
  Host host_;
  Listeners listeners_;
  std::unique_ptr<balancer::BalancerService> balancer_;
};

// --- dns ---

class DnsRole final : public Role {
 public:
  explicit DnsRole(Host host) : host_(host), listeners_(host) {}

  [[nodiscard]] const char* name() const override { return "dns"; }
  Status start() override {
    const auto& s = host_.settings;
    if (auto ok = check_role(host_, secure::HostRole::dns); !ok) return ok;
    discovery::DiscoveryOptions o;
    o.masters = masters_of(host_);
    auto dir = s.data / "dns";
    if (auto ok = prepare_folder(dir, 0750); !ok) return ok;
    o.saved = dir / "catalog.json";
    o.version = croft_version;
    o.zone.domain = s.domain;
    o.zone.ttl = s.dns_ttl;
    o.zone.server_addresses = {s.ip};
    o.dns.resolvers = s.resolvers;
    o.dns.clients = s.dns_clients;
    o.dns.listen.push_back({s.bind, s.dns_port, false});
    if (!s.bridge.empty() && s.bind != "0.0.0.0") {
      if (s.ip.starts_with("127.")) o.bridge = s.bridge;
      else o.dns.listen.push_back({s.bridge, 53, true});
    }
    discovery_ = std::make_unique<discovery::DiscoveryService>(host_.io.get_executor(), o, host_.metrics);
    if (auto ok = discovery_->start(); !ok) return ok;
    auto router = std::make_shared<net::Router>();
    discovery_->add_routes(*router);
    add_common(*router, host_.metrics);
    return listeners_.add("discovery", with_bridge(s), s.discovery_port, router);
  }

  asio::awaitable<void> stop() override {
    co_await discovery_->stop();
    co_await listeners_.stop();
  }

 private:
  Host host_;
  Listeners listeners_;
  std::unique_ptr<discovery::DiscoveryService> discovery_;
};

// --- log ---

class LogRole final : public Role {
 public:
  explicit LogRole(Host host) : host_(host), listeners_(host) {}

  [[nodiscard]] const char* name() const override { return "log"; }
  Status start() override {
    const auto& s = host_.settings;
    if (auto ok = check_role(host_, secure::HostRole::log); !ok) return ok;
    logs::StoreOptions o;
    o.dir = s.data / "log";
    o.retain_days = s.log_retain_days;
    o.retain_bytes = s.log_retain_bytes;
    auto store = logs::Store::open(o, host_.metrics);
    if (!store) return fail(std::move(store).error());
    store_ = std::move(*store);
    auto router = std::make_shared<net::Router>();
    logs::add_es_routes(*router, *store_, blocking_, {hostname_of(host_), "7.17.28"});
    add_common(*router, host_.metrics);
    if (auto ok = listeners_.add("logs", {s.bind}, s.logs_port, router); !ok) return ok;
    auto page = std::make_shared<net::Router>();
    console::add_page(*page, host_.io.get_executor(), masters_of(host_), logs_origin(host_), false);
    add_common(*page, host_.metrics);
    return listeners_.add("console", {s.console_bind.empty() ? s.bind : s.console_bind}, s.console_port, page);
  }

  asio::awaitable<void> stop() override { co_await listeners_.stop(); }

 private:
  Host host_;
  Listeners listeners_;
  net::BlockingPool blocking_{3};
  std::unique_ptr<logs::Store> store_;
};

}  // namespace

Status Listeners::add(const std::string& name, const std::vector<std::string>& addresses, std::uint16_t port, std::shared_ptr<net::Router> router, std::size_t body_max) {
  using gate::Face;
  static const std::map<std::string_view, Face> faces{{"marathon", Face::marathon}, {"mesos", Face::mesos}, {"agent", Face::agent}, {"bamboo", Face::bamboo},
                                                      {"discovery", Face::discovery}, {"logs", Face::logs}, {"console", Face::console}};
  const auto& s = host_.settings;
  std::vector<std::string> near{"127.0.0.1", "::1"};
  if (!s.bridge.empty()) near.push_back(s.bridge);
  auto is_near = [&](const std::string& address) { return std::find(near.begin(), near.end(), address) != near.end(); };
  auto options = host_.security ? host_.security->gate_options() : gate::GateOptions{};
  options.host_names = host_.host_names;
  options.near = near;
  options.denied = denied_;
  if (!denied_ && host_.security && s.logins()) {
    if (!refusals_) refusals_ = std::make_shared<RefusalReporter>(host_.io.get_executor(), masters_of(host_), hostname_of(host_));
    options.denied = [reporter = refusals_, port](const secure::Caller& caller, const net::Request& request, const std::string& path, const std::string& reason) {
      reporter->tell({caller.who.str(), caller.source, fmt::format("{} {} on {}", request.method, request.path, port), path, reason}, system_now().mono);
    };
  }
  gate::Gate(std::move(options)).add(*router, faces.at(name));
  net::ServerOptions serving;
  serving.name = name;
  serving.body_max = body_max;
  if (s.warns_open) serving.headers.emplace_back("X-Croft-Auth", "none");
  auto server = std::make_shared<net::HttpServer>(host_.io.get_executor(), std::shared_ptr<const net::Router>(router), serving, &host_.metrics);
  for (const auto& address : addresses) {
    // Tasks and containers of this host read names without TLS.
    bool plain = !host_.security || s.plain.contains(name) || (name == "discovery" && is_near(address));
    auto ok = plain ? server->listen(address, port) : server->listen_tls(address, port, host_.security->server());
    if (!ok) return fail(std::move(ok).error().within(name));
  }
  servers_.push_back(std::move(server));
  return {};
}

asio::awaitable<void> Listeners::stop() {
  if (refusals_) refusals_->stop();
  for (auto& server : servers_) co_await server->stop(std::chrono::milliseconds(500));
}

std::unique_ptr<Role> make_master(Host host) { return std::make_unique<MasterRole>(host); }
std::unique_ptr<Role> make_node(Host host) { return std::make_unique<NodeRole>(host); }
std::unique_ptr<Role> make_balancer(Host host) { return std::make_unique<BalancerRole>(host); }
std::unique_ptr<Role> make_log(Host host) { return std::make_unique<LogRole>(host); }
std::unique_ptr<Role> make_dns(Host host) { return std::make_unique<DnsRole>(host); }

}  // namespace croft
