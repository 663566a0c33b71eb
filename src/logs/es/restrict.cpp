// What a caller with some groups' rights finds: their apps' lines and nothing else.

#include "logs/es/search_body.hpp"

namespace croft::logs {

std::optional<EsError> restrict_to(SearchBody& body, const secure::CallerPtr& caller) {
  if (secure::sees_all(caller)) return std::nullopt;
  // This aggregation counts past the query, and thereby past this filter.
  for (const auto& a : body.request.aggregations)
    if (a && a->kind == Aggregation::Kind::global) return EsError{403, "security_exception", "global aggregations are for those who may see the whole farm", {}, false};
  std::vector<QueryPtr> groups;
  for (const auto& grant : caller->who.grants) {
    groups.push_back(make_term("app.keyword", grant.group));
    auto below = std::make_shared<Query>();
    below->kind = Query::Kind::prefix;
    below->field = "app.keyword";
    below->text = grant.group + "/";
    groups.push_back(std::move(below));
  }
  auto allowed = groups.empty() ? match_none() : make_bool({}, std::move(groups), {}, 1);
  auto asked = body.request.query ? body.request.query : match_all();
  body.request.query = make_bool({std::move(asked), std::move(allowed)}, {}, {}, 0);
  return std::nullopt;
}

}  // namespace croft::logs
