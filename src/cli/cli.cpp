#include "cli/cli.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>

#include "cli/commands.hpp"

namespace croft::cli {

namespace {

/// Everything the parser fills in; one object for the whole run.
struct Arguments {
  Common common;
  DevOptions dev;
  ServeOptions serve;
  SimOptions sim;
  DeployOptions deploy;
  std::string app, deployment, query;
  int instances = 0, lines = 100, limit_s = 300;
  bool force = false, no_wait = false, follow = false;
};

using Action = std::function<int()>;

CLI::App* command(CLI::App& parent, const char* name, const char* what, Action& chosen, Action action) {
  auto* sub = parent.add_subcommand(name, what);
  sub->callback([&chosen, action] { chosen = action; });
  sub->fallthrough();
  return sub;
}

/// A group such as `croft app`: says what is in it when called bare.
CLI::App* group(CLI::App& parent, const char* name, const char* what) {
  auto* sub = parent.add_subcommand(name, what);
  sub->require_subcommand(1);
  sub->fallthrough();
  return sub;
}

void add_app_commands(CLI::App& root, Arguments& a, Action& chosen) {
  auto* app = group(root, "app", "deploy, list, show, scale, restart and remove apps");
  auto* deploy = command(*app, "deploy", "create or replace an app from a Marathon manifest, and wait until it runs", chosen, [&a] {
    a.deploy.limit = std::chrono::seconds(a.limit_s);
    Session s(a.common);
    return app_deploy(s, a.deploy);
  });
  deploy->add_option("file", a.deploy.file, "manifest in JSON; - reads standard input")->required();
  deploy->add_option("--set", a.deploy.values, "name=value, fills {{name}} in the manifest; may be repeated");
  deploy->add_flag("--force", a.deploy.force, "cancel a deployment that holds the app");
  deploy->add_flag("--no-wait", a.deploy.no_wait, "return once the change is accepted");
  deploy->add_option("--timeout", a.limit_s, "seconds to wait")->capture_default_str();
  deploy->footer("Example: croft app deploy examples/fibonacci/native.json --set bin=$PWD/build/release/bin");

  command(*app, "list", "all apps with their instances and health", chosen, [&a] { Session s(a.common); return app_list(s); });
  auto* show = command(*app, "show", "one app with its tasks and its last failure", chosen, [&a] { Session s(a.common); return app_show(s, a.app); });
  show->add_option("id", a.app, "such as /service/fibonacci")->required();
  auto* scale = command(*app, "scale", "set the number of instances", chosen,
                        [&a] { Session s(a.common); return app_scale(s, a.app, a.instances, a.force, a.no_wait); });
  scale->add_option("id", a.app)->required();
  scale->add_option("instances", a.instances)->required()->check(CLI::NonNegativeNumber);
  auto* restart = command(*app, "restart", "replace all instances by new ones, without losing a request", chosen,
                          [&a] { Session s(a.common); return app_restart(s, a.app, a.force, a.no_wait); });
  restart->add_option("id", a.app)->required();
  auto* remove = command(*app, "remove", "stop all instances and forget the app", chosen, [&a] { Session s(a.common); return app_remove(s, a.app, a.no_wait); });
  remove->add_option("id", a.app)->required();
  for (auto* sub : {scale, restart}) sub->add_flag("--force", a.force, "cancel a deployment that holds the app");
  for (auto* sub : {scale, restart, remove}) sub->add_flag("--no-wait", a.no_wait, "return once the change is accepted");
}

void add_farm_commands(CLI::App& root, Arguments& a, Action& chosen) {
  auto* tasks = command(*group(root, "task", "running instances"), "list", "all tasks, or those of one app", chosen,
                        [&a] { Session s(a.common); return task_list(s, a.app); });
  tasks->add_option("app", a.app, "only this app's");
  command(*group(root, "node", "hosts that run tasks"), "list", "all nodes with what they have and what is used", chosen,
          [&a] { Session s(a.common); return node_list(s); });
  auto* deployments = group(root, "deployment", "changes under way");
  command(*deployments, "list", "deployments under way", chosen, [&a] { Session s(a.common); return deployment_list(s); });
  auto* rollback = command(*deployments, "rollback", "undo what a deployment under way changes", chosen,
                           [&a] { Session s(a.common); return deployment_rollback(s, a.deployment, a.no_wait); });
  rollback->add_option("id", a.deployment)->required();
  rollback->add_flag("--no-wait", a.no_wait);
  auto* log = command(root, "logs", "what an app's tasks print, from all hosts", chosen,
                      [&a] { Session s(a.common); return logs(s, a.app, a.follow, a.lines, a.query); });
  log->add_option("app", a.app)->required();
  log->add_flag("-f,--follow", a.follow, "go on with new lines");
  log->add_option("-n,--lines", a.lines, "how many of the newest lines first")->capture_default_str()->check(CLI::Range(0, 10'000));
  log->add_option("--query", a.query, "only lines that match, in Lucene's syntax: 'level:WARN AND n:[10 TO 20]'");
  auto* why = command(root, "explain", "why an app is not (fully) running, in sentences", chosen, [&a] { Session s(a.common); return explain(s, a.app); });
  why->add_option("app", a.app)->required();
}

void add_programs(CLI::App& root, Arguments& a, Action& chosen, const Programs& programs) {
  auto* dev = command(root, "dev", "a whole farm in one process, on loopback", chosen, [&] { return programs.dev(a.dev); });
  dev->add_option("--data", a.dev.data, "folder for the farm's state")->required();
  dev->add_option("--docker", a.dev.docker_socket, "the Docker Engine's socket")->capture_default_str();
  dev->add_flag("--no-docker", a.dev.no_docker, "native tasks only");
  dev->add_option("--bridge", a.dev.bridge_address, "address of the container bridge, where DNS and discovery answer too");
  dev->add_option("--config", a.dev.config_file, "croft.toml with further settings");
  dev->add_option("--log-level", a.dev.log_level)->capture_default_str()->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}));
  dev->add_option("--log-file", a.dev.log_file, "append the farm's own log here instead of stderr");
  auto* down = command(root, "down", "end a farm that `croft dev` started, with all its tasks and its HAProxy", chosen, [&] { return programs.down(a.dev.data); });
  down->add_option("--data", a.dev.data, "the farm's folder")->required();
  auto* serve = command(root, "serve", "one role of a farm, as a systemd unit runs it", chosen, [&] { return programs.serve(a.serve); });
  serve->add_option("--role", a.serve.role, "master, node, balancer, dns or log")->required()->check(CLI::IsMember({"master", "node", "balancer", "dns", "log"}));
  serve->add_option("--config", a.serve.config_file, "croft.toml")->default_val("/etc/croft/croft.toml");
  auto* sim = command(root, "sim", "the farm's cores under a virtual clock and a bad network", chosen, [&] { return programs.sim(a.sim); });
  sim->add_option("--seed", a.sim.seed, "first seed")->capture_default_str();
  sim->add_option("--seeds", a.sim.seeds, "how many seeds")->capture_default_str();
  sim->add_option("--minutes", a.sim.minutes, "virtual minutes a seed")->capture_default_str();
  sim->add_option("--bug", a.sim.bug, "plant a bug, which must be found; \"list\" names them");
  sim->add_flag("--scale", a.sim.scale, "a fail-over with many agents and tasks instead: CPU time and memory");
  sim->add_option("--agents", a.sim.agents, "agents of --scale")->capture_default_str();
  sim->add_option("--tasks", a.sim.tasks, "tasks of --scale")->capture_default_str();
}

}  // namespace

