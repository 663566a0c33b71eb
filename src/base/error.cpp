#include "base/error.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace croft {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::invalid: return "invalid";
    case Errc::not_found: return "not found";
    case Errc::conflict: return "conflict";
    case Errc::forbidden: return "forbidden";
    case Errc::too_large: return "too large";
    case Errc::unavailable: return "unavailable";
    case Errc::timeout: return "timeout";
    case Errc::io: return "io";
    case Errc::corrupt: return "corrupt";
    case Errc::not_leader: return "not leader";
    case Errc::unknown_outcome: return "unknown outcome";
  }
  return "?";
}

Error errno_error(std::string_view what, int number) {
  auto code = number == ENOENT ? Errc::not_found : number == EACCES || number == EPERM ? Errc::forbidden : Errc::io;
  char text[128];
  return Error{code, fmt::format("{}: {}", what, strerror_r(number, text, sizeof text))};
}

std::unexpected<Error> fail_errno(std::string_view what) { return std::unexpected(errno_error(what, errno)); }

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "croft: broken invariant: %s (%s:%d)\n", expression, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace croft
