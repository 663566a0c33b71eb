#include "agent/docker_engine.hpp"

#include <signal.h>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "model/link.hpp"
#include "net/async.hpp"

namespace croft::agent {

namespace {

constexpr Millis quick{5'000}, slow{60'000};  // the Engine under load: 15 s for a start were seen
constexpr std::size_t answer_max = 16u << 20;

Error refused(const net::Response& response) {
  auto parsed = json::parse(response.body);
  auto words = parsed ? json::text(*parsed, "message") : std::string();
  if (words.empty()) words = fmt::format("the Docker Engine answered {}", response.status);
  auto code = response.status == 404 ? Errc::not_found : response.status == 409 ? Errc::conflict : response.status < 500 ? Errc::invalid : Errc::io;
  return {code, std::move(words)};
}

}  // namespace

DockerEngine::DockerEngine(asio::any_io_executor executor, std::string socket) : client_(executor), origin_{.host = "docker", .port = 80, .unix_path = std::move(socket)} {}

asio::awaitable<Result<net::Response>> DockerEngine::call(std::string method, std::string target, std::string body, Millis limit) {
  net::Request request;
  request.method = std::move(method);
  request.target = "/v1.41" + target;
  request.body = std::move(body);
  if (!request.body.empty()) request.headers.set("Content-Type", "application/json");
  net::ClientOptions options;
  options.timeout = limit;
  options.body_max = answer_max;
  options.keep_alive = false;  // a connection that an Engine's restart has cut must not be met again
  auto response = co_await client_.request(origin_, std::move(request), options);
  if (!response) co_return fail(response.error().code, "the Docker Engine at {} does not answer: {}", origin_.unix_path, response.error().context);
  if (response->status >= 400) co_return fail(refused(*response));
  co_return std::move(*response);
}

/// What an auditor asks of an Engine, of all that it says.
static std::vector<std::string> facts_of(const boost::json::value& info) {
  std::vector<std::string> out;
  if (json::boolean(info, "LiveRestoreEnabled")) out.emplace_back("live-restore");
  if (json::boolean(info, "ExperimentalBuild")) out.emplace_back("experimental");
  if (json::text(info, "Driver") == "aufs") out.emplace_back("aufs");
  for (const auto& option : json::list(info, "SecurityOptions"))
    if (option.is_string())
      for (std::string_view known : {"userns", "no-new-privileges", "seccomp", "rootless"})
        if (std::string_view text = option.get_string(); text == fmt::format("name={}", known) || text.starts_with(fmt::format("name={},", known))) out.emplace_back(known);
  if (const auto* registries = json::find(info, "RegistryConfig"))
    for (const auto& [name, index] : json::members(*registries, "IndexConfigs"))
      if (!json::boolean(index, "Secure", true) && out.size() < link::engine_facts_max) out.push_back(fmt::format("insecure-registry={}", std::string_view(name).substr(0, 200)));
  return out;
}

asio::awaitable<Result<DockerEngine::Info>> DockerEngine::info() {
  auto response = co_await call("GET", "/info", {}, quick);
  if (!response) co_return fail(std::move(response).error());
  auto parsed = json::parse(response->body);
  if (!parsed) co_return fail(std::move(parsed).error());
  Info info{json::text(*parsed, "ServerVersion"), json::boolean(*parsed, "LiveRestoreEnabled"), !json::text(*parsed, "InitBinary").empty()};
  info.facts = facts_of(*parsed);
  co_return info;
}

asio::awaitable<Result<boost::json::value>> DockerEngine::image(std::string name) {
  auto response = co_await call("GET", "/images/" + name + "/json", {}, slow);
  if (!response) co_return fail(std::move(response).error());
  co_return json::parse(response->body);
}

asio::awaitable<Result<bool>> DockerEngine::has_image(std::string image) {
  auto response = co_await call("GET", "/images/" + image + "/json", {}, slow);
  if (response) co_return true;
  if (response.error().code == Errc::not_found) co_return false;
  co_return fail(std::move(response).error());
}

asio::awaitable<Status> DockerEngine::pull(std::string name, std::string tag, std::optional<std::string> auth, Millis limit, std::function<Status(const boost::json::value&)> line) {
  auto until = std::chrono::steady_clock::now() + limit;
  net::Request request;
  request.method = "POST";
  request.target = fmt::format("/v1.41/images/create?fromImage={}&tag={}", url_encode(name), url_encode(tag));
  if (auth) request.headers.set("X-Registry-Auth", *auth);
  net::ClientOptions options;
  options.timeout = options.idle_timeout = limit;
  options.keep_alive = false;
  auto stream = co_await client_.open(origin_, std::move(request), options);
  if (!stream) co_return fail(stream.error().code, "the Docker Engine does not answer: {}", stream.error().context);
  auto& reader = **stream;
  // The reader's deadline is one of silence; the pull's own is of the whole.
  asio::steady_timer timer(co_await asio::this_coro::executor, until);
  std::weak_ptr<net::StreamReader> weak;
  std::shared_ptr<net::StreamReader> held = std::move(*stream);
  weak = held;
  timer.async_wait([weak](boost::system::error_code ec) {
    if (auto alive = weak.lock(); alive && !ec) alive->cancel();
  });
  std::string whole;
  for (;;) {
    auto text = co_await reader.read_line(1 << 20);
    if (std::chrono::steady_clock::now() >= until) co_return fail(Errc::timeout, "took longer than {} s", limit.count() / 1000);
    if (!text) co_return fail(text.error().code, "the Docker Engine broke off: {}", text.error().context);
    if (!*text) break;
    if (reader.head().status >= 400) {
      whole += **text;
      continue;
    }
    auto parsed = json::parse(**text);
    if (!parsed) continue;
    if (auto ok = line(*parsed); !ok) co_return ok;
  }
  if (reader.head().status < 400) co_return Status{};
  net::Response response;
  response.status = reader.head().status;
  response.body = whole;
  co_return fail(refused(response));
}

asio::awaitable<Status> DockerEngine::create(std::string name, std::string body) {
  auto response = co_await call("POST", "/containers/create?name=" + url_encode(name), std::move(body), slow);
  if (!response) co_return fail(std::move(response).error());
  co_return Status{};
}

asio::awaitable<Result<boost::json::value>> DockerEngine::inspect(std::string name) {
  auto response = co_await call("GET", "/containers/" + name + "/json", {}, slow);
  if (!response) co_return fail(std::move(response).error());
  co_return json::parse(response->body);
}

asio::awaitable<Status> DockerEngine::remove(std::string name) {
  auto response = co_await call("DELETE", "/containers/" + name + "?force=1&v=1", {}, slow);
  if (response || response.error().code == Errc::not_found) co_return Status{};
  co_return fail(std::move(response).error());
}

asio::awaitable<Result<std::vector<DockerEngine::Container>>> DockerEngine::list(std::string label) {
  JsonWriter filter;
  filter.begin_object().key("label").begin_array().value(label).end_array().end_object();
  auto response = co_await call("GET", "/containers/json?all=1&filters=" + url_encode(filter.str()), {}, slow);
  if (!response) co_return fail(std::move(response).error());
  auto parsed = json::parse(response->body);
  if (!parsed) co_return fail(std::move(parsed).error());
  std::vector<Container> out;
  if (parsed->is_array())
    for (const auto& c : parsed->get_array()) out.push_back({json::text(c, "Id"), json::find(c, "Labels") ? json::text(*json::find(c, "Labels"), "croft.task") : ""});
  co_return out;
}

}  // namespace croft::agent
