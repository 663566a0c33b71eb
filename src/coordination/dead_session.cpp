#include "coordination/dead_session.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <zookeeper/zookeeper.h>

#include <condition_variable>
#include <cstring>
#include <mutex>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace croft::coordination {

namespace {

constexpr int ask_timeout_ms = 4000;

fs::path identity_file(const fs::path& folder) { return folder / "session.json"; }

/// What the library's threads tell the one that waits.
struct Waiting {
  std::mutex mutex;
  std::condition_variable wake;
  int state = 0;  // mutex
};

void on_state(zhandle_t*, int type, int state, const char*, void* context) {
  if (type != ZOO_SESSION_EVENT) return;
  auto* waiting = static_cast<Waiting*>(context);
  std::lock_guard lock(waiting->mutex);
  waiting->state = state;
  waiting->wake.notify_all();
}

std::string from_hex(std::string_view text) {
  std::string out;
  auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    if (digit(text[i]) < 0 || digit(text[i + 1]) < 0) return {};
    out += static_cast<char>(digit(text[i]) * 16 + digit(text[i + 1]));
  }
  return out;
}

}  // namespace

std::string encode(const SessionIdentity& identity) {
  JsonWriter w;
  w.begin_object().field("format", 1).field("servers", identity.servers).field("session", fmt::format("{:x}", static_cast<std::uint64_t>(identity.id)));
  w.field("password", hex(std::string_view(identity.password.data(), identity.password.size()))).end_object();
  return std::move(w).take();
}

Result<SessionIdentity> decode_session_identity(std::string_view text) {
  auto damaged = [] { return fail(Errc::corrupt, "session.json: not the identity of a session"); };
  auto parsed = json::parse(text);
  if (!parsed || json::integer(*parsed, "format") != 1) return damaged();
  SessionIdentity out;
  out.servers = json::text(*parsed, "servers");
  auto number = json::text(*parsed, "session");
  auto password = from_hex(json::text(*parsed, "password"));
  if (out.servers.empty() || number.empty() || number.size() > 16 || password.size() != out.password.size()) return damaged();
  auto bytes = from_hex(std::string(16 - number.size(), '0') + number);
  if (bytes.size() != 8) return damaged();
  std::uint64_t id = 0;
  for (unsigned char byte : bytes) id = id << 8 | byte;
  if (id == 0) return damaged();
  out.id = static_cast<std::int64_t>(id);
  std::memcpy(out.password.data(), password.data(), password.size());
  return out;
}

Result<Fd> lock_session(const fs::path& folder) {
  auto file = folder / "session.lock";
  Fd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return fail_errno("open " + file.string());
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK) return fail(Errc::conflict, "{}: held by a process that lives", file.string());
  return fail_errno("lock " + file.string());
}

Status keep_session(const fs::path& folder, const SessionIdentity& identity) { return write_file_atomic(identity_file(folder), encode(identity), 0600); }

void forget_session(const fs::path& folder) {
  std::error_code ignored;
  fs::remove(identity_file(folder), ignored);
}

Result<bool> end_kept_session(const fs::path& folder, Millis limit) {
  auto text = read_file(identity_file(folder), 64u << 10);
  if (!text && text.error().code == Errc::not_found) return false;
  if (!text) return fail(std::move(text).error());
  auto identity = decode_session_identity(*text);
  if (!identity) {
    forget_session(folder);
    return fail(std::move(identity).error().within(folder.string()));
  }
  clientid_t client{};
  client.client_id = identity->id;
  std::memcpy(client.passwd, identity->password.data(), sizeof client.passwd);
  Waiting waiting;
  auto quiet = [](const char* line) { log::debug("zookeeper", "{}", line); };
  auto* handle = zookeeper_init2(identity->servers.c_str(), on_state, ask_timeout_ms, &client, &waiting, 0, quiet);
  if (!handle) return fail(Errc::unavailable, "ZooKeeper at {}: {}", identity->servers, errno_error("the client cannot start", errno).context);
  int state;
  {
    std::unique_lock lock(waiting.mutex);
    auto known = [&] { return waiting.state == ZOO_CONNECTED_STATE || waiting.state == ZOO_EXPIRED_SESSION_STATE || waiting.state == ZOO_AUTH_FAILED_STATE; };
    waiting.wake.wait_for(lock, limit, known);
    state = known() ? waiting.state : 0;
  }
  int closed = zookeeper_close(handle);  // on a connected handle this ends the session
  if (state == 0) return fail(Errc::unavailable, "ZooKeeper at {} did not answer within {} ms", identity->servers, limit.count());
  if (state == ZOO_AUTH_FAILED_STATE) return fail(Errc::forbidden, "ZooKeeper at {} refuses the kept session", identity->servers);
  if (state == ZOO_CONNECTED_STATE && closed != ZOK) return fail(Errc::unavailable, "ZooKeeper at {}: ending the session: {}", identity->servers, zerror(closed));
  forget_session(folder);
  return state == ZOO_CONNECTED_STATE;
}

Result<bool> end_dead_session(const fs::path& folder, Millis limit) {
  auto lock = lock_session(folder);
  if (!lock) return fail(std::move(lock).error());
  return end_kept_session(folder, limit);
}

}  // namespace croft::coordination
