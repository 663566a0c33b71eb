#include "cluster/mesos_api.hpp"

#include "base/text.hpp"
#include "cluster/mesos_json.hpp"
#include "net/async.hpp"
#include "net/jsonp.hpp"

namespace croft::cluster {

using net::Request;
using net::Response;

namespace {

using View = std::function<std::shared_ptr<const FarmView>()>;
using Body = std::function<std::string(const FarmView&, const Request&)>;
using Pieces = std::function<net::StreamBody(std::shared_ptr<const FarmView>)>;

/// As Mesos reads them: what is no number counts as not given.
mesos::TaskQuery task_query(const Request& r) {
  mesos::TaskQuery q;
  auto number = [&](std::string_view name, std::size_t otherwise) {
    auto n = to_int(r.query.get(name).value_or(""));
    return n && *n >= 0 ? static_cast<std::size_t>(*n) : otherwise;
  };
  q.limit = number("limit", q.limit);
  q.offset = number("offset", q.offset);
  q.ascending = r.query.get("order") == "asc";
  q.framework = r.query.get("framework_id");
  q.task = r.query.get("task_id");
  return q;
}

/// Says who leads where it is not this one; nothing when this one does.
std::optional<Response> not_here(const FarmView& v, const MesosOptions& o, const std::string& target) {
  auto other = o.elsewhere ? o.elsewhere() : std::nullopt;
  if (other && !other->empty()) return Response::redirect(fmt::format("//{}{}", *other, target), 307);
  if (other || v.cluster_id.empty()) return Response::text("No leader elected\n", 503);
  return std::nullopt;
}

/// From here on an answer with every task in it is written by threads of their own, and /state goes out in pieces.
constexpr std::size_t many_tasks = 2000;

net::StreamBody in_pieces(std::shared_ptr<const FarmView> view, std::uint16_t port) {
  auto pieces = std::make_shared<mesos::StatePieces>(std::move(view), port);
  return [pieces](std::shared_ptr<net::StreamWriter> out) -> net::asio::awaitable<void> {
    auto piece = std::make_shared<std::string>();
    auto more = std::make_shared<bool>(false);
    std::function<void()> write = [pieces, piece, more] { *more = pieces->next(*piece); };
    for (;;) {
      co_await net::readers().run(write);
      if (!*more || !co_await out->write(std::move(*piece))) co_return;
    }
  };
}

class Routes {
 public:
  Routes(net::Router& router, View view, MesosOptions options) : router_(router), view_(std::move(view)), options_(std::move(options)) {}

  /// What only the leader knows.
  void leaders(std::string_view name, Body body, Pieces pieces = {}) { add(name, true, std::move(body), std::move(pieces)); }
  /// What any master answers.
  void anyones(std::string_view name, Body body) { add(name, false, std::move(body), {}); }

  void redirect() {
    for (auto path : {"/redirect", "/master/redirect"})
      router_.on("GET", path, [view = view_, o = options_](Request) -> net::asio::awaitable<Response> {
        auto v = view();
        if (auto other = not_here(*v, o, "")) co_return std::move(*other);
        co_return Response::redirect(fmt::format("//{}:{}", v->ip, o.port), 307);
      });
  }

 private:
  void add(std::string_view name, bool only_leader, Body body, Pieces pieces) {
    for (auto prefix : {"", "/master"})
      for (auto end : {"", ".json"})
        router_.on("GET", fmt::format("{}/{}{}", prefix, name, end), [view = view_, o = options_, only_leader, body, pieces](Request r) -> net::asio::awaitable<Response> {
          auto v = view();
          if (only_leader)
            if (auto other = not_here(*v, o, r.target)) co_return std::move(*other);
          std::string text;
          if (pieces && v->tasks.size() >= many_tasks && !r.query.get("jsonp")) {
            auto response = Response::json({});
            response.stream = pieces(std::move(v));
            co_return response;
          }
          if (v->tasks.size() < many_tasks) {
            text = body(*v, r);
          } else {
            std::function<void()> write = [&text, &body, &v, &r] { text = body(*v, r); };
            co_await net::readers().run(std::move(write));
          }
          auto response = text.empty() ? Response{} : Response::json(std::move(text));
          co_return net::with_jsonp(std::move(response), r);
        });
  }

  net::Router& router_;
  View view_;
  MesosOptions options_;
};

}  // namespace

void add_mesos_routes(net::Router& router, std::function<std::shared_ptr<const FarmView>()> view, MesosOptions options) {
  Routes routes(router, std::move(view), options);
  auto port = options.port;
  routes.leaders("state", [port](const FarmView& v, const Request&) { return mesos::state(v, port); },
                 [port](std::shared_ptr<const FarmView> v) { return in_pieces(std::move(v), port); });
  routes.leaders("state-summary", [](const FarmView& v, const Request&) { return mesos::state_summary(v); });
  routes.leaders("slaves", [](const FarmView& v, const Request& r) { return mesos::slaves(v, r.query.get("slave_id")); });
  routes.leaders("frameworks", [](const FarmView& v, const Request& r) { return mesos::frameworks(v, r.query.get("framework_id")); });
  routes.leaders("tasks", [](const FarmView& v, const Request& r) { return mesos::tasks(v, task_query(r)); });
  routes.leaders("roles", [](const FarmView& v, const Request&) { return mesos::roles(v); });
  routes.anyones("flags", [port](const FarmView& v, const Request&) { return mesos::flags(v, port); });
  routes.anyones("version", [](const FarmView& v, const Request&) { return mesos::version(v); });
  routes.anyones("metrics/snapshot", [](const FarmView& v, const Request&) { return mesos::metrics(v); });
  routes.anyones("system/stats", [](const FarmView&, const Request&) { return mesos::system_stats(); });
  routes.anyones("health", [](const FarmView&, const Request&) { return std::string(); });
  routes.redirect();
}

}  // namespace croft::cluster
