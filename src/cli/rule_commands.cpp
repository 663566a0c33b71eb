// Rules of the balancer, by Bamboo's API: it tries a rule with HAProxy before it is kept, and answers when it is in force.

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "cli/commands.hpp"

namespace croft::cli {

namespace {

Session::Answer must_balance(Session& s, std::string_view method, const std::string& target, const std::string& app, std::string body = {}) {
  auto answer = s.balancer(method, target, std::move(body));
  if (answer.status < 400) return answer;
  auto words = std::string(trim(answer.body));  // a line of text, as Bamboo's
  if (words == "zk: node does not exist") throw Ended{not_found, fmt::format("{} has no rule", app)};
  throw Ended{answer.status == 400 ? usage : failed, words.empty() ? fmt::format("the balancer answered {}", answer.status) : words};
}

}  // namespace

int rule_list(Session& s) {
  auto answer = must_balance(s, "GET", "/api/services", "");
  if (s.common().json) return print(answer.body + "\n"), ok;
  auto body = answer.json();
  std::vector<std::vector<std::string>> rows{{"APP", "ACL"}};
  if (body.is_object())
    for (const auto& rule : body.get_object()) rows.push_back({std::string(rule.key()), json::text(rule.value(), "Acl")});
  print(rows.size() > 1 ? table(rows) : "No rules yet. croft rule set APP ACL makes one.\n");
  return ok;
}

int rule_set(Session& s, const std::string& id, const std::string& acl) {
  auto app = absolute(id);
  JsonWriter w;
  w.begin_object().field("id", app).field("acl", acl).end_object();
  auto answer = must_balance(s, "POST", "/api/services", app, std::move(w).take());
  if (s.common().json) print(answer.body + "\n");
  else print(fmt::format("{}: requests go there where {}\n", app, acl));
  return ok;
}

int rule_remove(Session& s, const std::string& id) {
  auto app = absolute(id);
  auto answer = must_balance(s, "DELETE", "/api/services" + in_url(app), app);
  if (s.common().json) print(answer.body + "\n");
  else print(fmt::format("{}: rule removed\n", app));
  return ok;
}

}  // namespace croft::cli
