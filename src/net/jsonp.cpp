#include "net/jsonp.hpp"

#include <algorithm>

namespace croft::net {

Response with_jsonp(Response response, const Request& request) {
  auto name = request.query.get("jsonp");
  if (!name || response.status != 200 || response.stream || response.headers.get("Content-Type").find("json") == std::string_view::npos) return response;
  // A page of somebody else's would read it with its visitor's login. Browsers say so to HTTPS and to this machine's own addresses; where they would not, a login's
  // answer is not given in this form.
  auto site = request.headers.get("Sec-Fetch-Site");
  if ((!site.empty() && site != "same-origin" && site != "none") || (site.empty() && request.caller && !request.tls)) return Response::message(403, "jsonp: not for pages of another origin");
  auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '$'; };
  if (name->empty() || name->size() > 128 || !std::all_of(name->begin(), name->end(), plain)) return Response::message(400, "jsonp: must be the name of a function");
  response.body.insert(0, *name + "(");
  response.body += ")";
  response.headers.set("Content-Type", "text/javascript");
  return response;
}

}  // namespace croft::net
