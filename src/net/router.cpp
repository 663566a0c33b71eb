#include <algorithm>

#include "base/text.hpp"
#include "net/http.hpp"

namespace croft::net {

namespace {

/// The path's segments; doubled slashes count as one, a trailing slash is kept as an empty last segment ("/a/" is not "/a").
std::vector<std::string> segments_of(std::string_view path) {
  std::vector<std::string> out;
  for (auto& piece : split(path, '/'))
    if (!piece.empty()) out.push_back(std::move(piece));
  if (!out.empty() && path.ends_with('/')) out.emplace_back();
  return out;
}

bool is_param(const std::string& s) { return s.size() > 2 && s.front() == '{' && s.back() == '}'; }
bool is_rest(const std::string& s) { return s.starts_with("{*"); }

using Params = std::map<std::string, std::string>;

/// Matches pattern segments from `p` against path segments from `i`. The rest parameter is greedy.
bool match(const std::vector<std::string>& pattern, std::size_t p, const std::vector<std::string>& path, std::size_t i, Params& params) {
  for (; p < pattern.size(); ++p, ++i) {
    const auto& want = pattern[p];
    if (is_rest(want)) {
      auto name = want.substr(2, want.size() - 3);
      auto tail = pattern.size() - p - 1;
      for (std::size_t end = path.size(); end > i && end - i >= 1; --end) {
        if (path.size() - end < tail) continue;
        if (!match(pattern, p + 1, path, end, params)) continue;
        std::vector<std::string> taken(path.begin() + static_cast<std::ptrdiff_t>(i), path.begin() + static_cast<std::ptrdiff_t>(end));
        auto text = join(taken, "/");
        if (text.empty()) return false;
        params[name] = std::move(text);
        return true;
      }
      return false;
    }
    if (i >= path.size()) return false;
    if (is_param(want)) {
      if (path[i].empty()) return false;
      params[want.substr(1, want.size() - 2)] = path[i];
    } else if (want != path[i]) {
      return false;
    }
  }
  return i == path.size();
}

/// More literal segments are more specific; then fewer rest parameters; then more segments.
std::tuple<std::size_t, int, std::size_t> rank(const std::vector<std::string>& segments) {
  std::size_t literal = 0;
  int rest = 0;
  for (const auto& s : segments) {
    if (is_rest(s)) --rest;
    else if (!is_param(s)) ++literal;
  }
  return {literal, rest, segments.size()};
}

}  // namespace

void Router::on(std::string_view method, std::string_view pattern, Handler handler) {
  for (auto& route : routes_)
    if (route.pattern == pattern) {
      route.methods[std::string(method)] = std::move(handler);
      return;
    }
  Route route{std::string(pattern), segments_of(pattern), {}};
  route.methods[std::string(method)] = std::move(handler);
  auto at = std::find_if(routes_.begin(), routes_.end(), [&](const Route& r) { return rank(r.segments) < rank(route.segments); });
  routes_.insert(at, std::move(route));
}

void Router::body_limit(std::string_view pattern, std::size_t bytes) { limits_.emplace_back(pattern, bytes); }
void Router::fallback(Handler handler) { fallback_ = std::move(handler); }
void Router::divert(std::function<bool(const Request&)> when, Handler to) { diversions_.emplace_back(std::move(when), std::move(to)); }

std::size_t Router::limit_for(std::string_view, std::string_view path, std::size_t otherwise) const {
  if (limits_.empty()) return otherwise;
  auto segments = segments_of(path);
  for (const auto& route : routes_) {
    Params params;
    if (!match(route.segments, 0, segments, 0, params)) continue;
    for (const auto& [pattern, bytes] : limits_)
      if (pattern == route.pattern) return bytes;
    return otherwise;
  }
  return otherwise;
}

asio::awaitable<Response> Router::handle(Request request) const {
  for (const auto& [when, to] : diversions_)
    if (when(request)) co_return co_await to(std::move(request));
  co_return co_await handle_here(std::move(request));
}

asio::awaitable<Response> Router::handle_here(Request request) const {
  auto segments = segments_of(request.path);
  std::string allowed;
  for (const auto& route : routes_) {
    Params params;
    if (!match(route.segments, 0, segments, 0, params)) continue;
    auto method = route.methods.find(request.method);
    if (method == route.methods.end() && request.method == "HEAD") method = route.methods.find("GET");
    if (method == route.methods.end()) method = route.methods.find("*");
    if (method != route.methods.end()) {
      request.params = std::move(params);
      if (guard_)
        if (auto refused = co_await guard_(request, route.pattern)) co_return std::move(*refused);
      auto caller = request.caller;
      auto response = co_await method->second(std::move(request));
      response.caller = std::move(caller);
      co_return response;
    }
    for (const auto& [name, handler] : route.methods) {
      if (allowed.find(name) != std::string::npos) continue;
      allowed += (allowed.empty() ? "" : ", ") + name;
      if (name == "GET") allowed += ", HEAD";
    }
  }
  if (guard_)
    if (auto refused = co_await guard_(request, "")) co_return std::move(*refused);
  if (!allowed.empty()) {
    auto response = request.method == "OPTIONS" ? Response{.status = 200, .headers = {}, .body = {}, .stream = {}} : Response::message(405, "Method Not Allowed");
    response.headers.set("Allow", allowed + ", OPTIONS");
    co_return response;
  }
  if (fallback_) co_return co_await fallback_(std::move(request));
  co_return Response::message(404, "URI not found: " + request.path);
}

}  // namespace croft::net
