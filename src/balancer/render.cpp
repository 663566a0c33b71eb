#include "balancer/render.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace croft::balancer {

namespace {

std::string bind_line(const RenderOptions& o, std::uint16_t port) { return fmt::format("    bind {}:{}\n", o.address.empty() ? "*" : o.address, port); }

std::string algorithm(const Backend& b) {
  if (b.labels.balance == "source") return "source\n    hash-type consistent";  // places are filled at run time: only dynamic algorithms will do
  if (!b.labels.balance.empty()) return b.labels.balance;
  return b.http ? "leastconn" : "roundrobin";
}

/// The app's own patience bounds HAProxy's: an app whose check may take 20 s must not be thrown out after 2.
Millis check_limit(const Backend& b) { return b.check ? std::clamp(b.check->timeout, Millis(2000), Millis(60'000)) : Millis(2000); }

void render_checks(std::string& out, const Backend& b) {
  if (!b.check) return;
  auto path = b.check->path.starts_with('/') ? b.check->path : "/" + b.check->path;
  out += fmt::format("    option httpchk\n    http-check send meth GET uri {} ver HTTP/1.1 hdr Host croft\n    http-check expect status 200-399\n    timeout check {}ms\n", word(path), check_limit(b).count());
}

/// Connects only, where users ask for no check. An instance that was looked at before it listened is looked at again after half a second.
std::string server_options(const Backend& b) {
  std::string out = "check inter 2s fastinter 500ms downinter 500ms rise 1 fall 2";
  if (b.tls) out += b.http ? " ssl verify none" : " check-ssl verify none";
  return out;
}

/// Without a check, so always up; a backup, so asked only when no place is; and all of them share the load. Without a cookie, or a client's cookie would
/// lead to an instance that fails while others serve.
void render_twins(std::string& out, const Backend& b, bool with_slots) {
  if (!b.last_resort) return;
  out += "    option allbackups\n";
  auto options = std::string(b.tls && b.http ? " ssl verify none" : "") + " backup";
  for (std::size_t i = 0; i < b.slots.size(); ++i) {
    const auto& s = b.slots[i];
    if (!with_slots) out += fmt::format("    server {}{}\n", twin_name(i), options);
    else if (s.state == Slot::State::ready) out += fmt::format("    server {} {}:{}{}\n", twin_name(i), word(s.ip), s.port, options);
    else out += fmt::format("    server {} 127.0.0.1:1{} disabled\n", twin_name(i), options);
  }
}

void render_backend(std::string& out, const Backend& b, bool with_slots) {
  out += fmt::format("\nbackend {}\n    mode {}\n    balance {}\n", b.name, b.http ? "http" : "tcp", algorithm(b));
  if (!b.labels.networks.empty()) {
    out += "    acl network_allowed src " + join(b.labels.networks, " ") + "\n";
    out += b.http ? "    http-request deny unless network_allowed\n" : "    tcp-request content reject unless network_allowed\n";
  }
  if (b.http) {
    // A request that may change something is not sent twice once it was sent at all.
    out += "    option forwardfor\n    http-request set-header X-Forwarded-Port %[dst_port]\n    http-request disable-l7-retry if METH_POST or { method PATCH }\n";
    // An empty response: the instance was just ending, or the request ended it. HAProxy cannot tell which, so one other instance is asked and no third. It counts
    // refused connections, which harm nobody, with the same number.
    out += b.labels.resend ? "    retries 1\n    retry-on conn-failure empty-response\n" : "    retry-on conn-failure\n";
    if (b.labels.sticky) out += "    cookie mesosphere_server_id insert indirect nocache\n";
  }
  render_checks(out, b);
  auto options = server_options(b);
  for (std::size_t i = 0; i < b.slots.size(); ++i) {
    const auto& s = b.slots[i];
    auto name = server_name(i);
    auto cookie = b.http && b.labels.sticky ? fmt::format(" cookie {}", name) : "";
    if (!with_slots) out += fmt::format("    server {}{} {}\n", name, cookie, options);
    else if (s.state == Slot::State::free) out += fmt::format("    server {} 127.0.0.1:1{} {} disabled\n", name, cookie, options);
    else out += fmt::format("    server {} {}:{}{} {}{}\n", name, word(s.ip), s.port, cookie, options, s.state == Slot::State::ready ? "" : " disabled");
  }
  render_twins(out, b, with_slots);
}

/// Host names and paths of labels, those with the larger weight first.
void render_hosts(std::string& out, const Plan& plan) {
  std::vector<const Backend*> sorted;
  for (const auto& [name, b] : plan.backends)
    if (b.http && !b.labels.hosts.empty()) sorted.push_back(&b);
  std::stable_sort(sorted.begin(), sorted.end(), [](const Backend* a, const Backend* b) { return a->labels.weight > b->labels.weight; });
  for (const auto* b : sorted) {
    out += fmt::format("    acl host_{} req.hdr(host),field(1,:),lower -m str {}\n", b->name, join(b->labels.hosts, " "));
    std::string path;
    if (!b->labels.paths.empty()) {
      std::vector<std::string> words;
      for (const auto& p : b->labels.paths) words.push_back(word(p));
      out += fmt::format("    acl path_{} path_beg {}{}\n", b->name, b->labels.paths_ignore_case ? "-i " : "", join(words, " "));
      path = " path_" + b->name;
    }
    out += fmt::format("    use_backend {0} if host_{0}{1}\n", b->name, path);
  }
}

std::string render_all(const Plan& plan, const RenderOptions& o, bool with_slots, const std::string& shape) {
  std::string out = fmt::format(
      "# Written by croft; changes are overwritten.\nglobal\n    stats socket {0}/haproxy.sock mode 600 level admin expose-fd listeners\n    hard-stop-after 5m\n    mworker-max-reloads 50\n"
      "    httpclient.ssl.verify none\n"  // nothing of ours uses it, and with it each start reads all the system's CAs: 20 ms of 50, 1.3 MB
      "    nbthread {1}\n    maxconn 8000\n",
      o.run_dir, o.threads);
  if (!shape.empty()) out += fmt::format("    description {}\n", shape);
  out += "\ndefaults\n    mode http\n    retries 3\n    option redispatch 1\n    option http-keep-alive\n    option idle-close-on-response\n    timeout connect 2s\n"
         "    timeout client 60s\n    timeout server 60s\n    timeout http-request 10s\n    timeout http-keep-alive 60s\n    timeout queue 10s\n    timeout tunnel 1h\n    timeout check 2s\n";
  out += "\nfrontend shared\n";
  for (auto port : o.shared_ports) out += bind_line(o, port);
  for (const auto& [app, acl] : plan.rules) {
    auto name = backend_name(app, 0);
    out += fmt::format("    acl rule_{0} {1}\n    use_backend {0} if rule_{0}\n", name, acl);
  }
  render_hosts(out, plan);
  out += "    default_backend nothing_here\n\nbackend nothing_here\n    http-request return status 503 content-type text/plain string \"no rule leads to an app\\n\"\n";
  for (const auto& [name, b] : plan.backends) {
    if (b.service_port) out += fmt::format("\nfrontend port_{}\n    mode {}\n{}    default_backend {}\n", b.service_port, b.http ? "http" : "tcp", bind_line(o, b.service_port), name);
    render_backend(out, b, with_slots);
  }
  return out;
}

}  // namespace

std::string server_name(std::size_t slot) { return fmt::format("s{}", slot + 1); }

std::string twin_name(std::size_t slot) { return fmt::format("l{}", slot + 1); }

std::string word(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c > 0x20 && c < 0x7f && !std::string_view("\\\"'#$").contains(c)) out.push_back(c);
    else if (c != 0) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return out;
}

std::string render(const Plan& plan, const RenderOptions& options, const std::string& shape) { return render_all(plan, options, true, shape); }
std::string render(const Plan& plan, const RenderOptions& options) { return render(plan, options, shape_of(plan, options)); }

std::string shape_of(const Plan& plan, const RenderOptions& options) { return "croft-" + hex(sha1(render_all(plan, options, false, "")).substr(0, 10)); }

std::string probe_config(const std::string& acl) {
  return fmt::format("defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\nfrontend probe\n    bind 127.0.0.1:1\n    acl rule {}\n    use_backend b if rule\nbackend b\n", acl);
}

}  // namespace croft::balancer
