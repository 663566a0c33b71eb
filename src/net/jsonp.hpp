#pragma once
#include "net/http.hpp"

namespace croft::net {

/// For GETs that browsers of the time read across origins: with "?jsonp=name" a JSON answer becomes "name({...})" as text/javascript. A name that is
/// no plain JavaScript reference gets 400, a page of another origin 403.
Response with_jsonp(Response response, const Request& request);

}  // namespace croft::net
