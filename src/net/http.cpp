#include "net/http.hpp"

#include <algorithm>

#include "base/json_writer.hpp"
#include "base/text.hpp"

namespace croft::net {

std::string_view Headers::get(std::string_view name) const {
  for (const auto& [n, v] : fields_)
    if (iequals(n, name)) return v;
  return {};
}

bool Headers::has(std::string_view name) const {
  return std::any_of(fields_.begin(), fields_.end(), [&](const auto& f) { return iequals(f.first, name); });
}

void Headers::set(std::string_view name, std::string_view value) {
  erase(name);
  add(name, value);
}

void Headers::add(std::string_view name, std::string_view value) { fields_.emplace_back(name, value); }

void Headers::erase(std::string_view name) {
  std::erase_if(fields_, [&](const auto& f) { return iequals(f.first, name); });
}

Query::Query(std::string_view raw) {
  if (raw.empty()) return;
  for (const auto& piece : split(raw, '&')) {
    if (piece.empty()) continue;
    auto equals = piece.find('=');
    auto name = url_decode(std::string_view(piece).substr(0, equals), true);
    auto value = equals == std::string::npos ? std::optional<std::string>("") : url_decode(std::string_view(piece).substr(equals + 1), true);
    if (name && value) fields_.emplace_back(std::move(*name), std::move(*value));
  }
}

std::optional<std::string> Query::get(std::string_view name) const {
  for (const auto& [n, v] : fields_)
    if (n == name) return v;
  return std::nullopt;
}

std::vector<std::string> Query::all(std::string_view name) const {
  std::vector<std::string> out;
  for (const auto& [n, v] : fields_)
    if (n == name) out.push_back(v);
  return out;
}

bool Query::has(std::string_view name) const { return get(name).has_value(); }

bool Query::flag(std::string_view name, bool fallback) const {
  auto value = get(name);
  if (!value) return fallback;
  return value->empty() || iequals(*value, "true") || *value == "1";
}

void pass_credentials(const Request& from, Request& to) {
  auto credentials = from.headers.get("Authorization");
  if (credentials.empty()) return;
  to.headers.set("Authorization", credentials);
  to.headers.set("X-Forwarded-For", from.peer);
}

static Response with_type(std::string body, int status, std::string_view type) {
  Response r;
  r.status = status;
  r.headers.set("Content-Type", type);
  r.body = std::move(body);
  return r;
}

Response Response::json(std::string body, int status) { return with_type(std::move(body), status, "application/json"); }
Response Response::text(std::string body, int status) { return with_type(std::move(body), status, "text/plain; charset=utf-8"); }
Response Response::html(std::string body, int status) { return with_type(std::move(body), status, "text/html; charset=utf-8"); }

Response Response::redirect(std::string location, int status) {
  Response r;
  r.status = status;
  r.headers.set("Location", location);
  return r;
}

Response Response::message(int status, std::string_view message) {
  JsonWriter w;
  w.begin_object().field("message", message).end_object();
  return json(std::move(w).take(), status);
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100: return "Continue";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Payload Too Large";
    case 415: return "Unsupported Media Type";
    case 422: return "Unprocessable Entity";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "Status";
  }
}

}  // namespace croft::net
