#include "discovery/names.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::discovery {

std::string label_of(std::string_view name) {
  std::string out;
  for (char c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    if (c == '.' || c == '_') c = '-';
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-') out.push_back(c);
  }
  out.erase(0, std::min(out.find_first_not_of('-'), out.size()));
  if (out.size() > 63) {
    auto rest = out.substr(63);
    out.resize(63);
    auto kept = out.find_last_not_of('-') + 1;
    auto stripped = out.size() - kept;
    out.resize(kept);
    rest.erase(0, std::min(rest.find_first_not_of('-'), rest.size()));
    if (stripped > 0) out += rest.substr(0, stripped);
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out;
}

std::string hash_of(std::string_view task_id) {
  static constexpr char alphabet[] = "ybndrfg8ejkmcpqxot1uwisza345h769";
  auto digest = sha1(task_id);
  std::string out;
  for (int i = 0; i < 5; ++i) {
    int bit = i * 5;
    unsigned two = static_cast<unsigned char>(digest[bit / 8]) << 8 | static_cast<unsigned char>(digest[bit / 8 + 1]);
    out.push_back(alphabet[(two >> (11 - bit % 8)) & 31]);
  }
  return out;
}

std::string tail_of(const AgentId& agent) { return label_of(std::string_view(agent.str()).substr(agent.str().rfind('-') + 1)); }

static std::string cut(std::string_view label, std::size_t max) {
  auto out = std::string(label.substr(0, max));
  while (out.ends_with('-')) out.pop_back();
  return out;
}

std::string instance_label(std::string_view label, std::string_view hash, std::string_view tail) {
  tail = tail.substr(0, 32);
  auto rest = hash.size() + tail.size() + 2;
  return cut(label, 63 - rest) + "-" + std::string(hash) + "-" + std::string(tail);
}

std::string service_label(std::string_view label) { return "_" + cut(label, 62); }

}  // namespace croft::discovery
