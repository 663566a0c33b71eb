#pragma once
#include <memory>

#include "net/http.hpp"
#include "orchestrator/leader.hpp"
#include "secure/seal.hpp"

namespace croft::orchestrator {

/// GET /croft/v1/secrets, GET/PUT/DELETE /croft/v1/secrets/{path}. A value goes in and never comes out. `ring`: null on a farm without keys.
void add_secret_routes(net::Router& router, std::shared_ptr<RecordKeeper> keeper, std::shared_ptr<Leader> leader, std::shared_ptr<const secure::KeyRing> ring);

}  // namespace croft::orchestrator
