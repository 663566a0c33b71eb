// The shell over libzookeeper-mt. Its two threads a handle call the functions below; everything else sees coroutines.

#include "coordination/zookeeper_session.hpp"

#include <zookeeper/zookeeper.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <shared_mutex>

#include "base/log.hpp"
#include "coordination/dead_session.hpp"
#include "net/async.hpp"

namespace croft::coordination {

namespace {

constexpr Millis reopen_after{20'000};   // the library resolves host names once a handle; a new handle sees what DNS says now
constexpr Millis open_retry{500};
constexpr Millis bury_limit{3'000};
constexpr std::size_t pipeline = 512;    // questions under way at once; ZooKeeper itself stops reading at about 1000

ACL shown_entries[] = {{ZOO_PERM_READ, {const_cast<char*>("world"), const_cast<char*>("anyone")}}, {ZOO_PERM_ALL, {const_cast<char*>("auth"), const_cast<char*>("")}}};
ACL_vector shown_acl{2, shown_entries};

const ACL_vector* acl_of(ZkAccess access, bool credentials) {
  if (!credentials) return &ZOO_OPEN_ACL_UNSAFE;
  return access == ZkAccess::shown ? &shown_acl : &ZOO_CREATOR_ALL_ACL;
}

void log_line(const char* line) { log::debug("zookeeper", "{}", line); }

bool answered_by_server(int code) { return code == ZOK || (code <= -100 && code != ZSESSIONEXPIRED && code != ZCLOSING); }

}  // namespace

bool ZkReply::no_node() const { return code == ZNONODE; }
bool ZkReply::node_exists() const { return code == ZNODEEXISTS; }
bool ZkReply::bad_version() const { return code == ZBADVERSION; }
bool ZkReply::unknown() const {
  return sent && (code == ZCONNECTIONLOSS || code == ZOPERATIONTIMEOUT || code == ZSESSIONEXPIRED || code == ZCLOSING || code == ZSESSIONMOVED);
}

Error ZkReply::error(std::string_view doing) const {
  auto kind = code == ZNOAUTH || code == ZAUTHFAILED || code == ZINVALIDACL ? Errc::forbidden
              : code == ZNONODE                                             ? Errc::not_found
              : code == ZNODEEXISTS || code == ZBADVERSION                  ? Errc::conflict
              : unknown() && writes                                         ? Errc::unknown_outcome
                                                                            : Errc::unavailable;
  if (!sent) return {kind, fmt::format("ZooKeeper: {}: no connection", doing)};
  return {kind, fmt::format("ZooKeeper: {}: {}", doing, zerror(code))};
}

/// The context that the library's callbacks get; outlives zookeeper_close.
struct ZookeeperSession::Handle {
  std::weak_ptr<Impl> owner;
  zhandle_t* zh = nullptr;
  std::atomic<bool> retired{false};
};

/// One question under way. The library's callback holds a reference until it has come, also when nobody waits any more.
struct ZookeeperSession::Op {
  std::weak_ptr<Impl> owner;
  Mono sent_at;
  std::int64_t session = 0;
  bool proves = false;  // answered by the ensemble's leader
  std::vector<ZkOp> ops;
  std::vector<zoo_op_t> raw;
  std::vector<zoo_op_result_t> results;
  std::shared_ptr<net::Signal> signal = net::Signal::make();
  std::mutex mutex;
  bool done = false;  // mutex
  ZkReply reply;      // mutex
};

/// Many reads in a pipeline: each answer sends the next question, on the library's own thread.
struct ZookeeperSession::Many {
  std::shared_ptr<Impl> impl;
  bool children = false;
  std::vector<std::string> paths;
  std::shared_ptr<net::Signal> signal = net::Signal::make();
  std::mutex mutex;
  std::vector<ZkReply> replies;         // mutex
  std::size_t next = 0, answered = 0;   // mutex
  bool abandoned = false;               // mutex
  struct One { std::shared_ptr<Many> many; std::size_t index; };
};

struct ZookeeperSession::Impl : std::enable_shared_from_this<ZookeeperSession::Impl> {
  Impl(asio::any_io_executor e, ZookeeperOptions o) : executor(std::move(e)), options(std::move(o)) {}
  ~Impl() { close_handle(); }

  asio::any_io_executor executor;
  const ZookeeperOptions options;
  std::shared_ptr<net::Signal> news = net::Signal::make();
  net::BlockingPool pool{1};     // opening and closing a handle block (names are resolved, the close is answered)
  Fd lock;                       // of keep_in; set before anything runs

  std::shared_mutex handle_mutex;
  std::unique_ptr<Handle> handle;  // handle_mutex

  mutable std::mutex mutex;
  bool connected = false, expired = false, refused = false, closing = false, left = true;  // mutex
  bool beating = false;                                                                     // mutex: a heartbeat is under way
  clientid_t client{};                                                                      // mutex: client_id 0 while there is none
  Millis negotiated{0};                                                                     // mutex
  Mono contact = Mono{};                                                               // mutex
  std::string trouble = "not connected yet";                                                // mutex
  std::string leading_node, deposed;                                                        // mutex

  bool credentials() const { return !options.address.user.empty(); }

  // --- what the library's threads call ---

  static void on_event(zhandle_t* zh, int type, int state, const char*, void* context) {
    auto* from = static_cast<Handle*>(context);
    if (from->retired) return;
    auto self = from->owner.lock();
    if (!self) return;
    if (type == ZOO_SESSION_EVENT) self->on_state(zh, state);
    self->news->notify();
  }

  void on_state(zhandle_t* zh, int state) {
    std::lock_guard guard(mutex);
    connected = state == ZOO_CONNECTED_STATE;
    if (connected) {
      client = *zoo_client_id(zh);
      negotiated = Millis(zoo_recv_timeout(zh));
      trouble.clear();
    } else if (state == ZOO_EXPIRED_SESSION_STATE) {
      expired = true;
      client = {};
      contact = Mono{};
      trouble = "the session ended";
    } else if (state == ZOO_AUTH_FAILED_STATE) {
      refused = true;
      trouble = "the credentials are refused";
    } else if (trouble.empty()) {
      trouble = "the connection is lost";
    }
  }

  void note_contact(Mono sent_at, std::int64_t session, int code) {
    if (!answered_by_server(code)) return;
    bool fresh;
    {
      std::lock_guard guard(mutex);
      if (session == 0 || client.client_id != session) return;
      fresh = contact + negotiated * 2 / 3 < sent_at;  // whoever waits for the lease wants to know
      contact = std::max(contact, sent_at);
    }
    if (fresh) news->notify();
  }

  static void finish(const void* data, int code, const std::function<void(ZkReply&)>& fill) {
    std::unique_ptr<const std::shared_ptr<Op>> held(static_cast<const std::shared_ptr<Op>*>(data));
    auto op = *held;
    if (auto impl = op->owner.lock(); impl && op->proves) impl->note_contact(op->sent_at, op->session, code);
    {
      std::lock_guard guard(op->mutex);
      op->reply.code = code;
      if (fill) fill(op->reply);
      op->done = true;
    }
    op->signal->notify();
  }

  static void fill_stat(ZkReply& reply, const Stat* stat) {
    if (stat) reply.stat = {stat->version, stat->ephemeralOwner};
  }
  static void on_data(int code, const char* value, int size, const Stat* stat, const void* data) {
    finish(data, code, [&](ZkReply& r) {
      if (value && size > 0) r.value.assign(value, static_cast<std::size_t>(size));
      fill_stat(r, stat);
    });
  }
  static void on_stat(int code, const Stat* stat, const void* data) {
    finish(data, code, [&](ZkReply& r) { fill_stat(r, stat); });
  }
  static void fill_names(ZkReply& reply, const String_vector* names) {
    if (names) reply.names.assign(names->data, names->data + names->count);
  }
  static void on_names(int code, const String_vector* names, const void* data) {
    finish(data, code, [&](ZkReply& r) { fill_names(r, names); });
  }
  static void on_name(int code, const char* name, const void* data) {
    finish(data, code, [&](ZkReply& r) { if (name) r.value = name; });
  }
  static void on_void(int code, const void* data) { finish(data, code, {}); }
  static void on_multi(int code, const void* data) {
    const auto& op = **static_cast<const std::shared_ptr<Op>*>(data);
    int failed = -1;  // when the connection broke, the library marks every operation: that says nothing
    for (std::size_t i = 0; answered_by_server(code) && i < op.results.size() && failed < 0; ++i)
      if (op.results[i].err != ZOK && op.results[i].err != ZRUNTIMEINCONSISTENCY) failed = static_cast<int>(i);
    finish(data, code, [&](ZkReply& r) { r.failed_op = failed; });
  }
  static void on_auth(int, const void*) {}  // a refusal arrives as a state

  // --- questions ---

  /// `start(zh, context)` gives the library's return code.
  asio::awaitable<ZkReply> ask(std::shared_ptr<Op> op, std::function<int(zhandle_t*, const void*)> start, bool writes, bool proves) {
    auto self = shared_from_this();
    op->owner = self;
    op->proves = proves;
    op->sent_at = std::chrono::steady_clock::now();
    auto ticket = op->signal->ticket();
    int code = ZINVALIDSTATE;
    {
      std::shared_lock guard(handle_mutex);
      bool able;
      {
        std::lock_guard state(mutex);
        able = handle && connected && !closing;
        op->session = client.client_id;
      }
      if (able) {
        op->reply.sent = true;
        auto* context = new std::shared_ptr<Op>(op);
        code = start(handle->zh, context);
        if (code != ZOK) {
          delete context;
          op->reply.sent = false;
        }
      }
    }
    ZkReply reply;
    if (code == ZOK) {
      co_await op->signal->wait(ticket, options.operation_limit);
      std::lock_guard guard(op->mutex);
      reply = op->reply;
      if (!op->done) reply.code = ZOPERATIONTIMEOUT;
    } else {
      reply.code = code;
    }
    reply.writes = writes;
    co_return reply;
  }

  /// Sends questions until the pipeline is full.
  static void pump(const std::shared_ptr<Many>& many) {
    for (;;) {
      std::size_t index;
      {
        std::lock_guard guard(many->mutex);
        if (many->abandoned || many->next >= many->paths.size() || many->next - many->answered >= pipeline) return;
        index = many->next++;
      }
      int code = ZINVALIDSTATE;
      {
        auto& impl = *many->impl;
        std::shared_lock guard(impl.handle_mutex);
        bool able;
        {
          std::lock_guard state(impl.mutex);
          able = impl.connected && !impl.closing;
        }
        if (impl.handle && able) {
          auto* context = new Many::One{many, index};
          const char* path = many->paths[index].c_str();
          code = many->children ? zoo_aget_children(impl.handle->zh, path, 0, on_many_names, context) : zoo_aget(impl.handle->zh, path, 0, on_many_data, context);
          if (code != ZOK) delete context;
        }
      }
      if (code != ZOK) answer(many, index, code, {});
    }
  }
  static void answer(const std::shared_ptr<Many>& many, std::size_t index, int code, const std::function<void(ZkReply&)>& fill) {
    bool last;
    {
      std::lock_guard guard(many->mutex);
      auto& reply = many->replies[index];
      reply.code = code;
      reply.sent = true;
      if (fill && !many->abandoned) fill(reply);
      last = ++many->answered == many->paths.size();
    }
    if (last) many->signal->notify();
  }
  static void on_many_data(int code, const char* value, int size, const Stat* stat, const void* data) {
    std::unique_ptr<const Many::One> one(static_cast<const Many::One*>(data));
    answer(one->many, one->index, code, [&](ZkReply& r) {
      if (value && size > 0) r.value.assign(value, static_cast<std::size_t>(size));
      fill_stat(r, stat);
    });
    pump(one->many);
  }
  static void on_many_names(int code, const String_vector* names, const void* data) {
    std::unique_ptr<const Many::One> one(static_cast<const Many::One*>(data));
    answer(one->many, one->index, code, [&](ZkReply& r) { fill_names(r, names); });
    pump(one->many);
  }

  asio::awaitable<std::vector<ZkReply>> ask_many(std::vector<std::string> paths, bool children) {
    if (paths.empty()) co_return std::vector<ZkReply>{};
    auto many = std::make_shared<Many>();
    many->impl = shared_from_this();
    many->children = children;
    many->replies.resize(paths.size());
    for (auto& reply : many->replies) reply.code = ZOPERATIONTIMEOUT, reply.sent = true;
    many->paths = std::move(paths);
    auto ticket = many->signal->ticket();
    pump(many);
    std::size_t before = 0;
    while (!co_await many->signal->wait(ticket, options.operation_limit)) {
      std::lock_guard guard(many->mutex);
      if (many->answered == many->paths.size()) break;
      if (many->answered == before) {  // nothing came for a whole limit
        many->abandoned = true;
        break;
      }
      before = many->answered;
    }
    std::lock_guard guard(many->mutex);
    many->abandoned = true;
    co_return std::move(many->replies);
  }

  // --- life ---

  struct Beat { std::weak_ptr<Impl> owner; Mono sent_at; std::int64_t session; };
  static void on_beat(int code, const char*, const void* data) {
    std::unique_ptr<const Beat> beat(static_cast<const Beat*>(data));
    auto self = beat->owner.lock();
    if (!self) return;
    {
      std::lock_guard guard(self->mutex);
      self->beating = false;
    }
    self->note_contact(beat->sent_at, beat->session, code);
  }

  /// A sync, not a read: a read is answered by whatever member we talk to, also when that one has lost the others.
  void beat() {
    std::shared_lock guard(handle_mutex);
    if (!handle) return;
    std::unique_ptr<Beat> beat;
    {
      std::lock_guard state(mutex);
      if (!connected || beating || closing) return;
      beating = true;
      beat = std::make_unique<Beat>(weak_from_this(), std::chrono::steady_clock::now(), client.client_id);
    }
    if (zoo_async(handle->zh, "/", on_beat, beat.get()) == ZOK) {
      beat.release();
    } else {
      std::lock_guard state(mutex);
      beating = false;
    }
  }

  /// Blocks: resolves names.
  void open_handle() {
    zoo_set_debug_level(ZOO_LOG_LEVEL_INFO);
    clientid_t goes_on{};
    {
      std::lock_guard guard(mutex);
      if (closing) return;
      goes_on = client;
      connected = expired = refused = beating = false;
      if (goes_on.client_id == 0) contact = Mono{};
    }
    auto made = std::make_unique<Handle>();
    made->owner = weak_from_this();
    auto servers = options.address.servers_text();
    made->zh = zookeeper_init2(servers.c_str(), on_event, static_cast<int>(options.session_timeout.count()), goes_on.client_id ? &goes_on : nullptr, made.get(), 0, log_line);
    if (!made->zh) {
      auto why = errno_error("the client cannot start, perhaps no host name resolves", errno).context;
      std::lock_guard state(mutex);
      trouble = why;
      return;
    }
    if (credentials()) {
      auto digest = options.address.user + ":" + options.address.password;
      zoo_add_auth(made->zh, "digest", digest.data(), static_cast<int>(digest.size()), on_auth, nullptr);
    }
    {
      std::unique_lock guard(handle_mutex);
      handle = std::move(made);
    }
    news->notify();  // it may have connected before questions could be put to it
  }

  /// Blocks: on a connected handle it ends the session and waits for the answer.
  void close_handle() {
    std::unique_ptr<Handle> old;
    {
      std::unique_lock guard(handle_mutex);
      old = std::move(handle);
    }
    if (!old) return;
    old->retired = true;
    zookeeper_close(old->zh);
    std::lock_guard guard(mutex);
    connected = false;
  }

  bool open() {
    std::shared_lock guard(handle_mutex);
    return handle != nullptr;
  }

  bool is_closing() const {
    std::lock_guard guard(mutex);
    return closing;
  }

  static asio::awaitable<void> run(std::shared_ptr<Impl> self) {
    if (!self->options.keep_in.empty()) co_await self->bury();
    auto* impl = self.get();
    while (!self->is_closing()) {
      std::function<void()> opening = [impl] { impl->open_handle(); };
      co_await self->pool.run(opening);
      if (!self->open()) {
        auto ticket = self->news->ticket();
        if (self->is_closing()) break;
        co_await self->news->wait(ticket, open_retry);
        continue;
      }
      co_await self->tend();
      std::function<void()> closing = [impl] { impl->close_handle(); };
      if (!self->is_closing()) co_await self->pool.run(closing);
    }
    {
      std::lock_guard guard(self->mutex);
      self->left = true;
    }
    self->news->notify();
  }

  /// Until this handle is of no more use.
  asio::awaitable<void> tend() {
    auto away_since = std::chrono::steady_clock::now();
    auto next_beat = away_since;
    bool was_connected = false;
    std::int64_t kept = 0;
    for (;;) {
      auto ticket = news->ticket();
      bool now_connected, over, refusal;
      SessionIdentity identity{options.address.servers_text(), 0, {}};
      Millis every;
      std::string why;
      {
        std::lock_guard guard(mutex);
        now_connected = connected;
        over = expired || refused || closing;
        refusal = refused;
        identity.id = client.client_id;
        std::memcpy(identity.password.data(), client.passwd, sizeof client.passwd);
        every = std::max(negotiated / 8, Millis(20));
        why = trouble;
      }
      auto now = std::chrono::steady_clock::now();
      if (now_connected != was_connected) {
        if (now_connected) log::info("zookeeper", "session={:x} timeout_ms={} connected to {}", static_cast<std::uint64_t>(identity.id), negotiated.count(), options.address.shown());
        else log::warn("zookeeper", "{}: {}", options.address.shown(), why);
        was_connected = now_connected;
        away_since = next_beat = now;
      }
      if (over) {
        if (refusal && co_await news->wait(ticket, open_retry)) {}  // a new handle would be refused as well; not in a tight loop
        co_return;
      }
      if (!now_connected && now - away_since > reopen_after) co_return;
      if (now_connected && kept != identity.id && !options.keep_in.empty()) {
        kept = identity.id;
        auto* impl = this;
        std::function<void()> keep = [impl, identity] {
          if (auto ok = keep_session(impl->options.keep_in, identity); !ok) log::warn("zookeeper", "the session's identity is not kept: {}", ok.error().context);
        };
        co_await pool.run(keep);
        continue;
      }
      if (now_connected && now >= next_beat) {
        beat();
        next_beat = now + every;
      }
      auto pause = now_connected ? std::chrono::duration_cast<Millis>(next_beat - now) + Millis(1) : Millis(250);
      co_await news->wait(ticket, pause);
    }
  }

  /// Ends the session of the process that held the folder before us; it would stand before us in the election until its time-out.
  asio::awaitable<void> bury() {
    auto result = std::make_shared<Result<bool>>(false);
    for (bool said = false; !is_closing(); said = true) {
      auto* out = result.get();
      auto* impl = this;
      std::function<void()> work = [impl, out] { *out = end_kept_session(impl->options.keep_in, bury_limit); };
      co_await pool.run(work);
      if (*result) {
        if (**result) log::info("zookeeper", "ended the session that the process before this one left");
        co_return;
      }
      if (!said) log::warn("zookeeper", "the session of the process before this one: {}", result->error().context);
      // Another ensemble's address in the configuration: the old one need not be there any more.
      auto kept = read_file(options.keep_in / "session.json", 64u << 10);
      auto identity = kept ? decode_session_identity(*kept) : Result<SessionIdentity>(std::unexpected(kept.error()));
      if (result->error().code != Errc::unavailable || !identity || identity->servers != options.address.servers_text()) co_return;
      auto ticket = news->ticket();
      if (is_closing()) co_return;
      co_await news->wait(ticket, open_retry);
    }
  }
};

Result<std::shared_ptr<ZookeeperSession>> ZookeeperSession::open(asio::any_io_executor executor, ZookeeperOptions options) {
  Fd lock;
  if (!options.keep_in.empty()) {
    auto held = lock_session(options.keep_in);
    if (!held) return fail(std::move(held).error().within("another process of this host has a ZooKeeper session"));
    lock = std::move(*held);
  }
  std::shared_ptr<ZookeeperSession> made(new ZookeeperSession);
  made->impl_ = std::make_shared<Impl>(executor, std::move(options));
  made->impl_->lock = std::move(lock);
  made->impl_->left = false;
  net::spawn(executor, "zookeeper session", Impl::run(made->impl_));
  return made;
}

ZookeeperSession::~ZookeeperSession() {
  {
    std::lock_guard guard(impl_->mutex);
    impl_->closing = true;
  }
  impl_->news->notify();
  impl_->close_handle();
}

asio::awaitable<void> ZookeeperSession::close() {
  auto impl = impl_;
  bool ended;
  {
    std::lock_guard guard(impl->mutex);
    impl->closing = true;
    ended = impl->connected;
  }
  impl->news->notify();
  auto* raw = impl.get();
  std::function<void()> closing = [raw] { raw->close_handle(); };
  co_await impl->pool.run(closing);
  for (auto ticket = impl->news->ticket();; ticket = impl->news->ticket()) {
    {
      std::lock_guard guard(impl->mutex);
      if (impl->left) break;
    }
    co_await impl->news->wait(ticket, Millis(100));
  }
  if (ended && !impl->options.keep_in.empty()) forget_session(impl->options.keep_in);
  impl->lock.reset();
}

const ZookeeperOptions& ZookeeperSession::options() const { return impl_->options; }
asio::any_io_executor ZookeeperSession::executor() const { return impl_->executor; }
bool ZookeeperSession::closing() const { return impl_->is_closing(); }
bool ZookeeperSession::connected() const { std::lock_guard guard(impl_->mutex); return impl_->connected && !impl_->closing; }
std::int64_t ZookeeperSession::id() const { std::lock_guard guard(impl_->mutex); return impl_->client.client_id; }
Millis ZookeeperSession::negotiated() const { std::lock_guard guard(impl_->mutex); return impl_->negotiated; }
Mono ZookeeperSession::contact() const { std::lock_guard guard(impl_->mutex); return impl_->contact; }
Mono ZookeeperSession::expires() const { std::lock_guard guard(impl_->mutex); return impl_->contact + impl_->negotiated; }
Mono ZookeeperSession::safe_until() const { std::lock_guard guard(impl_->mutex); return impl_->contact + impl_->negotiated * 2 / 3; }
std::string ZookeeperSession::trouble() const { std::lock_guard guard(impl_->mutex); return impl_->trouble; }
std::shared_ptr<net::Signal> ZookeeperSession::news() const { return impl_->news; }

asio::awaitable<bool> ZookeeperSession::connected_within(Millis limit) {
  auto self = shared_from_this();
  auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    auto ticket = impl_->news->ticket();
    if (connected()) co_return true;
    auto left = std::chrono::duration_cast<Millis>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0 || closing()) co_return false;
    co_await impl_->news->wait(ticket, left);
  }
}

asio::awaitable<ZkReply> ZookeeperSession::get(std::string path, bool watch) {
  auto op = std::make_shared<Op>();
  std::function<int(zhandle_t*, const void*)> start = [path, watch](zhandle_t* zh, const void* c) { return zoo_aget(zh, path.c_str(), watch, Impl::on_data, c); };
  return impl_->ask(op, start, false, false);
}

asio::awaitable<ZkReply> ZookeeperSession::exists(std::string path, bool watch) {
  auto op = std::make_shared<Op>();
  std::function<int(zhandle_t*, const void*)> start = [path, watch](zhandle_t* zh, const void* c) { return zoo_aexists(zh, path.c_str(), watch, Impl::on_stat, c); };
  return impl_->ask(op, start, false, false);
}

asio::awaitable<ZkReply> ZookeeperSession::children(std::string path, bool watch) {
  auto op = std::make_shared<Op>();
  std::function<int(zhandle_t*, const void*)> start = [path, watch](zhandle_t* zh, const void* c) { return zoo_aget_children(zh, path.c_str(), watch, Impl::on_names, c); };
  return impl_->ask(op, start, false, false);
}

asio::awaitable<std::vector<ZkReply>> ZookeeperSession::get_many(std::vector<std::string> paths) { return impl_->ask_many(std::move(paths), false); }
asio::awaitable<std::vector<ZkReply>> ZookeeperSession::children_many(std::vector<std::string> paths) { return impl_->ask_many(std::move(paths), true); }

asio::awaitable<ZkReply> ZookeeperSession::create_candidate(std::string prefix, std::string data) {
  auto op = std::make_shared<Op>();
  const auto* acl = acl_of(ZkAccess::shown, impl_->credentials());
  std::function<int(zhandle_t*, const void*)> start = [prefix, data, acl](zhandle_t* zh, const void* c) {
    return zoo_acreate(zh, prefix.c_str(), data.data(), static_cast<int>(data.size()), acl, ZOO_EPHEMERAL_SEQUENTIAL, Impl::on_name, c);
  };
  return impl_->ask(op, start, true, true);
}

asio::awaitable<ZkReply> ZookeeperSession::multi(std::vector<ZkOp> ops) {
  auto op = std::make_shared<Op>();
  op->ops = std::move(ops);
  op->raw.resize(op->ops.size());
  op->results.resize(op->ops.size());
  for (std::size_t i = 0; i < op->ops.size(); ++i) {
    const auto& o = op->ops[i];
    switch (o.kind) {
      case ZkOp::Kind::create:
        zoo_create_op_init(&op->raw[i], o.path.c_str(), o.data.data(), static_cast<int>(o.data.size()), acl_of(o.access, impl_->credentials()), 0, nullptr, 0);
        break;
      case ZkOp::Kind::set: zoo_set_op_init(&op->raw[i], o.path.c_str(), o.data.data(), static_cast<int>(o.data.size()), o.version, nullptr); break;
      case ZkOp::Kind::remove: zoo_delete_op_init(&op->raw[i], o.path.c_str(), o.version); break;
      case ZkOp::Kind::check: zoo_check_op_init(&op->raw[i], o.path.c_str(), o.version); break;
    }
  }
  auto* held = op.get();  // the callback's context keeps it alive
  std::function<int(zhandle_t*, const void*)> start = [held](zhandle_t* zh, const void* c) {
    return zoo_amulti(zh, static_cast<int>(held->raw.size()), held->raw.data(), held->results.data(), Impl::on_multi, c);
  };
  return impl_->ask(op, start, true, true);
}

asio::awaitable<ZkReply> ZookeeperSession::sync() {
  auto op = std::make_shared<Op>();
  std::function<int(zhandle_t*, const void*)> start = [](zhandle_t* zh, const void* c) { return zoo_async(zh, "/", Impl::on_name, c); };
  return impl_->ask(op, start, false, true);
}

asio::awaitable<ZkReply> ZookeeperSession::make_path(std::string path, ZkAccess access) {
  auto self = shared_from_this();
  auto there = co_await exists(path);
  if (!there.no_node()) co_return there;
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    std::vector<ZkOp> ops{ZkOp::create(path.substr(0, end), "", access)};
    auto made = co_await multi(std::move(ops));
    if (!made.ok() && !made.node_exists()) {
      // A parent that is not ours to write in may well be there.
      auto parent = co_await exists(path.substr(0, end));
      if (!parent.ok()) co_return made;
    }
    if (end == std::string::npos) co_return ZkReply{};
  }
}

void ZookeeperSession::set_leading_node(std::string path) { std::lock_guard guard(impl_->mutex); impl_->leading_node = std::move(path); }
std::string ZookeeperSession::leading_node() const { std::lock_guard guard(impl_->mutex); return impl_->leading_node; }
void ZookeeperSession::depose(std::string reason) {
  {
    std::lock_guard guard(impl_->mutex);
    impl_->deposed = std::move(reason);
  }
  impl_->news->notify();
}
std::string ZookeeperSession::deposed() const { std::lock_guard guard(impl_->mutex); return impl_->deposed; }
void ZookeeperSession::clear_deposed() { std::lock_guard guard(impl_->mutex); impl_->deposed.clear(); }

}  // namespace croft::coordination
