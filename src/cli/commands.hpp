#pragma once
// The subcommands that talk to a farm. Each prints to stdout and gives an exit code, or throws Ended. Private to cli.

#include <chrono>
#include <string>
#include <vector>

#include "cli/session.hpp"

namespace croft::cli {

/// Of every command that changes something.
struct ChangeOptions {
  bool force = false, no_wait = false;
  int limit_s = 300;
};

struct DeployOptions {
  std::string file;                       ///< "-" for stdin
  std::vector<std::string> values;        ///< name=value for {{name}} in the file
  ChangeOptions change;
};

int app_deploy(Session& s, const DeployOptions& o);
int app_list(Session& s);
int app_show(Session& s, const std::string& id);
int app_scale(Session& s, const std::string& id, int instances, const ChangeOptions& o);
int app_restart(Session& s, const std::string& id, const ChangeOptions& o);
int app_remove(Session& s, const std::string& id, const ChangeOptions& o);
int app_versions(Session& s, const std::string& id);
/// To `version`, or to the one before the present.
int app_rollback(Session& s, const std::string& id, const std::string& version, const ChangeOptions& o);
int rule_list(Session& s);
int rule_set(Session& s, const std::string& id, const std::string& acl);
int rule_remove(Session& s, const std::string& id);
int task_list(Session& s, const std::string& app);
int node_list(Session& s);
/// To "draining", "active" or "down". Of draining it waits until the node is empty.
int node_change(Session& s, const std::string& node, const std::string& mode, const ChangeOptions& o);
/// Ends these tasks; their apps replace them.
int task_kill(Session& s, const std::vector<std::string>& ids);
int deployment_list(Session& s);
int deployment_rollback(Session& s, const std::string& id, const ChangeOptions& o);
int logs(Session& s, const std::string& app, bool follow, int lines, const std::string& query);
int explain(Session& s, const std::string& app);

struct ExecOptions {
  std::string task;                       ///< its id, or an app's: then one of its tasks
  std::vector<std::string> command;       ///< "": a shell
  bool terminal = false, no_terminal = false, no_input = false;
  bool input = true;                      ///< said by those who are used to say it
};
/// Ends this process: with the command's own exit code, or 255 when the farm could not run it to its end. Returns never; Ended before it began.
int exec(Session& s, const ExecOptions& o);

struct AccountOptions {
  std::string name, label, path, who, host;
  std::vector<std::string> grants, roles;
  int hours = 0, lines = 50, announce_hours = 168;
  bool pem = false;
  bool follow = false, with_token = false;
};
int user_add(Session& s, const AccountOptions& o);
int user_list(Session& s);
int user_grant(Session& s, const AccountOptions& o);
int user_remove(Session& s, const AccountOptions& o);
/// Of `name`, or without it the caller's own.
int user_passwd(Session& s, const AccountOptions& o);
/// A user for each credential of Mesos's or Marathon's in the file `path`; who is there already is left alone.
int migrate_credentials(Session& s, const AccountOptions& o);
/// One line of stdin; at a terminal it is asked for and not shown. Throws Ended when it is empty.
std::string secret_line(const char* what);

/// The value from `file`, as it is; without one from stdin, less the end of its last line.
int secret_set(Session& s, const std::string& name, const std::string& file);
int secret_list(Session& s);
int secret_remove(Session& s, const std::string& name);

int token_create(Session& s, const AccountOptions& o);
int token_list(Session& s);
int token_revoke(Session& s, const AccountOptions& o);
/// A token with which a host joins.
int token_join(Session& s, const AccountOptions& o);
/// With a name and its password, or with a token that is read from stdin; kept in login_file().
/// The cluster's CAs, and which one signs.
int ca_show(Session& s, bool pem);
/// A new CA, known to all hosts for so many hours before it signs.
int ca_rotate(Session& s, int hours);
int ca_revoke(Session& s, const AccountOptions& o);
int login(Session& s, const AccountOptions& o);
/// The kept token is ended at its farm, and forgotten here.
int logout(const Common& common);
int whoami(Session& s);
int audit_log(Session& s, const AccountOptions& o);
/// What an auditor asks of a running farm, and where it is found wanting; `failed` when it is.
int farm_audit(Session& s);

/// Waits until a deployment is over and shows how it goes on stderr. Throws Ended when it is not over in time.
void await_deployment(Session& s, const std::string& deployment, const std::string& app, int limit_s);
/// Fills {{name}} in; throws Ended for a name without a value and a value without a name.
std::string fill_in(std::string text, const std::vector<std::string>& values, const std::string& file);
/// "service/fibonacci" and "/service/fibonacci" to the latter.
std::string absolute(std::string_view id);

}  // namespace croft::cli