int run(int argc, char** argv, const Programs& programs) {
  Arguments a;
  Action chosen;
  CLI::App root{"croft: a few Linux servers as one computer that runs services", "croft"};
  root.require_subcommand(1);
  root.set_help_all_flag("--help-all", "help of all subcommands");
  root.footer("Exit codes: 0 done, 1 failed, 2 wrong usage or manifest, 3 not found, 4 locked by a deployment, 5 no farm answers, 6 timed out.");
  root.add_option("--url", a.common.url, "a master's API")->envname("CROFT_URL")->capture_default_str();
  root.add_option("--logs-url", a.common.logs_url, "the log host's API")->envname("CROFT_LOGS_URL")->capture_default_str();
  root.add_flag("--json", a.common.json, "print the API's JSON instead of tables");
  root.add_flag("-q,--quiet", a.common.quiet, "no progress on stderr");
  add_app_commands(root, a, chosen);
  add_farm_commands(root, a, chosen);
  add_programs(root, a, chosen, programs);
  command(root, "version", "this program's version", chosen, [&] {
    std::printf(a.common.json ? "{\"version\":\"%s\"}\n" : "croft %s\n", programs.version.c_str());
    return ok;
  });
  try {
    root.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    int code = root.exit(e);
    return code == 0 ? ok : usage;
  }
  try {
    return chosen();
  } catch (const Ended& e) {
    std::fprintf(stderr, "croft: %s\n", e.text.c_str());
    return e.code;
  }
}

}  // namespace croft::cli
