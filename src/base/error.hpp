#pragma once
// How failures travel: expected ones as values, broken invariants as an end of the process.

#include <fmt/format.h>

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace croft {

/// The few kinds of failure that callers branch on. Detail for people goes into Error::context.
enum class Errc : std::uint8_t {
  invalid,          ///< the input is wrong and will be wrong again
  not_found,
  conflict,         ///< true now, may be different later: locked, exists already, stale version
  forbidden,
  too_large,        ///< a bound was reached
  unavailable,      ///< the other side is away or refuses; try again
  timeout,
  io,               ///< the operating system said no
  corrupt,          ///< stored bytes are not what was written
  not_leader,
  unknown_outcome,  ///< it may or may not have happened; read back before acting
};

std::string_view to_string(Errc code);

struct Error {
  Errc code{};
  std::string context;  ///< "app /web/front: instances is negative", no trailing full stop

  /// The same failure, one frame further out: "reading app.json: app /web/front: …".
  Error within(std::string_view where) && {
    context = std::string(where) + ": " + context;
    return std::move(*this);
  }
};

template <class T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

/// `return fail(Errc::invalid, "{}: port {} is taken", setting, port);`
template <class... Args>
std::unexpected<Error> fail(Errc code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}
inline std::unexpected<Error> fail(Error error) { return std::unexpected(std::move(error)); }

/// "open /etc/x: No such file or directory", from the present errno.
Error errno_error(std::string_view what, int number);
std::unexpected<Error> fail_errno(std::string_view what);

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace croft

/// Kept in release builds: a broken invariant ends the process, and restarts are cheap by design.
#define CROFT_ASSERT(expression) \
  (static_cast<bool>(expression) ? void(0) : ::croft::assertion_failed(#expression, __FILE__, __LINE__))
