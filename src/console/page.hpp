#pragma once
// The plain live page, until the console proper comes: hosts, apps, instances, rules, and a search box for logs.

#include <boost/asio/any_io_executor.hpp>

#include <vector>

#include "net/http.hpp"
#include "net/http_client.hpp"

namespace croft::console {

/// GET / on a router; the data that it asks for is fetched from a master and from the log host, so that it works on every port.
/// `is_master`: the router has /croft/v1/overview itself.
void add_page(net::Router& router, boost::asio::any_io_executor executor, std::vector<net::Origin> masters, net::Origin logs, bool is_master);

}  // namespace croft::console
