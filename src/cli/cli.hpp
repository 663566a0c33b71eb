#pragma once
// The command line: subcommands that are clients of the HTTP API, and the two that start the farm (given by main).

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace croft::cli {

/// What scripts can rely on.
enum ExitCode : int {
  ok = 0,
  failed = 1,        ///< it was tried and did not work out (a deployment failed, the farm refused)
  usage = 2,         ///< the command line or a file given is wrong
  not_found = 3,
  conflict = 4,      ///< locked by a deployment
  unreachable = 5,   ///< no farm answers at the address
  timed_out = 6,
};

struct DevOptions {
  std::filesystem::path data;                 ///< state of the farm; made when missing
  std::string address = "127.0.0.1";
  std::string docker_socket = "/var/run/docker.sock";
  std::string bridge_address;                 ///< "": found out
  std::string config_file;
  bool no_docker = false;
  std::string log_level = "info", log_file;
};

struct ServeOptions {
  std::string role;                           ///< master, node, balancer, dns, log
  std::string config_file;
};

struct SimOptions {
  std::uint64_t seed = 1, seeds = 1;
  double minutes = 10;
  std::string bug;
  std::string check;                          ///< the only check that counts ("C13"); "": all
  bool keep_going = false;                    ///< a line for each failing seed instead of an end at the first
  bool scale = false;                         ///< a fail-over at size instead of seeds
  std::uint32_t agents = 10'000, tasks = 100'000;
};

struct StoreOptions {
  enum class Action : std::uint8_t { save, restore, accept } action{};
  std::string config_file, cluster;
  std::filesystem::path file;
  std::uint64_t epoch = 0, commit = 0;        ///< at least these
  bool replace = false;                       ///< restore: what is there goes
};

struct InitOptions {
  std::filesystem::path folder;
  std::string cluster;                        ///< "": a random one
  std::string host;                           ///< "": this host's name
  std::string owner;                          ///< whose the files are; "": croft's, where root makes them and there is such a user
  std::vector<std::string> roles, names;
};

struct JoinOptions {
  std::filesystem::path folder;
  std::string master, token, host, owner;
  std::vector<std::string> roles, names;
};

struct Programs {
  std::function<int(const JoinOptions&)> join;
  std::function<int(const InitOptions&)> init;
  std::function<int(const SimOptions&)> sim;
  std::function<int(const std::filesystem::path& data)> down;
  std::function<int(const DevOptions&)> dev;
  std::function<int(const ServeOptions&)> serve;
  std::function<int(const std::filesystem::path& file, const std::filesystem::path& zoo_cfg)> config_check;
  std::function<int(const std::filesystem::path& file)> end_session;
  std::function<int(const StoreOptions&)> store;
  std::string version;
};

/// Parses the arguments and runs the subcommand. Returns the process's exit code.
int run(int argc, char** argv, const Programs& programs);

}  // namespace croft::cli
