#pragma once
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "agent/health.hpp"

namespace croft::agent {

/// One HTTP, HTTPS or TCP probe. Follows no redirect, reads no body, ends within the check's time-out.
boost::asio::awaitable<ProbeResult> probe(std::string host, std::uint16_t port, HealthCheck check);

}  // namespace croft::agent
