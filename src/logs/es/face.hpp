#pragma once
// What the parts of Elasticsearch's face share. Private to es/.

#include <boost/json/value.hpp>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json_writer.hpp"
#include "logs/es/cursors.hpp"
#include "logs/es/fields.hpp"
#include "logs/es_api.hpp"

namespace croft::logs {

namespace asio = boost::asio;
using net::Request;
using net::Response;

struct Api {
  Api(Store& s, net::BlockingPool& p, EsOptions o) : store(s), pool(p), options(std::move(o)) {}
  Store& store;
  net::BlockingPool& pool;
  EsOptions options;
  net::BlockingPool readers{options.reads_at_once};
  std::atomic<std::size_t> reading{0};        ///< at work and waiting
  std::atomic<std::uint64_t> rejected{0};
  Cursors cursors;
  FieldCache fields;
  std::atomic<std::size_t> in_flight{0};      ///< bytes of bulk bodies
  std::atomic<std::uint64_t> searches{0}, indexed{0};
};
using ApiPtr = std::shared_ptr<Api>;
using Face = asio::awaitable<Response> (*)(ApiPtr, Request);
using On = std::function<void(std::initializer_list<std::string_view> methods, std::string_view pattern, Face face)>;

void add_write_routes(const On& on);
void add_search_routes(const On& on);
void add_index_routes(const On& on);
void add_admin_routes(const On& on);
void add_cluster_routes(const On& on);

/// A refusal in Elasticsearch's shape; as a value on its way to the reply.
struct EsError {
  int status = 400;
  std::string type, reason;
  std::vector<std::pair<std::string, std::string>> more;  ///< more members of the error, values are JSON
  bool in_query = false;                                  ///< shown as a failure of all shards
};
template <class T>
using Es = std::expected<T, EsError>;

Response error(const EsError& e);
Response error(int status, std::string_view type, std::string_view reason);
void write_error(JsonWriter& w, const EsError& e);          ///< {"error":…,"status":…}
EsError no_index(std::string_view name);
EsError answer_too_large(const Api& api);
EsError store_failed(const Error& e);
/// parsing_exception; with line and column where the words name a thing that stands in `body`.
EsError parsing_error(std::string_view words, std::string_view body);

/// A JSON body (or ?source=); {} when there is none. `object`: anything else is refused.
Es<boost::json::value> body_of(const Request& r, bool object = true);

/// Which indices "a,b-*,-b-old", "_all", "<logstash-{now/d}>" or an alias mean.
struct Target {
  std::vector<std::string> patterns;
  [[nodiscard]] bool operator()(const std::string& name) const;
};
struct TargetOptions { bool ignore_unavailable = false, allow_no_indices = true; };
TargetOptions target_options(const Request& r);
Es<Target> target_of(Api& api, std::string_view expression, const TargetOptions& options);
Es<Target> target_of(Api& api, const Request& r);
std::string index_param(const Request& r);                  ///< "" when the path names none
/// "<logstash-{now/d{yyyy.MM.dd}}>" -> "logstash-2026.11.24"; other names as they are. Errors: in Elasticsearch's words.
Es<std::string> date_math_name(std::string_view name, Wall now);
/// Where writes to a name go: an alias's write index, a date's index.
Es<std::string> write_index(Api& api, const std::string& name, Wall now);
struct Aliases {
  std::map<std::string, std::map<std::string, std::string>> by_alias;  ///< alias -> index -> JSON of it
};
Aliases aliases_of(Api& api);

void write_shards(JsonWriter& w, std::size_t total, std::size_t failed);
std::string filter_path(std::string_view body, std::string_view paths);
std::string indented(std::string_view body);

/// Set once nobody waits for the answer any more; read by the work, on its own thread.
using Cancelled = std::atomic<bool>;
/// Runs `work` on the threads for reads; tells it when the request's client hangs up meanwhile. False when it was not run, because too many wait for these
/// threads or the client had gone before its turn: answer busy() then.
asio::awaitable<bool> on_readers(ApiPtr api, const Request& request, std::function<void(const Cancelled&)> work);
Response busy(const Api& api);

}  // namespace croft::logs
