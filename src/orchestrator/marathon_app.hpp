#pragma once
// Marathon's app definitions: every dialect in, the canonical form with the old duplicates out.

#include <boost/json/value.hpp>

#include <string>

#include "base/json_writer.hpp"
#include "orchestrator/app.hpp"
#include "orchestrator/problems.hpp"

namespace croft::orchestrator {

/// Reads a manifest over `app`: fields that are present replace, absent and null ones leave it as it is. Pass App{} for a new one.
/// Accepts the forms of 2015 (ports, uris, docker.network, docker.portMappings), 1.x (portDefinitions, fetch) and 1.5+ (networks).
/// `id` in the body is resolved against "/". Problems are collected; the app is only good when there are none.
App read_manifest(const boost::json::value& body, App app, Problems& problems);

/// Paths of what in an app's body nothing reads ("/container/dokcer"), misspelt mostly. Marathon takes such a body without a word, and so do we, but for this.
std::vector<std::string> unknown_fields(const boost::json::value& body);

/// No text of what a user sends may hold a NUL character. Not asked of what is stored: a leader must be able to load what an earlier build took.
void refuse_nul(const boost::json::value& body, Problems& problems);

/// What holds over several fields; call once the app is whole.
void validate(const App& app, Problems& problems);

/// Fields without the braces, so that faces can add theirs. `old_forms`: also ports, uris, docker.network, docker.portMappings.
void write_app_fields(JsonWriter& w, const App& app, bool old_forms);
void write_check(JsonWriter& w, const HealthCheck& c);

/// "/a//b/" and "a/b" to "/a/b"; problems get the path /id. `of_group`: where a group's id is as good.
AppId read_app_id(std::string_view text, std::string_view against, Problems& problems, bool of_group = false);

}  // namespace croft::orchestrator
