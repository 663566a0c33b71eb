#include "agent/docker_runtime.hpp"

#include <boost/asio/strand.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <mutex>

#include "agent/child.hpp"
#include "agent/docker_engine.hpp"
#include "agent/run_folder.hpp"
#include "agent/usage.hpp"
#include "agent/volume_folders.hpp"
#include "base/files.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "net/async.hpp"

namespace croft::agent {

namespace {

std::string container_of(const TaskSpec& spec) { return "croft-" + spec.id.str(); }

/// One pull that several launches may wait for: a hundred instances of an app ask the registry once.
struct Pull {
  std::shared_ptr<net::Signal> signal = net::Signal::make();
  std::mutex mutex;
  std::optional<Status> result;
  std::string progress;
};

class DockerRuntime final : public Runtime {
 public:
  DockerRuntime(asio::any_io_executor executor, DockerOptions options) : executor_(executor), options_(std::move(options)), engine_(executor, options_.socket) {}

  /// What is fetched is written as nobody: an archive's links lead nowhere that matters. Processes are the image's user's.
  Result<std::optional<Owner>> owner(const TaskSpec& spec) const override {
    if (spec.fetch.empty() || ::geteuid() != 0) return std::nullopt;
    auto user = user_named("nobody");
    if (!user) return fail(std::move(user).error());
    return *user;
  }

  std::string secrets_at(const fs::path&) const override { return std::string(secrets_inside); }

  asio::awaitable<Result<ExecPlan>> prepare(Launch launch, Progress progress) override {
    const auto& spec = launch.spec;
    if (auto problems = check_policy(*spec.docker, spec.volumes, policy_at(options_.policy, spec.app.str(), true)); !problems.empty()) co_return fail(Errc::forbidden, "{}", problems[0].words);
    if (auto problems = check_probes(spec.health_checks, own_ports(spec), policy_at(options_.policy, spec.app.str(), true)); !problems.empty()) co_return fail(Errc::forbidden, "{}", problems[0].words);
    auto ready = co_await have_image(launch, progress);
    if (!ready) co_return fail(std::move(ready).error());
    auto host = options_.host;
    host.init = init_;
    auto own = co_await own_command(launch);
    if (!own) co_return fail(std::move(own).error());
    auto settled = settle_volumes(spec.volumes, launch.sandbox, policy_at(options_.policy, spec.app.str(), true).host_paths);
    if (!settled) co_return fail(std::move(settled).error());
    auto with_paths = launch;
    with_paths.spec.volumes = std::move(*settled);
    auto body = create_request(with_paths, host, *own);
    if (!body) co_return fail(std::move(body).error());
    auto name = container_of(spec);
    auto text = boost::json::serialize(*body);
    auto made = co_await engine_.create(name, text);
    if (!made && made.error().code == Errc::conflict) {  // left over from an earlier attempt at this very task
      (void)co_await engine_.remove(name);
      made = co_await engine_.create(name, text);
    }
    if (!made) co_return fail(made.error().code, "the container cannot be made: {}", made.error().context);
    ExecPlan plan;
    plan.dir = launch.sandbox.string();
    plan.grace = spec.kill_grace.value_or(Millis(3000));
    plan.docker_socket = options_.socket;
    plan.container = name;
    co_return plan;
  }

  asio::awaitable<Result<int>> run_inside(Launch launch, std::string command, Millis limit) override {
    std::vector<std::string> shell;
    shell.emplace_back("/bin/sh"), shell.emplace_back("-c"), shell.push_back(std::move(command));
    auto job = run_child(inside(launch, std::move(shell), std::string()), limit);
    co_return co_await std::move(job);
  }

  std::vector<std::string> inside(const Launch& launch, std::vector<std::string> command, const std::string& terminal) const override {
    if (has_variables(launch.spec)) command = with_secrets(std::move(command));
    return way_in(options_.host.executor, launch.run, std::move(command), terminal);
  }

  Usage usage(const Launch& launch) override {
    auto started = read_started(launch.run);
    auto u = started ? usage_of_process(started->pid) : Usage{};
    u.memory_limit = static_cast<std::uint64_t>(launch.spec.resources.mem) * 1024 * 1024 / 1000;
    return u;
  }

  asio::awaitable<std::optional<std::string>> address(Launch launch) override {
    auto found = co_await engine_.inspect(container_of(launch.spec));
    if (!found) co_return std::nullopt;
    const auto* settings = json::find(*found, "NetworkSettings");
    if (!settings) co_return std::nullopt;
    auto ip = json::text(*settings, "IPAddress");
    for (const auto& [name, network] : json::members(*settings, "Networks"))
      if (ip.empty()) ip = json::text(network, "IPAddress");
    if (ip.empty()) co_return std::nullopt;
    co_return ip;
  }

  asio::awaitable<void> cleanup(Launch launch) override {
    auto ok = co_await engine_.remove(container_of(launch.spec));
    if (!ok) log::warn("agent", "task={} its container stays for now: {}", launch.spec.id, ok.error().context);
  }

  bool outlives_executor() const override { return true; }

