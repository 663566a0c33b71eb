// What hosts send each other, catalog and link: any bytes are a record or an error, and a record that was read is written as one that reads the same.
#include <cstdint>
#include <cstdlib>

#include "model/acl.hpp"
#include "model/catalog_json.hpp"
#include "model/exec_frames.hpp"
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

/// What a command inside a task says: in one piece or in two, the same frames.
void frames(std::string_view bytes) {
  using namespace croft;
  auto at = bytes.empty() ? 0 : static_cast<unsigned char>(bytes[0]) % bytes.size();
  exec::FrameReader one, two;
  auto whole = one.take(bytes), first = two.take(bytes.substr(0, at));
  auto rest = first ? two.take(bytes.substr(at)) : Result<std::vector<exec::Frame>>(std::in_place);
  if (!whole) {
    if (first && rest) std::abort();
    return;
  }
  if (!first || !rest) std::abort();
  first->insert(first->end(), rest->begin(), rest->end());
  if (*first != *whole) std::abort();
  std::string again;
  for (const auto& f : *whole) again += exec::encode(f.kind, f.data);
  if (again.size() > bytes.size()) std::abort();
  (void)check_acl(bytes);
  if (exec::is_terminal(bytes) && bytes.find_first_of(" \n\"'$;") != std::string_view::npos) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace croft;
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 7) {
    case 0: both_ways(text, [](auto t) { return catalog::decode_record(t); }); break;
    case 1: both_ways(text, [](auto t) { return catalog::decode_confirmation(t); }); break;
    case 2: both_ways(text, [](auto t) { return link::decode_down(t); }); break;
    case 3: both_ways(text, [](auto t) { return link::decode_registration(t); }); break;
    case 4: both_ways(text, [](auto t) { return link::decode_report(t); }); break;
    case 6: frames(text); break;
    default: (void)PortSet::parse(text);
  }
  return 0;
}
