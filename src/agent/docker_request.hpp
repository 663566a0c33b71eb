#pragma once
// What the Docker Engine is asked for a task, as data. Pure. Source: Docker Engine API 1.41.

#include <boost/json/object.hpp>

#include <optional>
#include <string>
#include <vector>

#include "agent/runtime.hpp"
#include "model/task_policy.hpp"

namespace croft::agent {

struct DockerHost {
  std::string farm;                            ///< label croft.farm
  std::string node;                            ///< label croft.node: whose containers these are
  std::string hostname, address;               ///< what HOST is resolved to inside
  std::vector<std::string> publish;            ///< addresses that ports are published on; none: all
  bool init = false;                           ///< the Engine has an init of its own
  std::string executor;                        ///< the croft-executor program: brings secrets into the environment inside a container
};

/// What an image runs by itself.
struct ImageCommand {
  std::vector<std::string> entrypoint, cmd;
};
/// From the Engine's description of an image.
ImageCommand image_command(const boost::json::value& image);

/// Where a container sees the folder of its secrets, and the program that puts them into the environment.
inline constexpr std::string_view secrets_inside = "/mnt/mesos/secrets", executor_inside = "/mnt/mesos/croft-executor";
/// `words` with the variables of the task's secrets, in a container whose task has some.
std::vector<std::string> with_secrets(std::vector<std::string> words);

struct ImageName {
  std::string name, tag;                       ///< tag or digest ("sha256:…"); "latest" when none is given
  std::string registry;                        ///< "docker.io" when none is given
  bool operator==(const ImageName&) const = default;
};
ImageName parse_image(std::string_view image);

/// Body of POST /containers/create. `own` is asked only where secrets are variables: then the command is wrapped. Errors: invalid, naming the parameter.
Result<boost::json::object> create_request(const Launch& launch, const DockerHost& host, const ImageCommand& own = {});

/// X-Registry-Auth for the image's registry, from a docker configuration in the sandbox (".docker/config.json" or ".dockercfg", as the
/// app's uris brought it), else from the node's own file, where there is one. Nothing when none names the registry. Errors: invalid, io, naming the file.
Result<std::optional<std::string>> registry_auth(const std::filesystem::path& sandbox, const ImageName& image, const std::filesystem::path& own = {});

/// Sums up a pull's progress lines for people.
class PullProgress {
 public:
  /// A line of the Engine's answer; an error ends the pull.
  Status take(const boost::json::value& line);
  [[nodiscard]] std::string text(std::string_view image) const;   ///< "pulling x: 12 of 40 MB, 3 of 5 layers done"

 private:
  struct Layer { std::int64_t done = 0, total = 0; bool over = false; };
  std::map<std::string, Layer> layers_;
};

}  // namespace croft::agent
