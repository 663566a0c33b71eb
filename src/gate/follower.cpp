#include "gate/follower.hpp"

#include <boost/asio/awaitable.hpp>

#include <algorithm>
#include <atomic>
#include <utility>

#include "base/files.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "net/async.hpp"
#include "secure/accounts.hpp"

namespace croft::gate {

namespace asio = boost::asio;

namespace {

constexpr std::size_t copy_max = 32u << 20;
constexpr Millis pause_min{200}, pause_max{5'000}, connect_limit{1'000}, wait_limit{40'000};

}  // namespace

Result<AccessCopy> read_access_copy(std::string_view text) {
  if (text.size() > copy_max) return fail(Errc::too_large, "users and tokens: {} bytes", text.size());
  auto parsed = json::parse(text);
  if (!parsed || !parsed->is_object()) return fail(Errc::corrupt, "users and tokens: not JSON");
  if (json::integer(*parsed, "format") != 1) return fail(Errc::invalid, "users and tokens: format {} is not known here", json::integer(*parsed, "format"));
  const auto* content = json::find(*parsed, "content");
  if (!content || !content->is_object()) return fail(Errc::corrupt, "users and tokens: content");
  auto table = [&](std::string_view key) {
    std::map<std::string, std::string> out;
    for (const auto& member : json::members(*content, key))
      out.emplace(fmt::format("{}/{}", key, std::string_view(member.key())), member.value().is_string() ? std::string(member.value().get_string()) : std::string());
    return out;
  };
  auto accounts = secure::Accounts::load(table("users"), table("tokens"), table("revoked"));
  if (!accounts) return fail(std::move(accounts).error());
  return AccessCopy{json::text(*parsed, "version"), json::text(*content, "bundle"), json::text(*content, "signing"), std::move(*accounts)};
}

struct AccessFollower::Impl : std::enable_shared_from_this<AccessFollower::Impl> {
  Impl(asio::any_io_executor e, FollowerOptions o) : executor(e), client(e), options(std::move(o)) {}

  void restore() {
    auto text = read_file(options.saved, copy_max);
    if (!text) return;
    auto copy = read_access_copy(*text);
    if (!copy) return log::warn("gate", "{}: {}", options.saved.string(), copy.error().context);
    version = copy->version;
    options.changed(*copy);
  }

  asio::awaitable<bool> ask(net::Origin master) {
    net::Request request;
    request.method = "GET";
    request.target = "/croft/v1/access?after=" + version;
    net::ClientOptions how;
    how.connect_timeout = connect_limit;
    how.timeout = wait_limit;
    how.body_max = copy_max;
    auto answer = co_await client.request(master, std::move(request), how);
    if (!answer || answer->status != 200) {
      auto words = answer ? fmt::format("answered {}: {}", answer->status, answer->body.substr(0, 200)) : answer.error().context;
      if (words != complaint && (!answer || answer->status != 503)) log::info("gate", "master={} {}", master.str(), words);
      complaint = words;
      if (auto there = answer ? net::leader_in(*answer) : std::nullopt) {
        auto known = std::find_if(options.masters.begin(), options.masters.end(), [&](const auto& m) { return m.host == there->host && m.port == there->port; });
        leader = known == options.masters.end() ? std::optional(master) : std::nullopt;
        if (leader) leader->host = there->host, leader->port = there->port;
      }
      co_return false;
    }
    auto copy = read_access_copy(answer->body);
    if (!copy) {
      log::warn("gate", "master={} {}", master.str(), copy.error().context);
      co_return false;
    }
    if (copy->version == version) co_return true;
    version = copy->version;
    options.changed(*copy);
    if (auto ok = write_file_atomic(options.saved, answer->body, 0600); !ok) log::warn("gate", "{}", ok.error().context);
    co_return true;
  }

  asio::awaitable<void> run() {
    auto self = shared_from_this();
    auto pause = pause_min;
    std::size_t at = 0;
    while (!stopping) {
      bool had = false;
      if (!options.idle || !options.idle())
        for (std::size_t i = 0; i < options.masters.size() && !had && !stopping; ++i) {
          auto index = (at + i) % options.masters.size();
          auto job = ask(options.masters[index]);
          had = co_await std::move(job);
          if (had) at = index;
        }
      if (auto there = std::exchange(leader, std::nullopt); there && !had && !stopping && !(options.idle && options.idle())) {
        auto job = ask(*there);
        had = co_await std::move(job);
        if (had) leader = there;
      }
      pause = had ? pause_min : std::min(pause * 2, pause_max);
      if (!had && !stopping) (void)co_await net::sleep_for(pause);
    }
  }

  asio::any_io_executor executor;
  net::HttpClient client;
  FollowerOptions options;
  std::string version, complaint;
  std::optional<net::Origin> leader;  // under an address that no setting names
  std::atomic<bool> stopping{false};
};

AccessFollower::AccessFollower(asio::any_io_executor executor, FollowerOptions options) : impl_(std::make_shared<Impl>(std::move(executor), std::move(options))) {}
AccessFollower::~AccessFollower() { stop(); }

void AccessFollower::start() {
  impl_->restore();
  auto life = impl_->run();
  net::spawn(impl_->executor, "users and tokens", std::move(life), impl_);
}

void AccessFollower::stop() { impl_->stopping = true; }

}  // namespace croft::gate
