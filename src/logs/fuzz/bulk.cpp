// Bulk bodies, documents and lines of tasks: what is taken is JSON that can be read again.
#include <cstdint>
#include <cstdlib>

#include "base/json.hpp"
#include "logs/es/bulk.hpp"
#include "logs/query/document.hpp"
#include "logs/ship/lines.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace croft;
  using namespace croft::logs;
  const Wall now{Millis(1'700'000'000'000)};
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto items = parse_bulk(text, {}, now)) {
    for (const auto& item : *items) {
      if (!item.problem.empty()) continue;
      DocumentReader reader;
      const RowView row{1, item.document.at, item.document.id, item.document.source};
      reader.set(row, item.document.index);
      reader.leaves_by_name([](std::string_view, const Value& v) { return value_text(v).size() < 1u << 20; });
    }
  }
  LineSplitter lines(64);
  LineContext context;
  context.at = now;
  context.fields = {{"app", "/a"}, {"host", "n1"}};
  lines.feed(text, [&](std::string_view line, bool cut) {
    context.cut = cut;
    auto made = document_of(line, context);
    if (!json::parse(made.json)) std::abort();
  });
  return 0;
}
