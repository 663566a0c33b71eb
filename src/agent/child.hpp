#pragma once
#include <boost/asio/awaitable.hpp>

#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"

namespace croft::agent {

/// Runs a program of this host to its end, without input or output and without holding a thread; its exit code, 128 and more: ended by a signal. When it takes
/// longer it is told to end (TERM), and killed when it has not after `patience`.
/// Errors   io (cannot start), timeout.
boost::asio::awaitable<Result<int>> run_child(std::vector<std::string> words, Millis limit, Millis patience = Millis(2500));

}  // namespace croft::agent
