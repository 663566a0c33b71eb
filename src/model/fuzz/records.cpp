// What hosts send each other, catalog and link: any bytes are a record or an error, and a record that was read is written as one that reads the same.
#include <cstdint>
#include <cstdlib>

#include "model/catalog_json.hpp"
#include "model/link_json.hpp"
#include "model/resources.hpp"

namespace {

template <class Decode>
void both_ways(std::string_view text, Decode decode) {
  auto first = decode(text);
  if (!first) return;
  auto written = encode(*first);
  auto second = decode(written);
  if (!second || encode(*second) != written) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace croft;
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0: both_ways(text, [](auto t) { return catalog::decode_record(t); }); break;
    case 1: both_ways(text, [](auto t) { return catalog::decode_confirmation(t); }); break;
    case 2: both_ways(text, [](auto t) { return link::decode_down(t); }); break;
    case 3: both_ways(text, [](auto t) { return link::decode_registration(t); }); break;
    case 4: both_ways(text, [](auto t) { return link::decode_report(t); }); break;
    default: (void)PortSet::parse(text);
  }
  return 0;
}
