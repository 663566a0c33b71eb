#pragma once
// Marathon's HTTP face over a Farm, without sockets.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include <string>

#include "base/json.hpp"
#include "farm.hpp"
#include "net/http.hpp"
#include "orchestrator/marathon_api.hpp"

namespace croft::orchestrator::test {

/// The Leader that the face asks, answered by the farm's cores on the spot.
class FarmLeader final : public Leader {
 public:
  explicit FarmLeader(Farm& farm) : farm_(farm) {}
  [[nodiscard]] std::shared_ptr<const View> view() const override;
  boost::asio::awaitable<std::shared_ptr<const View>> fresh_view() override { co_return view(); }
  boost::asio::awaitable<std::expected<Accepted, Refusal>> change(Make make) override;
  boost::asio::awaitable<std::expected<std::vector<Step>, Refusal>> rehearse(Make make) override;
  boost::asio::awaitable<Result<std::vector<cluster::Task>>> kill_tasks(std::vector<TaskId> tasks) override;
  boost::asio::awaitable<bool> reset_delay(AppId app) override;
  boost::asio::awaitable<std::vector<std::string>> explain(AppId app) override { co_return farm_.core().explain(app, farm_.now); }
  boost::asio::awaitable<void> read(std::function<void(const Orchestrator&, Now)> reader) override;
  boost::asio::awaitable<std::optional<std::vector<BusEvent>>> events_after(std::uint64_t sequence, Millis limit) override;
  [[nodiscard]] std::uint64_t newest_event() const override { return 0; }
  bool leads = true;
  std::vector<BusEvent> events;          ///< given to the first reader; then the stream ends

 private:
  Farm& farm_;
};

class Face {
 public:
  explicit Face(Options options = {});
  net::Response call(std::string method, std::string target, std::string body = {}, net::Headers headers = {});
  /// The body, which has to be JSON, of an answer that has to have this status.
  json::value ask(int status, std::string method, std::string target, std::string body = {});
  std::string stream(std::string target);  ///< what an event stream brings until it ends

  Farm farm;
  std::shared_ptr<FarmLeader> leader;

 private:
  boost::asio::io_context io_;
  net::Router router_;
};

/// "app.container.docker.image", "apps.0.id"; text of what stands there, "" when nothing does.
std::string at(const json::value& v, std::string_view path);

}  // namespace croft::orchestrator::test