  asio::awaitable<bool> available() override {
    auto found = co_await engine_.info();
    if (found && !was_there_) {
      log::info("agent", "Docker Engine {} at {}", found->version, options_.socket);
      if (!found->live_restore) log::warn("agent", "the Docker Engine has no live-restore: its restart ends every container. Set \"live-restore\": true in /etc/docker/daemon.json");
      init_ = found->init;
    } else if (!found && was_there_) {
      log::warn("agent", "{}", found.error().context);
    }
    was_there_ = found.has_value();
    if (found) facts_ = std::move(found->facts);
    co_return was_there_;
  }
  std::vector<std::string> facts() const override { return facts_; }

  asio::awaitable<void> reap(std::set<TaskId> known) override {
    auto found = co_await engine_.list("croft.node=" + options_.host.node);
    if (!found) co_return;
    for (const auto& c : *found) {
      if (known.contains(TaskId(c.task))) continue;
      log::warn("agent", "task={} is a container that no run folder knows: removed", c.task);
      (void)co_await engine_.remove(c.name);
    }
  }

 private:
  static bool has_variables(const TaskSpec& spec) {
    return std::any_of(spec.secrets.begin(), spec.secrets.end(), [](const SecretUse& use) { return !use.env.empty(); });
  }
  /// What the image runs, where it is to be wrapped.
  asio::awaitable<Result<ImageCommand>> own_command(const Launch& launch) {
    if (!has_variables(launch.spec)) co_return ImageCommand();
    auto image = co_await engine_.image(launch.spec.docker->image);
    if (!image) co_return fail(std::move(image).error());
    co_return image_command(*image);
  }
  asio::awaitable<Status> have_image(const Launch& launch, const Progress& progress) {
    const auto& image = launch.spec.docker->image;
    if (!launch.spec.docker->force_pull) {
      auto there = co_await engine_.has_image(image);
      if (!there) co_return fail(std::move(there).error());
      if (*there) co_return Status{};
    }
    auto name = parse_image(image);
    auto auth = registry_auth(launch.sandbox, name, options_.config);
    if (!auth) co_return fail(std::move(auth).error());
    auto pull = joined_pull(name, *auth);
    std::string told;
    for (;;) {
      auto ticket = pull->signal->ticket();
      std::optional<Status> result;
      std::string now;
      {
        std::lock_guard guard(pull->mutex);
        result = pull->result;
        now = pull->progress;
      }
      if (result && *result) co_return Status{};
      if (result) co_return fail(result->error().code, "pull of {}: {}", image, result->error().context);
      if (now != told) progress(told = now);
      (void)co_await pull->signal->wait(ticket, Millis(1000));
    }
  }

  std::shared_ptr<Pull> joined_pull(const ImageName& name, const std::optional<std::string>& auth) {
    auto key = name.name + "\n" + name.tag + "\n" + auth.value_or("");
    std::lock_guard guard(mutex_);
    auto& slot = pulls_[key];
    if (auto running = slot.lock()) {
      std::lock_guard inner(running->mutex);
      if (!running->result) return running;
    }
    auto pull = std::make_shared<Pull>();
    pull->progress = PullProgress().text(name.name + ":" + name.tag);
    slot = pull;
    std::erase_if(pulls_, [](const auto& e) { return e.second.expired(); });
    auto job = carry_out(pull, name, auth);
    net::spawn(executor_, "pull", std::move(job));
    return pull;
  }

  asio::awaitable<void> carry_out(std::shared_ptr<Pull> pull, ImageName name, std::optional<std::string> auth) {
    constexpr std::chrono::milliseconds pace{500};
    auto sums = std::make_shared<PullProgress>();
    auto last = std::make_shared<std::chrono::steady_clock::time_point>();
    auto shown = name.name + ":" + name.tag;
    std::function<Status(const boost::json::value&)> line = [=](const boost::json::value& v) -> Status {
      auto ok = sums->take(v);
      auto now = std::chrono::steady_clock::now();
      if (!ok || now - *last < pace) return ok;
      *last = now;
      {
        std::lock_guard guard(pull->mutex);
        pull->progress = sums->text(shown);
      }
      pull->signal->notify();
      return ok;
    };
    auto until = std::chrono::steady_clock::now() + options_.pull_limit;
    Status done;
    for (;;) {
      auto left = std::chrono::duration_cast<Millis>(until - std::chrono::steady_clock::now());
      done = co_await engine_.pull(name.name, name.tag, auth, std::max(left, Millis(1)), line);
      if (done || done.error().code != Errc::unavailable || left <= Millis(0)) break;
      // The Engine went away in the middle; what it has of the layers it keeps.
      {
        std::lock_guard guard(pull->mutex);
        pull->progress = fmt::format("pulling {}: waiting for the Docker Engine", shown);
      }
      pull->signal->notify();
      co_await net::sleep_for(std::chrono::milliseconds(1000));
      *sums = PullProgress();
    }
    {
      std::lock_guard guard(pull->mutex);
      pull->result = std::move(done);
    }
    pull->signal->notify();
  }

  asio::any_io_executor executor_;
  DockerOptions options_;
  DockerEngine engine_;
  std::atomic<bool> was_there_{false}, init_{false};
  std::vector<std::string> facts_;  // of the agent's strand
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Pull>> pulls_;
};

}  // namespace

std::unique_ptr<Runtime> make_docker_runtime(asio::any_io_executor executor, DockerOptions options) { return std::make_unique<DockerRuntime>(executor, std::move(options)); }

}  // namespace croft::agent
