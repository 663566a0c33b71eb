#include "cli/session.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>

#include "base/files.hpp"
#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"

namespace croft::cli {

namespace asio = boost::asio;

namespace {

template <class T>
T wait_for(asio::io_context& io, asio::awaitable<T> work) {
  auto result = asio::co_spawn(io, std::move(work), asio::use_future);
  io.run();
  io.restart();
  return result.get();
}

struct Target {
  net::Origin origin;
  std::string path;
};

Target target_of(const std::string& base, const std::string& path, const std::string& bundle, std::shared_ptr<const net::TlsClient>& kept) {
  auto url = net::Url::parse(base);
  if (!url) throw Ended{usage, base + ": " + url.error().context};
  if (url->scheme != "http" && url->scheme != "https") throw Ended{usage, base + ": must begin with http:// or https://"};
  auto prefix = url->target == "/" ? std::string() : url->target;
  Target out{{.host = url->host, .port = url->port, .unix_path = {}}, prefix + path};
  if (url->scheme == "http") return out;
  if (!kept) {
    auto tls = net::TlsClient::make({bundle, {}});
    if (!tls) throw Ended{usage, "the CAs to trust: " + tls.error().context};
    kept = *tls;
  }
  out.origin.tls = kept;
  return out;
}

bool on_loopback(const std::string& host) { return host == "localhost" || host.starts_with("127.") || host == "::1"; }

std::string first_line(const std::filesystem::path& file) {
  auto text = read_file(file, 4096);
  if (!text) throw Ended{usage, text.error().context};
  return std::string(trim(std::string_view(*text).substr(0, text->find('\n'))));
}

}  // namespace

std::filesystem::path login_file() {
  const char* config = std::getenv("XDG_CONFIG_HOME");
  const char* home = std::getenv("HOME");
  if (config && *config == '/') return std::filesystem::path(config) / "croft/login.json";
  return std::filesystem::path(home && *home == '/' ? home : "/root") / ".config/croft/login.json";
}

std::optional<Login> read_login() {
  auto file = login_file();
  struct stat st{};
  if (::stat(file.c_str(), &st) != 0) return std::nullopt;
  if (st.st_mode & 077) throw Ended{usage, fmt::format("{}: others may read it (mode {:o}); it must be 600", file.string(), st.st_mode & 0777)};
  auto text = read_file(file, 1u << 20);
  auto parsed = text ? json::parse(*text) : Result<json::value>(fail(std::move(text).error()));
  if (!parsed) throw Ended{usage, file.string() + ": " + parsed.error().context};
  return Login{json::text(*parsed, "url"), json::text(*parsed, "logs_url"), json::text(*parsed, "balancer_url"), json::text(*parsed, "ca"), json::text(*parsed, "token")};
}

Session::Session(const Common& common) : common_(common) {
  auto login = read_login();
  if (login) {
    if (!common_.url_given && !login->url.empty()) common_.url = login->url;
    if (!common_.logs_url_given && !login->logs_url.empty()) common_.logs_url = login->logs_url, common_.logs_url_given = true;
    if (!common_.balancer_url_given && !login->balancer_url.empty()) common_.balancer_url = login->balancer_url, common_.balancer_url_given = true;
  }
  // Where nothing else is said, the farm's other faces are looked for on the master's host.
  if (auto master = net::Url::parse(common_.url)) {
    auto host = master->host.find(':') == std::string::npos || master->host.starts_with('[') ? master->host : "[" + master->host + "]";
    if (!common_.logs_url_given) common_.logs_url = fmt::format("{}://{}:9200", master->scheme, host);
    if (!common_.balancer_url_given) common_.balancer_url = fmt::format("{}://{}:8000", master->scheme, host);
  }
  constexpr const char* cluster_ca = "/etc/croft/cluster/ca.pem";
  if (!common_.ca.empty()) {
    auto text = read_file(common_.ca, 1u << 20);
    if (!text) throw Ended{usage, "--ca: " + text.error().context};
    bundle_ = *text;
  } else if (login && !login->ca_pem.empty()) {
    bundle_ = login->ca_pem;
  } else if (auto text = read_file(cluster_ca, 1u << 20)) {
    bundle_ = *text;
  }
  const char* given = std::getenv("CROFT_TOKEN");
  std::string token;
  if (!common_.token_file.empty()) token = first_line(common_.token_file);
  else if (given && *given) token = given;
  else if (login) token = login->token, kept_ = login;
  if (!token.empty()) authorization_ = "Bearer " + token;
}
Session::~Session() = default;

boost::json::value Session::Answer::json() const {
  auto parsed = json::parse(body);
  if (!parsed) throw Ended{failed, "the farm's answer is not JSON: " + parsed.error().context};
  return std::move(*parsed);
}

Session::Prepared Session::prepared(const std::string& base, std::string_view method, const std::string& target, std::string body) const {
  auto to = target_of(base, target, bundle_, tls_);
  net::Request request;
  request.method = method;
  request.target = to.path;
  request.headers.set("Accept", "application/json");
  // A token goes where the other side has proved who it is, or no further than this machine.
  bool proved = to.origin.tls || on_loopback(to.origin.host);
  if (kept_) proved = proved && (base == kept_->url || base == kept_->logs_url || base == kept_->balancer_url || (to.origin.tls && !bundle_.empty() && bundle_ == kept_->ca_pem));
  if (!authorization_.empty() && proved) request.headers.set("Authorization", authorization_);
  if (!body.empty()) request.headers.set("Content-Type", "application/json");
  request.body = std::move(body);
  return {std::move(to.origin), std::move(request)};
}

Session::Answer Session::send(const std::string& base, std::string_view setting, std::string_view method, const std::string& target, std::string body) {
  asio::io_context io;
  net::ClientOptions options;
  options.keep_alive = false;
  net::HttpClient client(io.get_executor(), options);
  auto [origin, request] = prepared(base, method, target, std::move(body));
  auto answer = wait_for(io, client.request(origin, std::move(request)));
  if (!answer && answer.error().code == Errc::forbidden)
    throw Ended{failed, fmt::format("{} is not who it should be, or does not take us: {}\n  the CAs to trust: --ca FILE or CROFT_CA (ca.pem of any host of the cluster)", base, answer.error().context)};
  if (!answer) {
    auto code = answer.error().code == Errc::timeout ? timed_out : unreachable;
    throw Ended{code, fmt::format("no farm answers at {} ({}); is it up? {}", base, answer.error().context, setting), true};
  }
  return {answer->status, std::move(answer->body), std::move(answer->headers)};
}

Session::Answer Session::call(std::string_view method, const std::string& target, std::string body) {
  return send(common_.url, "Another address: --url or CROFT_URL", method, target, std::move(body));
}

Session::Answer Session::call_as(const std::string& user, const std::string& password, std::string_view method, const std::string& target, std::string body) {
  return call_with("Basic " + base64_encode(user + ":" + password), method, target, std::move(body));
}

Session::Answer Session::call_with(const std::string& authorization, std::string_view method, const std::string& target, std::string body) {
  auto before = std::exchange(authorization_, authorization);
  auto kept = std::exchange(kept_, std::nullopt);
  auto answer = call(method, target, std::move(body));
  authorization_ = before;
  kept_ = std::move(kept);
  return answer;
}

Session::Answer Session::logs(std::string_view method, const std::string& target, std::string body) {
  return send(common_.logs_url, "Another address of the logs: --logs-url or CROFT_LOGS_URL", method, target, std::move(body));
}

Session::Answer Session::balancer(std::string_view method, const std::string& target, std::string body) {
  return send(common_.balancer_url, "Another address of a balancer: --balancer-url or CROFT_BAMBOO_URL", method, target, std::move(body));
}

Session::Answer Session::must(std::string_view method, const std::string& target, std::string body) {
  return good(call(method, target, std::move(body)), target);
}

Session::Answer Session::good(Answer answer, const std::string& target) const {
  if (answer.status < 400) return answer;
  if (answer.status == 404 && target.starts_with("/croft/v1/") && words_of(answer).starts_with("URI not found"))
    throw Ended{failed, "this farm has no logins, users or tokens: it runs with auth = \"none\""};
  auto code = answer.status == 404 ? not_found : answer.status == 409 ? conflict : answer.status == 400 || answer.status == 422 ? usage : failed;
  if (answer.status == 401) throw Ended{code, words_of(answer) + (kept_ ? "\n  the kept login is not good any more (it has expired, or its user's rights or password were changed): croft login --user NAME" : "\n  croft login --user NAME, or a token in CROFT_TOKEN or --token-file")};
  auto locked = words_of_lock(answer);
  throw Ended{code, locked.empty() ? words_of(answer) : locked, answer.status >= 502 && answer.status <= 504};
}

std::string words_of_lock(const Session::Answer& answer) {
  auto parsed = answer.status == 409 ? json::parse(answer.body) : Result<json::value>(json::value());
  std::vector<std::string> ids;
  if (parsed)
    for (const auto& d : json::list(*parsed, "deployments")) ids.push_back(json::text(d, "id"));
  if (ids.empty()) return "";
  return fmt::format("it is locked by deployment {}, which is under way\n  look at it:   croft deployment list, and croft explain with the app's id\n  undo it:      croft deployment rollback {}\n"
                     "  override it:  the same command with --force",
                     join(ids, ", "), ids[0]);
}

namespace {

/// Marathon's keys of mistakes, which the faces keep for its clients, as a person would say it.
std::string in_words(const std::string& path, const std::string& error) {
  constexpr std::pair<std::string_view, std::string_view> said[] = {
      {"error.path.missing", "is missing"},         {"error.expected.jsobject", "must be an object"},      {"error.expected.jsarray", "must be a list"},
      {"error.expected.jsstring", "must be text"},  {"error.expected.jsnumber", "must be a number"},       {"error.expected.jsboolean", "must be true or false"},
      {"error.expected.int", "must be whole"},      {"error.min", "is less than it may be"},               {"error.max", "is more than it may be"},
  };
  for (const auto& [key, words] : said)
    if (error == key) return std::string(words);
  constexpr std::string_view literal = "error.unknown.enum.literal: ";
  if (error.starts_with(literal)) return error.substr(literal.size());
  if (path == "/container/docker" && error == "not defined") return error + " (an app without an image has \"type\": \"MESOS\" in its container)";
  return error;
}

}  // namespace

std::string words_of(const Session::Answer& answer) {
  auto parsed = json::parse(answer.body);
  if (!parsed) return fmt::format("the farm answered {}: {}", answer.status, answer.body.substr(0, 300));
  auto text = json::text(*parsed, "message");
  if (const auto* error = json::find(*parsed, "error"); text.empty() && error) {  // as Elasticsearch's face says it: the cause tells more than "all shards failed"
    for (const auto& cause : json::list(*error, "root_cause")) text = json::text(cause, "reason");
    if (text.empty()) text = json::text(*error, "reason");
  }
  if (text.empty()) text = fmt::format("the farm answered {}", answer.status);
  for (const auto& detail : json::list(*parsed, "details"))
    for (const auto& error : json::texts(detail, "errors")) text += fmt::format("\n  {}: {}", json::text(detail, "path"), in_words(json::text(detail, "path"), error));
  if (const auto* details = json::find(*parsed, "details"); details && details->is_string()) text += "\n  " + std::string(details->get_string());
  return text;
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], row[i].size());
    }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) line += fmt::format("{:<{}}  ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string column(std::string_view text) {
  std::string out;
  for (char c : inert(text))
    if (c != ' ' || !out.ends_with(' ')) out.push_back(c);
  return out;
}

void print(const std::string& given) {
  static const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  const auto& text = terminal ? inert(given, true) : given;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw Ended{failed, fmt::format("cannot write to stdout: {}", std::strerror(errno))};
}

std::string in_url(std::string_view app) {
  std::string out;
  for (const auto& part : split(app, '/')) {
    if (part.empty()) continue;
    out += '/';
    out += url_encode(part);
  }
  return out;
}

}  // namespace croft::cli
