#pragma once
#include <filesystem>

#include "net/http.hpp"

namespace croft::agent {

/// Mesos's file API over the sandboxes of a work directory: GET /files/browse, read, download, debug, with and without .json behind.
/// Errors   400 (a parameter, a directory or device where a file must be, a way out of the folder), 403, 404.
void add_file_routes(net::Router& router, const std::filesystem::path& work_dir);

}  // namespace croft::agent
