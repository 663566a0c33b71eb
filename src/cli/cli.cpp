#include "cli/cli.hpp"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/utf8.hpp"
#include "cli/commands.hpp"

namespace croft::cli {

namespace {

/// Everything the parser fills in; one object for the whole run.
struct Arguments {
  Common common;
  DevOptions dev;
  ServeOptions serve;
  StoreOptions store;
  InitOptions init;
  JoinOptions join;
  AccountOptions account;
  SimOptions sim;
  DeployOptions deploy;
  ExecOptions exec;
  ChangeOptions change;
  std::string app, deployment, node, query, version, acl, zoo_cfg;
  std::vector<std::string> tasks;
  int instances = 0, lines = 100;
  bool follow = false;
};

using Action = std::function<int()>;

constexpr const char* owner_words = "the user whose the files are; default: croft, as whom the package's services run, where root makes them and there is such a user";

CLI::App* command(CLI::App& parent, const char* name, const char* what, Action& chosen, Action action, const char* example = nullptr) {
  auto* sub = parent.add_subcommand(name, what);
  sub->callback([&chosen, action] { chosen = action; });
  sub->fallthrough();
  if (example) sub->footer(std::string("Example: ") + example);
  return sub;
}

/// A group such as `croft app`.
CLI::App* group(CLI::App& parent, const char* name, const char* what) {
  auto* sub = parent.add_subcommand(name, what);
  sub->require_subcommand(1);
  sub->fallthrough();
  return sub;
}

void add_change_options(CLI::App* sub, ChangeOptions& o) {
  sub->add_flag("--no-wait", o.no_wait, "return once the change is accepted");
  sub->add_option("--timeout", o.limit_s, "seconds to wait; the change goes on afterwards")->capture_default_str()->check(CLI::Range(1, 1'000'000));
}

void add_app_commands(CLI::App& root, Arguments& a, Action& chosen) {
  auto* app = group(root, "app", "deploy, list, show, scale, restart, roll back and remove apps");
  auto* deploy = command(*app, "deploy", "create or replace an app from a Marathon manifest, and wait until it runs", chosen,
                         [&a] { Session s(a.common); a.deploy.change = a.change; return app_deploy(s, a.deploy); },
                         "croft app deploy examples/fibonacci/native.json --set bin=$PWD/build/release/bin\n"
                         "A manifest needs an id and a cmd or an image:  {\"id\": \"/hello\", \"cmd\": \"exec sleep 1000\", \"cpus\": 0.1, \"mem\": 32, \"instances\": 2}");
  deploy->add_option("file", a.deploy.file, "manifest in JSON; - reads standard input")->required();
  deploy->add_option("--set", a.deploy.values, "name=value, fills {{name}} in the manifest; may be repeated");

  command(*app, "list", "all apps with their instances and health", chosen, [&a] { Session s(a.common); return app_list(s); });
  auto* show = command(*app, "show", "one app with its tasks and its last failure", chosen, [&a] { Session s(a.common); return app_show(s, a.app); },
                       "croft app show /service/fibonacci");
  auto* scale = command(*app, "scale", "set the number of instances, and wait until they run", chosen,
                        [&a] { Session s(a.common); return app_scale(s, a.app, a.instances, a.change); }, "croft app scale /service/fibonacci 5");
  auto* restart = command(*app, "restart", "replace all instances by new ones, without losing a request", chosen,
                          [&a] { Session s(a.common); return app_restart(s, a.app, a.change); }, "croft app restart /service/fibonacci");
  auto* remove = command(*app, "remove", "stop all instances and forget the app", chosen, [&a] { Session s(a.common); return app_remove(s, a.app, a.change); },
                         "croft app remove /service/fibonacci");
  auto* versions = command(*app, "versions", "earlier versions of an app, newest first", chosen, [&a] { Session s(a.common); return app_versions(s, a.app); },
                           "croft app versions /service/fibonacci");
  auto* rollback = command(*app, "rollback", "bring an earlier version back, and wait until it runs", chosen,
                           [&a] { Session s(a.common); return app_rollback(s, a.app, a.version, a.change); },
                           "croft app rollback /service/fibonacci\nA deployment that is still under way is undone by: croft deployment rollback ID");
  for (auto* sub : {show, scale, restart, remove, versions, rollback}) sub->add_option("id", a.app, "the app, such as /service/fibonacci")->required();
  scale->add_option("instances", a.instances, "how many; 0 suspends the app")->required()->check(CLI::Range(0, 1'000'000));
  rollback->add_option("version", a.version, "as croft app versions shows it; without it the one before the present");
  for (auto* sub : {deploy, scale, restart, remove, rollback}) {
    sub->add_flag("--force", a.change.force, "cancel a deployment that holds the app");
    add_change_options(sub, a.change);
  }
}

void add_rule_commands(CLI::App& root, Arguments& a, Action& chosen) {
  auto* rule = group(root, "rule", "which requests the balancer sends to which app");
  command(*rule, "list", "all rules, in the order of their apps, which is the order they are asked in", chosen, [&a] { Session s(a.common); return rule_list(s); });
  auto* set = command(*rule, "set", "make or change an app's rule; HAProxy tries it first", chosen, [&a] { Session s(a.common); return rule_set(s, a.app, a.acl); },
                      "croft rule set /service/fibonacci 'path_beg -i /service/fibonacci'");
  auto* remove = command(*rule, "remove", "take an app's rule away; the app stays", chosen, [&a] { Session s(a.common); return rule_remove(s, a.app); }, "croft rule remove /service/fibonacci");
  for (auto* sub : {set, remove}) sub->add_option("app", a.app, "the app, such as /service/fibonacci; it need not be there yet")->required();
  set->add_option("acl", a.acl, "a HAProxy ACL in one word: quote it")->required();
}

void add_farm_commands(CLI::App& root, Arguments& a, Action& chosen) {
  auto* task = group(root, "task", "running instances");
  auto* tasks = command(*task, "list", "all tasks, or those of one app", chosen, [&a] { Session s(a.common); return task_list(s, a.app); }, "croft task list /service/fibonacci");
  tasks->add_option("app", a.app, "only this app's");
  auto* kill = command(*task, "kill", "end tasks; their apps start others in their place", chosen, [&a] { Session s(a.common); return task_kill(s, a.tasks); },
                       "croft task kill service_fibonacci.0c6c1d0e-...\nAs often as the app should have fewer: croft app scale");
  kill->add_option("task", a.tasks, "its id, as croft task list shows it; more than one may be given")->required()->expected(1, 1000);
  auto* node = group(root, "node", "hosts that run tasks");
  command(*node, "list", "all nodes with what they have and what is used", chosen, [&a] { Session s(a.common); return node_list(s); });
  auto* drain = command(*node, "drain", "no new tasks for it, and its own move elsewhere without losing a request; waits until it is empty", chosen,
                        [&a] { Session s(a.common); return node_change(s, a.node, "draining", a.change); },
                        "croft node drain node1\nThen its host can be worked on; afterwards: croft node undrain node1");
  auto* undrain = command(*node, "undrain", "it takes tasks again", chosen, [&a] { Session s(a.common); return node_change(s, a.node, "active", a.change); }, "croft node undrain node1");
  auto* lost = command(*node, "down", "it is gone for good: its tasks are replaced at once, and it is forgotten", chosen,
                       [&a] { Session s(a.common); return node_change(s, a.node, "down", a.change); }, "croft node down node1");
  for (auto* sub : {drain, undrain, lost}) sub->add_option("node", a.node, "its host name, or its id as croft node list shows it")->required();
  add_change_options(drain, a.change);
  auto* deployments = group(root, "deployment", "changes under way");
  command(*deployments, "list", "deployments under way", chosen, [&a] { Session s(a.common); return deployment_list(s); });
  auto* rollback = command(*deployments, "rollback", "undo what a deployment changes that is still under way; later: croft app rollback", chosen,
                           [&a] { Session s(a.common); return deployment_rollback(s, a.deployment, a.change); });
  rollback->add_option("id", a.deployment, "as croft deployment list shows it")->required();
  add_change_options(rollback, a.change);
  auto* log = command(root, "logs", "what an app's tasks print, from all hosts", chosen,
                      [&a] { Session s(a.common); return logs(s, a.app, a.follow, a.lines, a.query); },
                      "croft logs /service/fibonacci -n 20 --query 'level:WARN AND n:[10 TO 20]'");
  log->add_option("app", a.app, "the app, such as /service/fibonacci")->required();
  log->add_flag("-f,--follow", a.follow, "go on with new lines");
  log->add_option("-n,--lines", a.lines, "how many of the newest lines first")->capture_default_str()->check(CLI::Range(0, 10'000));
  log->add_option("--query", a.query, "only lines that match, in Lucene's syntax");
  auto* inside = command(root, "exec", "a command inside a task that runs, with the task's own user, limits and files", chosen, [&a] { Session s(a.common); return exec(s, a.exec); },
                         "croft exec /service/fibonacci\n          croft exec service_fibonacci.0c6c1d0e-... ps aux\n          tar c data | croft exec /shop/db tar x\n"
                         "Without a command: a shell, on this terminal. Exit code: the command's own; 255 where the farm could not run it to its end.");
  inside->add_option("task", a.exec.task, "a task, as croft task list shows it, or an app: one of its tasks")->required();
  inside->add_option("command", a.exec.command, "the program and its words; everything after the task is the command's");
  inside->add_flag("-t,--tty", a.exec.terminal, "a terminal for the command; without it only a shell has one");
  inside->add_flag("-T,--no-tty", a.exec.no_terminal, "no terminal, for the shell neither");
  inside->add_flag("-n,--no-stdin", a.exec.no_input, "the command reads nothing; in a loop over lines of stdin it would else take the others");
  inside->add_flag("-i,--stdin", a.exec.input, "as it is anyway: for fingers that know kubectl and docker");
  inside->positionals_at_end();
  auto* why = command(root, "explain", "why an app is not (fully) running, in sentences", chosen, [&a] { Session s(a.common); return explain(s, a.app); },
                      "croft explain /service/fibonacci");
  why->add_option("app", a.app, "the app, such as /service/fibonacci")->required();
}

void add_secret_commands(CLI::App& root, Arguments& a, Action& chosen) {
  auto* secret = group(root, "secret", "values that apps get and nobody reads back");
  auto* set = command(*secret, "set", "make one, or give it another value: files in running tasks follow at once, variables at the app's next restart", chosen,
                      [&a] { Session s(a.common); return secret_set(s, a.app, a.account.path); },
                      "croft secret set /service/db-password < password.txt\nA manifest then says \"secrets\": {\"db\": {\"source\": \"/service/db-password\"}} and \"env\": {\"DB_PASSWORD\": {\"secret\": \"db\"}}");
  set->add_option("--file", a.account.path, "take this file as it is, instead of stdin without the end of its last line");
  command(*secret, "list", "all secrets that you may know of, and the apps that use them; never their values", chosen, [&a] { Session s(a.common); return secret_list(s); });
  auto* remove = command(*secret, "remove", "one that no app uses any more", chosen, [&a] { Session s(a.common); return secret_remove(s, a.app); });
  for (auto* sub : {set, remove}) sub->add_option("name", a.app, "/GROUP/NAME; apps of the group and below it may use it")->required();
}

void add_access_commands(CLI::App& root, Arguments& a, Action& chosen) {
  auto& o = a.account;
  auto* user = group(root, "user", "who may log in, and what they may do");
  auto* add = command(*user, "add", "a user; the password is asked for, or read from stdin", chosen, [&a] { Session s(a.common); return user_add(s, a.account); },
                      "croft user add ann --grant operator:/service --grant viewer:/");
  command(*user, "list", "all users", chosen, [&a] { Session s(a.common); return user_list(s); });
  auto* grant = command(*user, "grant", "what a user may do, instead of what he might before", chosen, [&a] { Session s(a.common); return user_grant(s, a.account); });
  auto* remove = command(*user, "remove", "a user, and what he logged in with", chosen, [&a] { Session s(a.common); return user_remove(s, a.account); });
  auto* passwd = command(*user, "passwd", "another password, asked for or read from stdin; without a name your own", chosen, [&a] { Session s(a.common); return user_passwd(s, a.account); });
  for (auto* sub : {add, grant, remove}) sub->add_option("name", o.name, "letters, digits, '.', '_', '-', '@'")->required();
  passwd->add_option("name", o.name, "the user");
  auto* token = group(root, "token", "what scripts log in with, and hosts join with");
  auto* create = command(*token, "create", "a bearer token, shown once", chosen, [&a] { Session s(a.common); return token_create(s, a.account); }, "croft token create --label ci --grant operator:/service --hours 720");
  command(*token, "list", "all tokens, without their secrets", chosen, [&a] { Session s(a.common); return token_list(s); });
  auto* revoke = command(*token, "revoke", "it serves no longer, from this moment", chosen, [&a] { Session s(a.common); return token_revoke(s, a.account); });
  revoke->add_option("id", o.name, "as croft token list shows it")->required();
  auto* join = command(*token, "join", "a token with which a host joins: croft join MASTER TOKEN", chosen, [&a] { Session s(a.common); return token_join(s, a.account); },
                       "croft token join --role node --role balancer --host web1");
  join->add_option("--role", o.roles, "what the host may act as; may be given several times")->required()->check(CLI::IsMember({"master", "node", "balancer", "dns", "log"}));
  join->add_option("--host", o.host, "only this host, and only once; without it any new host until the token expires");
  auto* old = command(*group(root, "migrate", "what comes along from Mesos and Marathon"), "credentials", "users from a file of Mesos's --credentials or Marathon's --http_credentials", chosen,
                      [&a] { Session s(a.common); return migrate_credentials(s, a.account); }, "croft migrate credentials /etc/mesos/credentials --grant operator:/");
  old->add_option("file", o.path, "JSON, or lines of 'principal secret' or 'user:password'; - reads stdin")->required();
  for (auto* sub : {add, grant, create, old}) sub->add_option("--grant", o.grants, "viewer, operator or admin, of all or of a group: operator:/service; may be given several times")->required();
  create->add_option("--label", o.label, "what it is for");
  for (auto* sub : {create, join}) sub->add_option("--hours", o.hours, "until it expires; of a bearer token: never, of a join token: 24")->check(CLI::Range(1, 87'840));
  auto* ca = group(root, "ca", "the CAs that this cluster's hosts trust");
  command(*ca, "show", "which there are, and which one signs", chosen, [&a] { Session s(a.common); return ca_show(s, a.account.pem); })->add_flag("--pem", o.pem, "the certificates themselves, for clients: all of them");
  auto* rotate = command(*ca, "rotate", "a new CA: announced to all hosts, then signing; the old one is trusted until its last certificate has ended", chosen,
                         [&a] { Session s(a.common); return ca_rotate(s, a.account.announce_hours); },
                         "croft ca rotate\nClients that trust a file take the new one meanwhile: croft ca show --pem > ca.pem");
  rotate->add_option("--hours", o.announce_hours, "how long it is announced before it signs; 0: at once, for when the old key is not safe any more")->capture_default_str()->check(CLI::Range(0, 2160));
  auto* out = command(*ca, "revoke", "a host that was stolen or put out: its certificates serve no longer", chosen, [&a] { Session s(a.common); return ca_revoke(s, a.account); }, "croft ca revoke web1");
  out->add_option("host", o.name, "its name in the farm")->required();
  auto* in = command(root, "login", "keep a token for this command line, in a file that only you can read", chosen, [&a] { Session s(a.common); return login(s, a.account); },
                     "croft login --url https://master1:8080 --ca ca.pem --user ann");
  in->add_option("--user", o.name, "log in as this user; the password is asked for, or read from stdin");
  in->add_flag("--with-token", o.with_token, "keep a token that is read from stdin instead");
  command(root, "logout", "end the kept token, and forget it", chosen, [&a] { return logout(a.common); });
  command(root, "whoami", "who you are for the farm, and what you may do", chosen, [&a] { Session s(a.common); return whoami(s); });
  auto* audit = root.add_subcommand("audit", "what an auditor asks of the farm that runs, by CIS items, and where it is found wanting (exit code 1)");
  audit->require_subcommand(0, 1);
  audit->fallthrough();
  audit->callback([&a, &chosen, audit] {
    if (audit->get_subcommands().empty()) chosen = [&a] { Session s(a.common); return farm_audit(s); };
  });
  auto* log = command(*audit, "log", "who changed what, when and from where: the newest changes, and attempts that were refused", chosen,
                      [&a] { Session s(a.common); return audit_log(s, a.account); }, "croft audit log -f --path /service");
  log->add_flag("-f,--follow", o.follow, "go on with new ones");
  log->add_option("-n,--lines", o.lines, "how many of the newest first")->capture_default_str()->check(CLI::Range(0, 1000));
  log->add_option("--path", o.path, "only what concerns apps at or below this one");
  log->add_option("--who", o.who, "only by those whose name holds this");
}

void add_join(CLI::App& root, Arguments& a, Action& chosen, const Programs& programs) {
  auto* join = command(root, "join", "bring this host into a cluster: its certificate, with a token of croft token join", chosen, [&a, &programs] { return programs.join(a.join); },
                       "croft join https://master1:8080 croft-join-1.…");
  join->add_option("master", a.join.master, "a master's API")->required();
  join->add_option("token", a.join.token, "the join token; - reads it from stdin")->required();
  join->add_option("--folder", a.join.folder, "where certificate and key are put, mode 0700")->default_val("/etc/croft/cluster");
  join->add_option("--host", a.join.host, "the name in the certificate; default: the token's, else this host's own");
  join->add_option("--role", a.join.roles, "only these of the token's roles")->check(CLI::IsMember({"master", "node", "balancer", "dns", "log"}));
  join->add_option("--owner", a.join.owner, owner_words);
  join->add_option("--name", a.join.names, "another name or address by which clients reach this host; may be given several times");
}

void add_store(CLI::App& root, Arguments& a, Action& chosen, const Programs& programs) {
  using Do = StoreOptions::Action;
  auto* store = group(root, "store", "the farm's store: back up, bring back, accept");
  auto add = [&](const char* name, const char* help, Do action) {
    auto* sub = command(*store, name, help, chosen, [&a, &programs, action] {
      a.store.action = action;
      return programs.store(a.store);
    });
    sub->add_option("--config", a.store.config_file, "the master's croft.toml")->default_val("/etc/croft/croft.toml");
    return sub;
  };
  add("save", "the whole store into one file; changes nothing", Do::save)->add_option("file", a.store.file)->required();
  auto* restore = add("restore", "fills a store from such a file, far enough ahead that nodes take it", Do::restore);
  restore->add_option("file", a.store.file)->required();
  restore->add_flag("--replace", a.store.replace, "in the place of what the store holds");
  auto* accept = add("accept", "makes nodes take this store though they have seen a later or another one", Do::accept);
  accept->add_option("--cluster", a.store.cluster, "the cluster id that the nodes name in their refusal");
  for (auto* sub : {restore, accept}) {
    sub->add_option("--epoch", a.store.epoch, "at least this epoch");
    sub->add_option("--commit", a.store.commit, "at least this commit");
  }
}

void add_init(CLI::App& root, Arguments& a, Action& chosen, const Programs& programs) {
  auto* init = command(root, "init", "make a cluster's CA, its keys and the first operator's token; never overwrites", chosen, [&] { return programs.init(a.init); });
  init->add_option("--folder", a.init.folder, "where they are put, mode 0700")->default_val("/etc/croft/cluster");
  init->add_option("--cluster", a.init.cluster, "the cluster's name; default: a random one");
  init->add_option("--host", a.init.host, "the name in this host's certificate; default: its own");
  init->add_option("--role", a.init.roles, "what this host may act as; may be given several times")->default_val("master")->check(CLI::IsMember({"master", "node", "balancer", "dns", "log"}));
  init->add_option("--name", a.init.names, "another name or address of this host; may be given several times");
  init->add_option("--owner", a.init.owner, owner_words);
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
  auto* down = command(root, "down", "end what a farm's folder holds: croft dev's process, every task and container, HAProxy; roles of croft serve are to be stopped first", chosen, [&] { return programs.down(a.dev.data); });
  down->add_option("--data", a.dev.data, "the farm's folder")->required();
  auto* serve = command(root, "serve", "one role of a farm, as a systemd unit runs it", chosen, [&] { return programs.serve(a.serve); });
  serve->add_option("--role", a.serve.role, "master, node, balancer, dns or log")->required()->check(CLI::IsMember({"master", "node", "balancer", "dns", "log"}));
  serve->add_option("--config", a.serve.config_file, "croft.toml")->default_val("/etc/croft/croft.toml");
  auto* end = command(root, "end-session", "end the ZooKeeper session of this host's dead master (its unit does this)", chosen, [&] { return programs.end_session(a.serve.config_file); });
  end->add_option("--config", a.serve.config_file, "croft.toml")->default_val("/etc/croft/croft.toml");
  auto* check = command(*group(root, "config", "croft.toml"), "check", "explain every mistake in a configuration, with file and line", chosen, [&] { return programs.config_check(a.serve.config_file, a.zoo_cfg); });
  check->add_option("file", a.serve.config_file, "croft.toml")->default_val("/etc/croft/croft.toml");
  check->add_option("--zookeeper", a.zoo_cfg, "configuration of the ZooKeeper server on this host, if there is one")->default_val("/etc/zookeeper/conf/zoo.cfg");
  auto* sim = command(root, "sim", "the farm's cores under a virtual clock and a bad network", chosen, [&] { return programs.sim(a.sim); });
  sim->add_option("--seed", a.sim.seed, "first seed")->capture_default_str();
  sim->add_option("--seeds", a.sim.seeds, "how many seeds")->capture_default_str();
  sim->add_option("--minutes", a.sim.minutes, "virtual minutes a seed")->capture_default_str();
  sim->add_option("--bug", a.sim.bug, "plant a bug, which must be found; \"list\" names them");
  sim->add_option("--check", a.sim.check, "only this check counts: C1 to C13")->check(CLI::IsMember([] {
    std::vector<std::string> ids;
    for (int n = 1; n <= 13; ++n) ids.push_back("C" + std::to_string(n));
    return ids;
  }()));
  sim->add_flag("--keep-going", a.sim.keep_going, "a line for each failing seed instead of an end at the first");
  sim->add_flag("--scale", a.sim.scale, "a fail-over with many agents and tasks instead: CPU time and memory");
  sim->add_option("--agents", a.sim.agents, "agents of --scale")->capture_default_str();
  sim->add_option("--tasks", a.sim.tasks, "tasks of --scale")->capture_default_str();
}

/// Help goes to stdout and is no failure. A group without its subcommand gets its help instead of a complaint.
int tell_parse_error(CLI::App& root, const CLI::ParseError& e) {
  auto unknown = root.remaining(true);
  // `croft frob --help`: help of what is not there is no help.
  auto stray = std::find_if(unknown.begin(), unknown.end(), [](const std::string& word) { return !word.starts_with('-'); });
  if (e.get_exit_code() == 0 && stray == unknown.end()) return root.exit(e), ok;
  CLI::App* at = &root;
  std::string name;  // of what was called: "croft app deploy"
  for (;;) {
    name += (name.empty() ? "" : " ") + at->get_name();
    if (at->get_subcommands().empty()) break;
    at = at->get_subcommands().front();
  }
  auto parent = name.size() > at->get_name().size() ? name.substr(0, name.size() - at->get_name().size() - 1) : "";
  bool bare = e.get_name() == "RequiredError" && at->get_require_subcommand_min() > 0;
  if (e.get_exit_code() == 0) return std::fprintf(stderr, "croft: '%s' is not known to %s\nSee: %s --help\n", stray->c_str(), name.c_str(), name.c_str()), usage;
  if (bare && unknown.empty()) std::fprintf(stderr, "%s", at->help(parent).c_str());
  else if (bare) std::fprintf(stderr, "croft: '%s' is not a subcommand of %s\nSee: %s --help\n", unknown[0].c_str(), name.c_str(), name.c_str());
  else std::fprintf(stderr, "croft: %s\nSee: %s --help\n", e.what(), name.c_str());
  return usage;
}

}  // namespace

int run(int argc, char** argv, const Programs& programs) {
  Arguments a;
  Action chosen;
  CLI::App root{"croft: a few Linux servers as one computer that runs services", "croft"};
  root.require_subcommand(1);
  root.set_version_flag("--version", "croft " + programs.version);
  root.set_help_all_flag("--help-all", "help of all subcommands");
  root.footer("Exit codes: 0 done, 1 failed, 2 wrong usage or manifest, 3 not found, 4 locked by a deployment, 5 no farm answers, 6 timed out.");
  auto* url = root.add_option("--url", a.common.url, "a master's API")->envname("CROFT_URL")->capture_default_str();
  auto* logs_url = root.add_option("--logs-url", a.common.logs_url, "the log host's API")->envname("CROFT_LOGS_URL")->capture_default_str();
  root.add_option("--ca", a.common.ca, "the CAs to trust; default: those of the login, or of this host's cluster")->envname("CROFT_CA");
  root.add_option("--token-file", a.common.token_file, "a bearer token's file; default: CROFT_TOKEN, or the login's");
  root.add_flag("--json", a.common.json, "print the API's JSON instead of tables");
  root.add_flag("-q,--quiet", a.common.quiet, "no progress on stderr");
  auto* balancer_url = root.add_option("--balancer-url", a.common.balancer_url, "a balancer's API, for rules")->envname("CROFT_BAMBOO_URL")->capture_default_str();
  add_app_commands(root, a, chosen);
  add_rule_commands(root, a, chosen);
  add_farm_commands(root, a, chosen);
  add_programs(root, a, chosen, programs);
  add_store(root, a, chosen, programs);
  add_init(root, a, chosen, programs);
  add_join(root, a, chosen, programs);
  add_access_commands(root, a, chosen);
  add_secret_commands(root, a, chosen);
  command(root, "version", "this program's version", chosen, [&] {
    std::printf(a.common.json ? "{\"version\":\"%s\"}\n" : "croft %s\n", programs.version.c_str());
    return ok;
  });
  try {
    root.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return tell_parse_error(root, e);
  }
  a.common.url_given = url->count() > 0, a.common.logs_url_given = logs_url->count() > 0, a.common.balancer_url_given = balancer_url->count() > 0;
  try {
    return chosen();
  } catch (const Ended& e) {
    std::fprintf(stderr, "croft: %s\n", ::isatty(STDERR_FILENO) == 1 ? inert(e.text, true).c_str() : e.text.c_str());
    return e.code;
  }
}

}  // namespace croft::cli
