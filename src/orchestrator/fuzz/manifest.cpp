// Manifests: what is taken is stored in a form that reads back as the same app; what is not has a problem with a path.
#include <cstdint>
#include <cstdlib>

#include "base/json.hpp"
#include "orchestrator/app_json.hpp"
#include "orchestrator/audit_log.hpp"
#include "orchestrator/marathon_app.hpp"
#include "orchestrator/marathon_json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace croft;
  using namespace croft::orchestrator;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)decode_app(text);
  (void)decode_audit(text);
  (void)parse_selector(text);
  auto body = json::parse(text);
  if (!body) return 0;
  Problems problems;
  auto app = read_manifest(*body, App{}, problems);
  refuse_nul(*body, problems);
  (void)unknown_fields(*body);
  if (!problems.any()) validate(app, problems);
  if (problems.any()) return problems.json().empty() ? std::abort(), 0 : 0;
  auto stored = encode_app(app);
  auto back = decode_app(stored);
  if (!back || encode_app(*back) != stored) std::abort();
  return 0;
}
