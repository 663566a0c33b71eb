// Networks, containers and ports, in the forms of 2015, of 1.x and of 1.5 and later.

#include <algorithm>
#include <utility>

#include "base/text.hpp"
#include "orchestrator/fields.hpp"

namespace croft::orchestrator {

namespace {

Protocol protocol_of(const std::string& text) { return text == "tcp" ? Protocol::tcp : text == "udp" ? Protocol::udp : Protocol::both; }

void read_common(Fields& f, PortDefinition& p) {
  std::string protocol(to_string(p.protocol));
  f.enumeration("protocol", {"tcp", "udp", "udp,tcp", "tcp,udp"}, protocol);
  p.protocol = protocol_of(protocol);
  f.text("name", p.name);
  f.each_member("labels", [&](const std::string& name, const json::value& v, const std::string& path) {
    if (v.is_string()) p.labels[name] = std::string(v.get_string());
    else f.problems().shape(path, "error.expected.jsstring");
  });
}

void port_number(Fields& f, std::string_view key, std::uint16_t& into) {
  std::int64_t n = into;
  f.integer(key, n, 0, 65535);
  into = static_cast<std::uint16_t>(n);
}

std::vector<PortDefinition> read_mappings(Fields& container) {
  std::vector<PortDefinition> out;
  container.each_object("portMappings", [&](Fields& f) {
    PortDefinition p;
    port_number(f, "containerPort", p.container_port);
    port_number(f, "servicePort", p.service_port);
    if (f.has("hostPort")) {
      std::uint16_t host = 0;
      port_number(f, "hostPort", host);
      p.host_port = host;
    }
    read_common(f, p);
    f.each_text("networkNames", [&](std::string name) { p.network_names.push_back(std::move(name)); });
    out.push_back(std::move(p));
  });
  return out;
}

struct Given {                             ///< what a manifest says of its network, before the forms are made one
  std::optional<std::vector<Network>> networks;
  std::optional<std::vector<PortDefinition>> mappings, definitions;
  std::optional<std::vector<std::uint16_t>> ports;
  std::optional<std::string> docker_network;
  bool mappings_of_today = false;          ///< they stand in container, not in container.docker
};

/// Mappings in the place of 2015 and in today's that differ: the one that was changed is meant.
std::vector<PortDefinition> settled(Fields& f, const std::vector<PortDefinition>& stored, std::vector<PortDefinition> old_place, std::vector<PortDefinition> new_place) {
  if (new_place == stored) return old_place;
  if (old_place != stored) f.problems().meaning("/container/docker/portMappings", "differs from container.portMappings");
  return new_place;
}

void read_docker(Fields& docker, App& app, Given& given) {
  DockerSpec d;
  docker.required_text("image", d.image);
  docker.boolean("forcePullImage", d.force_pull);
  docker.boolean("privileged", d.privileged);
  docker.each_object("parameters", [&](Fields& p) {
    std::string key, value;
    p.required_text("key", key);
    p.required_text("value", value);
    d.parameters.emplace_back(std::move(key), std::move(value));
  });
  if (docker.has("network")) {
    std::string mode;
    docker.enumeration("network", {"BRIDGE", "HOST", "USER", "NONE"}, mode);
    if (mode == "NONE") docker.problems().meaning(docker.path() + "/network", "network NONE is not supported");
    given.docker_network = mode;
  }
  if (docker.has("portMappings")) given.mappings = read_mappings(docker);
  app.docker = std::move(d);
}

void read_container(Fields& f, App& app, Given& given) {
  auto container = f.object("container");
  if (!container) return;
  std::string type = "DOCKER";
  container->enumeration("type", {"DOCKER", "MESOS"}, type);
  app.container = type == "DOCKER" ? ContainerType::docker : ContainerType::mesos;
  app.docker.reset();
  app.volumes.clear();
  app.secret_files.clear();
  if (auto docker = container->object("docker")) read_docker(*docker, app, given);
  else if (type == "DOCKER") f.problems().meaning("/container/docker", "not defined");
  if (container->has("portMappings")) {
    auto inner = std::exchange(given.mappings, read_mappings(*container));
    given.mappings_of_today = true;
    if (inner && *inner != *given.mappings) given.mappings = settled(f, app.ports, std::move(*inner), std::move(*given.mappings));
  }
  container->each_object("volumes", [&](Fields& v) {
    if (v.has("persistent")) return v.problems().meaning(v.path() + "/persistent", "persistent volumes are not supported");
    if (v.has("external")) return v.problems().meaning(v.path() + "/external", "Feature external_volumes is not enabled. Enable with --enable_features external_volumes)");
    if (v.has("secret")) {
      auto& file = app.secret_files.emplace_back();
      v.required_text("containerPath", file.first);
      v.text("secret", file.second);
      if (v.has("hostPath")) v.problems().meaning(v.path(), "has a secret and a hostPath: it can be one of them");
      std::string mode = "RO";
      v.enumeration("mode", {"RO"}, mode);
      return;
    }
    Volume volume;
    v.required_text("containerPath", volume.container_path);
    v.text("hostPath", volume.host_path);
    v.enumeration("mode", {"RO", "RW"}, volume.mode);
    app.volumes.push_back(std::move(volume));
  });
}

void read_networks(Fields& f, Given& given) {
  if (f.has("networks")) {
    given.networks.emplace();
    f.each_object("networks", [&](Fields& n) {
      Network out;
      std::string mode = "container";
      n.enumeration("mode", {"host", "container", "container/bridge"}, mode);
      out.mode = mode == "host" ? NetworkMode::host : mode == "container" ? NetworkMode::container : NetworkMode::bridge;
      n.text("name", out.name);
      n.each_member("labels", [&](const std::string& name, const json::value& v, const std::string& path) {
        if (v.is_string()) out.labels[name] = std::string(v.get_string());
        else n.problems().shape(path, "error.expected.jsstring");
      });
      if (out.mode == NetworkMode::container && out.name.empty()) n.problems().meaning(n.path(), "Network name must be specified when container network is selected.");
      given.networks->push_back(std::move(out));
    });
  }
  if (f.has("portDefinitions")) {
    given.definitions.emplace();
    f.each_object("portDefinitions", [&](Fields& d) {
      PortDefinition p;
      port_number(d, "port", p.port);
      read_common(d, p);
      given.definitions->push_back(std::move(p));
    });
  }
  if (f.has("ports")) {
    given.ports.emplace();
    f.each_integer("ports", 0, 65535, [&](std::int64_t n) { given.ports->push_back(static_cast<std::uint16_t>(n)); });
  }
}

bool is_mapped(const App& app) { return !app.networks.empty() && app.networks[0].mode != NetworkMode::host; }

/// `ports` of the old form against what else is given: equal to it (read back and sent again), or in its place.
void settle_host_ports(Fields& f, App& app, const Given& given) {
  auto numbers = [](const std::vector<PortDefinition>& d) {
    std::vector<std::uint16_t> out;
    for (const auto& p : d) out.push_back(p.port);
    return out;
  };
  if (given.definitions && given.ports && numbers(*given.definitions) != *given.ports) {
    bool definitions_kept = *given.definitions == app.ports, ports_kept = *given.ports == numbers(app.ports);
    if (!definitions_kept && !ports_kept) f.problems().meaning("", "cannot specify both ports and port definitions");
    if (!definitions_kept) {
      app.ports = *given.definitions;
      return;
    }
  } else if (given.definitions) {
    app.ports = *given.definitions;
    return;
  }
  if (!given.ports) return;
  if (*given.ports == numbers(app.ports)) return;
  app.ports.clear();
  for (auto port : *given.ports) {
    PortDefinition p;
    p.port = port;
    app.ports.push_back(std::move(p));
  }
}

void settle_mappings(App& app, const Given& given, bool mode_changed) {
  const auto before = mode_changed ? std::vector<PortDefinition>{} : app.ports;
  if (given.mappings) app.ports = *given.mappings;
  else if (mode_changed) app.ports.clear();
  bool bridge = app.networks[0].mode == NetworkMode::bridge;
  // `ports` of the old form are service ports: they fill what is not given, and where only they were changed they are meant.
  for (std::size_t i = 0; given.ports && i < given.ports->size(); ++i) {
    if (i >= app.ports.size()) app.ports.emplace_back();
    auto stored = i < before.size() ? before[i].service_port : std::uint16_t(0);
    auto& service = app.ports[i].service_port;
    auto wanted = (*given.ports)[i];
    if (wanted != 0 && (service == 0 || (service == stored && wanted != stored))) service = wanted;
  }
  if (bridge && app.ports.empty() && !given.mappings && mode_changed) {
    PortDefinition p;
    p.name = "default";
    app.ports.push_back(std::move(p));
  }
  for (auto& p : app.ports)
    if (bridge && !p.host_port) p.host_port = 0;
  app.require_ports = false;
}

/// ipAddress, the form of 1.0 to 1.4 for a network of its own.
void read_ip_address(Fields& f, App& app, Given& given) {
  auto ip = f.object("ipAddress");
  if (!ip) return;
  if (given.networks) return f.problems().meaning("", "must not specify both networks and ipAddress");
  if ((given.ports && !given.ports->empty()) || (given.definitions && !given.definitions->empty())) f.problems().meaning("", "cannot specify both an IP address and port");
  Network n;
  n.mode = NetworkMode::container;
  n.name = "default";
  ip->text("networkName", n.name);
  ip->each_member("labels", [&](const std::string& name, const json::value& v, const std::string&) {
    if (v.is_string()) n.labels[name] = std::string(v.get_string());
  });
  if (auto discovery = ip->object("discovery")) {
    std::vector<PortDefinition> ports;
    discovery->each_object("ports", [&](Fields& d) {
      PortDefinition p;
      port_number(d, "number", p.container_port);
      read_common(d, p);
      ports.push_back(std::move(p));
    });
    if (!ports.empty() && app.container == ContainerType::docker) f.problems().meaning("/ipAddress/discovery", "ipAddress/discovery is not allowed for Docker containers");
    else if (!ports.empty() && !given.mappings) given.mappings = std::move(ports);
  }
  if (!given.docker_network || *given.docker_network == "USER") {
    given.networks = {n};
    given.docker_network.reset();
  }
}

}  // namespace

void read_networking(Fields& f, App& app) {
  bool fresh = app.version.empty();
  bool was_mapped = is_mapped(app);
  Given given;
  read_container(f, app, given);
  read_networks(f, given);
  read_ip_address(f, app, given);
  f.boolean("requirePorts", app.require_ports);
  if (given.networks && given.docker_network) {
    // Both forms, as they are read back: the old one must say the same.
    auto mode = given.networks->empty() ? NetworkMode::host : given.networks->front().mode;
    auto same = (*given.docker_network == "BRIDGE" && mode == NetworkMode::bridge) || (*given.docker_network == "HOST" && mode == NetworkMode::host) ||
                (*given.docker_network == "USER" && mode == NetworkMode::container);
    if (!same) f.problems().meaning("", "must not specify both container.docker.network and networks");
  }
  if (given.networks && !given.networks->empty()) {
    app.networks = *given.networks;
  } else if (given.docker_network) {
    Network n;
    n.mode = *given.docker_network == "BRIDGE" ? NetworkMode::bridge : *given.docker_network == "USER" ? NetworkMode::container : NetworkMode::host;
    if (n.mode == NetworkMode::container) n.name = "default";
    app.networks = {n};
  }
  bool mapped = is_mapped(app);
  if (mapped) {
    if (given.networks && given.definitions && !given.definitions->empty() && !was_mapped) f.problems().meaning("/portDefinitions", "portDefinitions are only allowed with host-networking");
    if (app.container == ContainerType::none) app.container = ContainerType::mesos;
    settle_mappings(app, given, fresh || !was_mapped);
    return;
  }
  if ((given.networks || given.mappings_of_today) && given.mappings && !given.mappings->empty()) f.problems().meaning("/container/portMappings", "portMappings are not allowed with host-networking");
  if (was_mapped) app.ports.clear();
  settle_host_ports(f, app, given);
  if ((fresh || was_mapped) && !given.definitions && !given.ports) {
    PortDefinition p;
    p.name = "default";
    app.ports = {p};
  }
}

}  // namespace croft::orchestrator
