// Users, tokens, logins and the audit log.

#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <thread>

#include "base/files.hpp"
#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"
#include "cli/commands.hpp"
#include "secure/old_credentials.hpp"

namespace croft::cli {

std::string secret_line(const char* what) {
  bool terminal = ::isatty(STDIN_FILENO) == 1;
  termios before{};
  if (terminal) {
    std::fprintf(stderr, "%s: ", what);
    ::tcgetattr(STDIN_FILENO, &before);
    auto silent = before;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
  }
  std::string line;
  std::getline(std::cin, line);
  if (terminal) {
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    std::fprintf(stderr, "\n");
  }
  if (line.empty()) throw Ended{usage, fmt::format("{}: nothing was given", what)};
  return line;
}

namespace {

std::string new_password() {
  auto first = secret_line("new password");
  if (::isatty(STDIN_FILENO) == 1 && secret_line("again") != first) throw Ended{usage, "the two passwords differ"};
  return first;
}

void put_list(JsonWriter& w, std::string_view key, const std::vector<std::string>& texts) {
  w.key(key).begin_array();
  for (const auto& text : texts) w.value(text);
  w.end_array();
}

std::string grants_in(const json::value& v) { return join(json::texts(v, "grants"), " "); }

std::string user_path(const std::string& name) { return "/croft/v1/users/" + url_encode(name); }

void keep(const Login& login) {
  JsonWriter w;
  w.begin_object().field("url", login.url).field("logs_url", login.logs_url).field("balancer_url", login.balancer_url).field("ca", login.ca_pem).field("token", login.token).end_object();
  auto file = login_file();
  if (auto ok = make_dirs(file.parent_path(), 0700); !ok) throw Ended{failed, ok.error().context};
  if (auto ok = write_file_atomic(file, w.str(), 0600); !ok) throw Ended{failed, ok.error().context};
  std::fprintf(stderr, "kept in %s\n", file.c_str());
}

void tell(const Session& s, const std::string& text) {
  if (!s.common().quiet) std::fprintf(stderr, "%s\n", text.c_str());
}

void print_audit(const Session& s, const json::value& page) {
  for (const auto& a : json::list(page, "records")) {
    if (s.common().json) {
      print(json::print(a) + "\n");
      continue;
    }
    auto done = json::boolean(a, "done", true);
    auto refused = done ? "" : fmt::format("  REFUSED: {}", column(json::text(a, "reason")));
    auto changes = json::texts(a, "changes");
    auto changed = changes.empty() ? "" : fmt::format("  ({})", column(join(changes, "; ")));
    print(fmt::format("{}  {}  {}  {}  {}{}{}\n", column(json::text(a, "when")), column(json::text(a, "who")), column(json::text(a, "from")), column(json::text(a, "what")),
                      column(join(json::texts(a, "paths"), " ")), refused, changed));
  }
}

}  // namespace

int user_add(Session& s, const AccountOptions& o) {
  JsonWriter w;
  w.begin_object().field("name", o.name).field("password", new_password());
  put_list(w, "grants", o.grants);
  w.end_object();
  s.must("POST", "/croft/v1/users", std::move(w).take());
  tell(s, fmt::format("user {} is made: {}", o.name, join(o.grants, ", ")));
  return ok;
}

int user_list(Session& s) {
  auto answer = s.must("GET", "/croft/v1/users");
  if (s.common().json) return print(answer.body + "\n"), ok;
  std::vector<std::vector<std::string>> rows{{"NAME", "GRANTS", "SINCE", "BY"}};
  auto body = answer.json();
  for (const auto& u : json::list(body, "users")) rows.push_back({json::text(u, "name"), grants_in(u), json::text(u, "created"), json::text(u, "created_by")});
  print(table(rows));
  return ok;
}

int user_grant(Session& s, const AccountOptions& o) {
  JsonWriter w;
  w.begin_object();
  put_list(w, "grants", o.grants);
  w.end_object();
  s.must("PUT", user_path(o.name), std::move(w).take());
  tell(s, fmt::format("user {} has these rights now: {}; who was logged in as {} logs in again", o.name, join(o.grants, ", "), o.name));
  return ok;
}

int user_remove(Session& s, const AccountOptions& o) {
  s.must("DELETE", user_path(o.name));
  tell(s, fmt::format("user {} is removed", o.name));
  return ok;
}

/// One's own is changed by who knows the present one, not by whoever has a token.
int user_passwd(Session& s, const AccountOptions& o) {
  auto body = [](const std::string& password) {
    JsonWriter w;
    w.begin_object().field("password", password).end_object();
    return std::move(w).take();
  };
  if (!o.name.empty()) {
    s.must("PUT", user_path(o.name), body(new_password()));
    return tell(s, fmt::format("user {} has another password; who was logged in as {} logs in again", o.name, o.name)), ok;
  }
  auto me = s.must("GET", "/croft/v1/whoami").json();
  constexpr std::string_view login = "login of ";
  auto label = json::text(me, "label");
  if (json::text(me, "kind") != "user" && !label.starts_with(login)) throw Ended{failed, "this token is no user's: croft user passwd NAME, or croft login --user NAME first"};
  auto name = json::text(me, "kind") == "user" ? json::text(me, "name") : label.substr(login.size());
  auto present = secret_line("present password");
  (void)s.good(s.call_as(name, present, "PUT", "/croft/v1/password", body(new_password())), "/croft/v1/password");
  return tell(s, "your password is changed; log in again: croft login --user " + name), ok;
}

int migrate_credentials(Session& s, const AccountOptions& o) {
  auto text = read_file(o.path == "-" ? "/dev/stdin" : o.path, 1u << 20);
  if (!text) throw Ended{usage, text.error().context};
  auto old = secure::read_old_credentials(*text);
  if (!old) throw Ended{usage, o.path + ": " + old.error().context};
  int made = 0, refused = 0;
  for (const auto& [name, password] : *old) {
    JsonWriter w;
    w.begin_object().field("name", name).field("password", password);
    put_list(w, "grants", o.grants);
    w.end_object();
    auto answer = s.call("POST", "/croft/v1/users", std::move(w).take());
    if (answer.status < 300) ++made;
    else if (answer.status != 409) ++refused;
    auto words = answer.status < 300 ? "user is made" : answer.status == 409 ? "is a user already, and left as it is" : words_of(answer);
    if (answer.status >= 300 || !s.common().quiet) std::fprintf(stderr, "%s: %s\n", inert(name).c_str(), words.c_str());
    if (answer.status == 401 || answer.status == 403) throw Ended{failed, "nothing further was tried"};
  }
  print(fmt::format("{} of {} credentials are users now\n", made, old->size()));
  return refused > 0 ? failed : ok;
}

int token_create(Session& s, const AccountOptions& o) {
  JsonWriter w;
  w.begin_object().field("label", o.label);
  put_list(w, "grants", o.grants);
  if (o.hours > 0) w.field("hours", o.hours);
  w.end_object();
  auto answer = s.must("POST", "/croft/v1/tokens", std::move(w).take());
  if (s.common().json) return print(answer.body + "\n"), ok;
  if (!s.common().quiet) std::fprintf(stderr, "it is not shown again:\n");
  print(json::text(answer.json(), "token") + "\n");
  return ok;
}

int token_list(Session& s) {
  auto answer = s.must("GET", "/croft/v1/tokens");
  if (s.common().json) return print(answer.body + "\n"), ok;
  std::vector<std::vector<std::string>> rows{{"ID", "LABEL", "GRANTS", "EXPIRES", "BY"}};
  auto body = answer.json();
  for (const auto& t : json::list(body, "tokens")) rows.push_back({json::text(t, "id"), json::text(t, "label"), grants_in(t), json::text(t, "expires", "never"), json::text(t, "created_by")});
  print(table(rows));
  return ok;
}

int token_revoke(Session& s, const AccountOptions& o) {
  s.must("DELETE", "/croft/v1/tokens/" + url_encode(o.name));
  return ok;
}

int token_join(Session& s, const AccountOptions& o) {
  JsonWriter w;
  w.begin_object();
  put_list(w, "roles", o.roles);
  if (!o.host.empty()) w.field("host", o.host);
  if (o.hours > 0) w.field("hours", o.hours);
  w.end_object();
  auto answer = s.must("POST", "/croft/v1/join-tokens", std::move(w).take());
  if (s.common().json) return print(answer.body + "\n"), ok;
  print(json::text(answer.json(), "token") + "\n");
  return ok;
}

namespace {

void print_cas(const Session& s, const Session::Answer& answer) {
  if (s.common().json) return print(answer.body + "\n");
  std::vector<std::vector<std::string>> rows{{"SHA-256", "STATE", "MADE", "SIGNS FROM", "ITS LAST CERTIFICATE ENDS", "ENDS"}};
  auto body = answer.json();
  for (const auto& ca : json::list(body, "cas"))
    rows.push_back({json::text(ca, "sha256").substr(0, 16), json::text(ca, "state"), json::text(ca, "made"), json::text(ca, "signs_from"), json::text(ca, "last_certificate_ends"), json::text(ca, "ends")});
  print(table(rows));
}

void print_revoked(const Session& s, const Session::Answer& answer) {
  if (s.common().json) return print(answer.body + "\n");
  auto body = answer.json();
  std::vector<std::vector<std::string>> rows{{"REVOKED", "ISSUED BEFORE", "BY"}};
  for (const auto& r : json::list(body, "revoked")) rows.push_back({json::text(r, "host"), json::text(r, "before"), json::text(r, "by")});
  if (rows.size() > 1) print(table(rows));
}

}  // namespace

int ca_show(Session& s, bool pem) {
  if (pem) return print(s.must("GET", "/croft/v1/ca").body), ok;
  print_cas(s, s.must("GET", "/croft/v1/ca/rotation"));
  if (!s.common().json) print_revoked(s, s.must("GET", "/croft/v1/ca/revocations"));
  return ok;
}

int ca_revoke(Session& s, const AccountOptions& o) {
  JsonWriter w;
  w.begin_object().field("host", o.name).end_object();
  print_revoked(s, s.must("POST", "/croft/v1/ca/revocations", std::move(w).take()));
  tell(s, fmt::format("{0}: no host takes its certificates any more; to bring it back: croft token join --host {0}", o.name));
  return ok;
}

int ca_rotate(Session& s, int hours) {
  print_cas(s, s.must("POST", "/croft/v1/ca/rotation", fmt::format(R"({{"hours":{}}})", hours)));
  return ok;
}

int login(Session& s, const AccountOptions& o) {
  const auto& c = s.common();
  Login kept{c.url, c.logs_url_given ? c.logs_url : "", c.balancer_url_given ? c.balancer_url : "", s.bundle(), {}};
  if (o.with_token) {
    kept.token = secret_line("token");
    if (auto answer = s.call_with("Bearer " + kept.token, "GET", "/croft/v1/whoami"); answer.status >= 400) throw Ended{failed, words_of(answer)};
  } else {
    if (o.name.empty()) throw Ended{usage, "login: --user NAME, or --with-token"};
    auto answer = s.call_as(o.name, secret_line("password"), "POST", "/croft/v1/login", "{}");
    if (answer.status >= 400) throw Ended{failed, words_of(answer)};
    kept.token = json::text(answer.json(), "token");
  }
  keep(kept);
  return ok;
}

int logout(const Common& common) {
  std::string left;
  if (auto kept = read_login()) {
    auto theirs = common;  // the kept token's farm, whatever else is named
    theirs.url = kept->url, theirs.url_given = true;
    Session s(theirs);
    try {
      // A token that was made elsewhere is its maker's to revoke; one that is not known any more is over.
      auto answer = s.call_with("Bearer " + kept->token, "DELETE", "/croft/v1/login");
      if (answer.status == 409) left = "; it was not made by croft login, and stays good until it is revoked";
      else if (answer.status >= 400 && answer.status != 401) left = "; the farm did not end it: " + words_of(answer);
    } catch (const Ended& e) {
      left = "; the farm could not be told, so it stays good until it expires: " + e.text;
    }
  }
  std::error_code ec;
  bool was = std::filesystem::remove(login_file(), ec);
  if (ec) throw Ended{failed, login_file().string() + ": " + ec.message()};
  if (!common.quiet) std::fprintf(stderr, "%s%s\n", was ? "the kept token is forgotten" : "there was no kept token", left.c_str());
  return ok;
}

int whoami(Session& s) {
  auto answer = s.must("GET", "/croft/v1/whoami");
  if (s.common().json) return print(answer.body + "\n"), ok;
  auto me = answer.json();
  auto label = json::text(me, "label");
  print(fmt::format("{} {}{}: {}\n", json::text(me, "kind"), json::text(me, "name"), label.empty() ? "" : " (" + label + ")", grants_in(me)));
  return ok;
}

int audit_log(Session& s, const AccountOptions& o) {
  auto more = fmt::format("{}{}", o.path.empty() ? "" : "&path=" + url_encode(o.path), o.who.empty() ? "" : "&who=" + url_encode(o.who));
  auto first = s.must("GET", fmt::format("/croft/v1/audit?last={}{}", std::max(1, o.lines), more)).json();
  if (o.lines > 0) print_audit(s, first);
  if (o.lines > 0 && !o.follow && !s.common().json && json::list(first, "records").empty()) tell(s, "no record, or none that you may see: the audit log is for admins, of the farm or of a group");
  auto newest = json::integer(first, "newest");
  while (o.follow) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    auto page = s.must("GET", fmt::format("/croft/v1/audit?after={}&limit=1000{}", newest, more)).json();
    print_audit(s, page);
    newest = std::max(newest, json::integer(page, "newest"));
  }
  return ok;
}

}  // namespace croft::cli
