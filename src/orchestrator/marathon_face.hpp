#pragma once
// What the files of the Marathon face share. Private to them.

#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "orchestrator/marathon_api.hpp"
#include "orchestrator/marathon_json.hpp"

namespace croft::orchestrator {

namespace asio = boost::asio;

struct Face {
  std::shared_ptr<Leader> leader;
  MarathonOptions options;
};
using FacePtr = std::shared_ptr<Face>;

/// Registers handlers, and puts on every answer what Marathon put on it.
struct FaceRoutes {
  net::Router& router;
  FacePtr face;
  using Handler = asio::awaitable<net::Response> (*)(FacePtr, net::Request);
  void operator()(std::string_view method, std::string_view pattern, Handler handler) const;
};

/// The headers that Marathon put on everything.
void mark(net::Response& response, const std::string& base_url);

/// "/a//b/" -> "/a/b"; "/" when nothing is left. Whether such an id may exist is not asked.
AppId path_id(const net::Request& r);
net::Response no_app(const AppId& id);
/// A view that has everything acknowledged before, less what the caller may not see.
asio::awaitable<std::shared_ptr<const View>> fresh_view(FacePtr face, const net::Request& r);
/// Leader::change, with what only admins may ask for refused to others.
asio::awaitable<std::expected<Accepted, Refusal>> change(FacePtr face, const net::Request& r, Leader::Make make);
/// The same for Leader::rehearse.
asio::awaitable<std::expected<std::vector<Step>, Refusal>> rehearse(FacePtr face, const net::Request& r, Leader::Make make);
/// Who asks for it and how, in every intent.
void ask(Intent& intent, const net::Request& r);
/// What every change says of itself: who asked for it, where, and whether by force.
Intent intent_of(const net::Request& r);
/// What is asked for by `embed`, with Marathon's interchangeable prefixes. The rest of the words goes to `others`.
Embed embed_of(const net::Request& r, std::vector<std::string>* others = nullptr);
/// The body as a JSON object or array, or the answer that says why not.
std::expected<json::value, net::Response> body_of(const net::Request& r, boost::json::kind wanted);

/// Names in a header what the body has and nobody knows: of one app, a list, or a group.
void tell_unknown(net::Response& response, const json::value& body);
/// A refusal of what this body asks for; one of its fields names those that nobody knows as well.
net::Response refused(const Refusal& refusal, const json::value& body);

/// Reads a manifest over what is stored (or over nothing) and checks it whole. Without `id` the body has to bring one. `within`: where in a
/// longer body it stands, for the paths of problems.
/// What of an app breaks the policy that holds for it (policy_at).
std::vector<PolicyProblem> against_policy(const App& app, const TaskPolicy& policy);
std::expected<App, Refusal> read_app(const TaskPolicy& policy, const boost::json::value& body, const App& over, const std::optional<AppId>& id, std::string within = {});

void add_task_routes(const FaceRoutes& on);   ///< marathon_tasks.cpp
void add_group_routes(const FaceRoutes& on);  ///< marathon_groups.cpp
void add_farm_routes(const FaceRoutes& on);   ///< marathon_farm.cpp: deployments, queue, info, leader, events, ping, croft's own

}  // namespace croft::orchestrator
