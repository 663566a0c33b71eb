#pragma once
// A subset of Elasticsearch 7.17's HTTP API over the store. docs/api/logs.md lists it.

#include <string>

#include "logs/store/store.hpp"
#include "net/async.hpp"
#include "net/http.hpp"

namespace croft::logs {

struct EsOptions {
  std::string node = "log1";
  std::string version = "7.17.28";  ///< that clients are told; some check it
  std::size_t reads_at_once = 2;    ///< searches and the like; each may take a core for its time-out
  std::size_t reads_waiting = 100;  ///< for their turn; one more is answered 429
  std::size_t answer_bytes_max = 64u << 20;  ///< of documents, and of what is made of them, in one answer, to however many searches it answers
};

/// `pool` carries writes and what waits for the disk; searches have threads of their own, so that no query stops the intake.
/// `store` and `pool` must outlive the router.
void add_es_routes(net::Router& router, Store& store, net::BlockingPool& pool, EsOptions options);

}  // namespace croft::logs
