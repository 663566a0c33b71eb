#pragma once
// What the files of the access paths share. Private to them.

#include <boost/asio/awaitable.hpp>

#include "base/json.hpp"
#include "net/async.hpp"
#include "orchestrator/access_api.hpp"
#include "secure/caller.hpp"

namespace croft::orchestrator {

namespace asio = boost::asio;

struct Access {
  std::shared_ptr<RecordKeeper> keeper;
  AccessOptions options;
};
using AccessPtr = std::shared_ptr<Access>;
struct AccessRoutes {
  net::Router& router;
  AccessPtr access;
  using Handler = asio::awaitable<net::Response> (*)(AccessPtr, net::Request);
  void operator()(std::string_view method, std::string_view pattern, Handler handler) const {
    router.on(method, pattern, [access = access, handler](net::Request r) { return handler(access, std::move(r)); });
  }
};

net::Response access_refused(const Refusal& refusal);
/// The body as a JSON object whose members are all among `known`; or the answer that says what is wrong.
std::expected<boost::json::value, net::Response> object_of(const net::Request& r, std::initializer_list<std::string_view> known);
/// A member that is a whole number in a range; absent or null: `otherwise`. Errors: invalid, naming it.
Result<std::int64_t> whole_number(const boost::json::value& body, std::string_view key, std::int64_t otherwise, std::int64_t min, std::int64_t max);
/// A member that is a text; absent or null: "". Errors: invalid.
Result<std::string> text_member(const boost::json::value& body, std::string_view key);
AuditRecord asked(const net::Request& r, std::string what);
std::string trust_record(const secure::Trust& trust, const secure::KeyRing& ring);
inline constexpr std::string_view trust_key = "trust/ca";

void add_host_routes(const AccessRoutes& on);  ///< access_hosts.cpp

}  // namespace croft::orchestrator
