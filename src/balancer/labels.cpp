#include "balancer/labels.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "base/text.hpp"

namespace croft::balancer {

namespace {

constexpr std::size_t words_max = 32;

bool is_host(std::string_view text) {
  if (text.empty() || text.size() > 253 || text.front() == '.' || text.front() == '-') return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'; });
}

/// As a URL has it: no blanks, quotes, backslashes, nothing that is not printable ASCII.
bool is_path(std::string_view text) {
  if (!text.starts_with('/') || text.size() > 1024) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f && !std::string_view("\"'\\#").contains(c); });
}

bool is_network(std::string_view text) {
  auto slash = text.find('/');
  std::string address(text.substr(0, slash));
  std::array<char, 16> bytes{};
  bool v4 = ::inet_pton(AF_INET, address.c_str(), bytes.data()) == 1, v6 = ::inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1;
  if (!v4 && !v6) return false;
  if (slash == std::string_view::npos) return true;
  auto bits = to_int(text.substr(slash + 1));
  return bits && *bits >= 0 && *bits <= (v4 ? 32 : 128);
}

std::vector<std::string> words_of(std::string_view text, char at) {
  std::vector<std::string> out;
  for (const auto& piece : split(text, at))
    if (auto word = trim(piece); !word.empty()) out.emplace_back(word);
  return out;
}

/// Reads one port's labels, each by its name behind "HAPROXY_{n}_".
class Reader {
 public:
  Reader(const Labels& labels, std::size_t index, PortLabels& into) : labels_(labels), prefix_(fmt::format("HAPROXY_{}_", index)), to_(into) {}

  void read() {
    one("MODE", [&](std::string_view v) {
      if (iequals(v, "http")) to_.http = true;
      else if (iequals(v, "tcp")) to_.http = false;
      else return false;
      return true;
    }, "is neither tcp nor http");
    one("PORT", [&](std::string_view v) {
      auto n = to_int(v);
      if (!n || *n < 1 || *n > 65535) return false;
      to_.port = static_cast<std::uint16_t>(*n);
      return true;
    }, "is not a port from 1 to 65535");
    one("BALANCE", [&](std::string_view v) {
      for (std::string_view known : {"roundrobin", "leastconn", "random", "first", "source"})
        if (v == known) to_.balance = known;
      return !to_.balance.empty();
    }, "is none of roundrobin, leastconn, random, first, source");
    one("STICKY", [&](std::string_view v) {
      for (std::string_view yes : {"true", "t", "yes", "y"}) to_.sticky = to_.sticky || iequals(v, yes);
      return true;
    }, "");
    one("RESEND", [&](std::string_view v) {
      bool no = iequals(v, "false") || iequals(v, "no");
      to_.resend = !no;
      return no || iequals(v, "true") || iequals(v, "yes");
    }, "is neither true nor false");
    list("VHOST", ',', to_.hosts, [](std::string& v) { return v = lower(v), is_host(v); }, "is not a host name");
    list("BACKEND_NETWORK_ALLOWED_ACL", ' ', to_.networks, [](std::string& v) { return is_network(v); }, "is not a network such as 10.0.0.0/8");
    path();
    one("BACKEND_WEIGHT", [&](std::string_view v) {
      auto n = to_int(v);
      if (!n || *n < -1'000'000 || *n > 1'000'000) return false;
      to_.weight = static_cast<int>(*n);
      return true;
    }, "is not a number");
    if (to_.weight == 0 && !to_.paths.empty()) to_.weight = 1;
  }

 private:
  const std::string* find(std::string_view name) const {
    auto at = labels_.find(prefix_ + std::string(name));
    return at == labels_.end() ? nullptr : &at->second;
  }
  void problem(std::string_view name, std::string_view value, std::string_view why) {
    std::string shown;
    for (char c : value.substr(0, 80)) shown.push_back(static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c);
    to_.problems.push_back(fmt::format("{}{}: '{}' {}", prefix_, name, shown, why));
  }
  template <class Take>
  void one(std::string_view name, Take&& take, std::string_view why) {
    if (const auto* v = find(name); v && !take(trim(*v))) problem(name, *v, why);
  }
  /// All of it or nothing: half of a list of allowed networks, say, would be another rule than the one that was asked for.
  template <class Fits>
  void list(std::string_view name, char at, std::vector<std::string>& to, Fits&& fits, std::string_view why) {
    const auto* v = find(name);
    if (!v) return;
    auto words = words_of(*v, at);
    if (words.size() > words_max) return problem(name, *v, "has more than 32 entries");
    for (auto& word : words)
      if (auto shown = word; !fits(word)) return problem(name, shown, why);
    to = std::move(words);
  }
  void path() {
    const auto* v = find("PATH");
    if (!v) return;
    auto words = words_of(*v, ' ');
    bool ignore_case = !words.empty() && words.front() == "-i";
    if (ignore_case) words.erase(words.begin());
    if (words.size() > words_max) return problem("PATH", *v, "has more than 32 entries");
    for (const auto& word : words)
      if (!is_path(word)) return problem("PATH", word, "is not a path");
    if (to_.hosts.empty() && !words.empty()) return problem("PATH", *v, "means nothing without a VHOST");
    to_.paths = std::move(words);
    to_.paths_ignore_case = ignore_case;
  }

  const Labels& labels_;
  std::string prefix_;
  PortLabels& to_;
};

}  // namespace

PortLabels port_labels(const Labels& labels, std::size_t port_index) {
  PortLabels out;
  Reader(labels, port_index, out).read();
  return out;
}

}  // namespace croft::balancer
