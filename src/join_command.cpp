#include "join_command.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "base/files.hpp"
#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "net/http_client.hpp"
#include "secure/authority.hpp"
#include "secure/cluster_files.hpp"
#include "secure/join_token.hpp"
#include "settings.hpp"

namespace croft {

namespace asio = boost::asio;

namespace {

struct Joined {
  std::string cluster, certificate_pem, bundle, key_pem;
  std::vector<std::pair<std::string, std::string>> master;  ///< files for masters
};

Result<net::Response> ask(const net::Origin& to, std::string method, std::string target, std::string body) {
  asio::io_context io;
  net::ClientOptions how;
  how.keep_alive = false;
  net::HttpClient client(io.get_executor(), how);
  net::Request request;
  request.method = std::move(method);
  request.target = std::move(target);
  request.headers.set("Accept", "application/json");
  if (!body.empty()) request.headers.set("Content-Type", "application/json");
  request.body = std::move(body);
  auto answer = asio::co_spawn(io, client.request(to, std::move(request)), asio::use_future);
  io.run();
  return answer.get();
}

/// The one CA that the token names, out of what the master says; nothing else that it says is believed before.
Result<std::string> trusted_bundle(const net::Origin& master, const secure::JoinToken& token) {
  auto unproved = net::TlsClient::make({.bundle = {}, .identity = {}, .unproved = true});
  if (!unproved) return fail(std::move(unproved).error());
  auto to = master;
  to.tls = *unproved;
  auto answer = ask(to, "GET", "/croft/v1/ca", "");
  if (!answer) return fail(std::move(answer).error());
  if (answer->status != 200) return fail(Errc::unavailable, "{} answered {}: {}", master.str(), answer->status, answer->body.substr(0, 200));
  auto anchors = secure::read_bundle(answer->body);
  if (!anchors) return fail(std::move(anchors).error());
  if (std::none_of(anchors->begin(), anchors->end(), [&](const auto& a) { return a.fingerprint == token.ca_fingerprint; }))
    return fail(Errc::forbidden, "{}: its CA is not the token's ({}): somebody else answers there, or the token is another cluster's", master.str(), token.ca_fingerprint.substr(0, 16));
  // Of a bundle only the CA that the token vouches for.
  std::string one;
  constexpr std::string_view end = "-----END CERTIFICATE-----";
  for (std::size_t at = 0, next = 0; (next = answer->body.find(end, at)) != std::string::npos; at = next + end.size()) {
    auto pem = answer->body.substr(at, next + end.size() - at) + "\n";
    auto read = secure::read_bundle(pem);
    if (read && read->front().fingerprint == token.ca_fingerprint) one = pem;
  }
  return one;
}

Result<Joined> ask_to_join(const cli::JoinOptions& o, const std::string& text) {
  auto token = secure::read_join_token(text);
  if (!token) return fail(std::move(token).error());
  auto url = net::Url::parse(o.master.find("://") == std::string::npos ? "https://" + o.master : o.master);
  if (!url) return fail(std::move(url).error());
  if (url->scheme != "https") return fail(Errc::invalid, "{}: a host joins over https://", o.master);
  net::Origin master{.host = url->host, .port = url->port, .unix_path = {}};
  auto bundle = trusted_bundle(master, *token);
  if (!bundle) return fail(std::move(bundle).error());
  auto client = net::TlsClient::make({.bundle = *bundle, .identity = {}});
  if (!client) return fail(std::move(client).error());
  master.tls = *client;
  master.expect = {.cluster = {}, .host = {}, .role = secure::HostRole::master};
  auto host = !o.host.empty() ? o.host : !token->host.empty() ? token->host : lower(this_host());
  auto made = secure::make_key_and_request();
  JsonWriter w;
  w.begin_object().field("token", trim(text)).field("host", host).key("roles").begin_array();
  if (o.roles.empty())
    for (auto role : token->roles) w.value(secure::to_string(role));
  for (const auto& role : o.roles) w.value(role);
  w.end_array().key("names").begin_array();
  for (auto name : {"localhost", "127.0.0.1"}) w.value(name);
  for (const auto& name : o.names) w.value(name);
  w.end_array().field("request", made.request_pem).end_object();
  auto answer = ask(master, "POST", "/croft/v1/join", std::move(w).take());
  if (!answer && answer.error().context.find("certificate") != std::string::npos)
    return fail(answer.error().code, "{} (the token names the CA of when it was made: after croft ca rotate a new token is needed)", answer.error().context);
  if (!answer) return fail(std::move(answer).error());
  auto body = json::parse(answer->body);
  if (answer->status != 200 || !body) return fail(Errc::forbidden, "{}", body ? json::text(*body, "message", answer->body) : answer->body.substr(0, 200));
  Joined out{json::text(*body, "cluster"), json::text(*body, "certificate"), json::text(*body, "bundle"), made.key_pem, {}};
  if (auto ok = secure::check_pair(out.certificate_pem, out.key_pem); !ok) return fail(std::move(ok).error());
  auto verified = secure::verify_certificate(out.certificate_pem, *bundle, system_now().wall, secure::Use::server, {.cluster = out.cluster, .host = host, .role = {}});
  if (!verified) verified = secure::verify_certificate(out.certificate_pem, out.bundle, system_now().wall, secure::Use::server, {.cluster = out.cluster, .host = host, .role = {}});
  if (!verified) return fail(std::move(verified).error());
  for (const auto& file : json::members(*body, "master"))
    if (std::find(std::begin(secure::master_files), std::end(secure::master_files), std::string_view(file.key())) != std::end(secure::master_files) && file.value().is_string())
      out.master.emplace_back(std::string(file.key()), std::string(file.value().get_string()));
  return out;
}

Status write_all(const fs::path& folder, const Joined& j) {
  auto parent = fs::absolute(folder).parent_path();
  if (auto ok = make_dirs(parent); !ok) return ok;
  auto aside = parent / (fs::absolute(folder).filename().string() + ".new");
  std::error_code ec;
  fs::remove_all(aside, ec);
  if (::mkdir(aside.c_str(), 0700) != 0) return fail_errno("make " + aside.string());
  Status done = write_file_atomic(aside / "ca.pem", j.bundle, 0644);
  if (done) done = write_file_atomic(aside / "host.pem", j.certificate_pem, 0644);
  if (done) done = write_file_atomic(aside / "host.key", j.key_pem, 0600);
  for (const auto& [name, text] : j.master)
    if (done) done = write_file_atomic(aside / name, text, 0600);
  if (done && ::rename(aside.c_str(), folder.c_str()) != 0) done = fail(Errc::conflict, "{}: is there already; to join anew, move it away", folder.string());
  if (done) done = sync_dir(parent);
  if (!done) fs::remove_all(aside, ec);
  return done;
}

}  // namespace

int join_command(const cli::JoinOptions& o) {
  auto failed = [](const Error& e) {
    std::fprintf(stderr, "croft: join: %s\n", e.context.c_str());
    return e.code == Errc::conflict ? cli::conflict : e.code == Errc::invalid ? cli::usage : e.code == Errc::unavailable ? cli::unreachable : cli::failed;
  };
  std::error_code ec;
  if (fs::exists(o.folder, ec) && !fs::is_empty(o.folder, ec)) return failed({Errc::conflict, o.folder.string() + ": is there already; to join anew, move it away"});
  if (auto ok = secure::check_owner(o.owner); !ok) return failed(ok.error());
  auto text = o.token;
  if (text == "-") std::getline(std::cin, text);
  auto joined = ask_to_join(o, text);
  if (!joined) return failed(joined.error());
  if (auto ok = write_all(o.folder, *joined); !ok) return failed(ok.error());
  if (auto ok = secure::hand_over(o.folder, o.owner); !ok) return failed(ok.error());
  std::printf("joined cluster %s; certificate and key are in %s\n", joined->cluster.c_str(), o.folder.c_str());
  return cli::ok;
}

}  // namespace croft
