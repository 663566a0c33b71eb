// JSON of any depth and size, and the small readers of text: what was read prints as something that can be read.
#include <cstdint>
#include <cstdlib>

#include "base/json.hpp"
#include "base/text.hpp"
#include "base/time.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace croft;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto parsed = json::parse(text)) {
    // Not the same to the last digit: Boost 1.81 reads long numbers within an ulp.
    if (!json::parse(json::print(*parsed))) std::abort();
  }
  if (auto plain = url_decode(text); plain && url_decode(url_encode(*plain)) != plain) std::abort();
  if (auto bytes = base64_decode(text); bytes && base64_decode(base64_encode(*bytes)) != bytes) std::abort();
  if (auto at = from_iso8601(text); at && from_iso8601(to_iso8601(*at)) != at) std::abort();
  (void)to_int(text);
  (void)to_double(text);
  return 0;
}
