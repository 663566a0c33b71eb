#include "net/jsonp.hpp"

#include <algorithm>

namespace croft::net {

Response with_jsonp(Response response, const Request& request) {
  auto name = request.query.get("jsonp");
  if (!name || response.status != 200 || response.stream || response.headers.get("Content-Type").find("json") == std::string_view::npos) return response;
  auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '$'; };
  if (name->empty() || name->size() > 128 || !std::all_of(name->begin(), name->end(), plain)) return Response::message(400, "jsonp: must be the name of a function");
  response.body.insert(0, *name + "(");
  response.body += ")";
  response.headers.set("Content-Type", "text/javascript");
  return response;
}

}  // namespace croft::net
