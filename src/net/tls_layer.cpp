#include "net/tls_layer.hpp"

#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <sys/socket.h>

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/error.hpp>

#include <cerrno>
#include <optional>

#include "secure/ossl.hpp"

namespace croft::net {

namespace {

using error_code = boost::system::error_code;

/// OpenSSL's own socket BIO writes with write(2), which raises SIGPIPE when the peer has gone.
int bio_write(BIO* bio, const char* data, std::size_t size, std::size_t* written) {
  auto n = ::send(static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio))), data, size, MSG_NOSIGNAL);
  BIO_clear_retry_flags(bio);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  if (n < 0) return -1;
  *written = static_cast<std::size_t>(n);
  return 1;
}

int bio_read(BIO* bio, char* data, std::size_t size, std::size_t* read) {
  auto n = ::recv(static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio))), data, size, 0);
  BIO_clear_retry_flags(bio);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  if (n == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  *read = n > 0 ? static_cast<std::size_t>(n) : 0;
  return n > 0 ? 1 : n == 0 ? 0 : -1;
}

long bio_control(BIO* bio, int what, long, void*) {
  if (what == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
  return what == BIO_CTRL_FLUSH || what == BIO_CTRL_DUP;
}

BIO_METHOD* bio_method() {
  static BIO_METHOD* const method = [] {
    auto* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "croft socket");
    CROFT_ASSERT(m && BIO_meth_set_write_ex(m, bio_write) && BIO_meth_set_read_ex(m, bio_read) && BIO_meth_set_ctrl(m, bio_control));
    return m;
  }();
  return method;
}

bool is_address(const std::string& name) {
  unsigned char bytes[16];
  return ::inet_pton(AF_INET, name.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, name.c_str(), bytes) == 1;
}

/// The certificate's name must be the one that was asked for; used where no croft host is expected.
void want_name(SSL* ssl, const std::string& name) {
  auto* how = SSL_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(how, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  CROFT_ASSERT((is_address(name) ? X509_VERIFY_PARAM_set1_ip_asc(how, name.c_str()) : X509_VERIFY_PARAM_set1_host(how, name.c_str(), 0)) == 1);
}

constexpr std::size_t record_bytes = 16384;

}  // namespace

struct TlsLayer::Impl : std::enable_shared_from_this<TlsLayer::Impl> {
  /// One direction's operation. Its number tells a late timer that it is meant no more.
  struct Op {
    std::optional<asio::steady_timer> timer;
    Deadline until{};
    std::uint64_t number = 0;
    bool busy = false, timed_out = false;
  };
  /// What is tried and whom it is told. It travels in the handler that waits and is nowhere else: when a loop is dropped, so is it, and the
  /// connection that it holds.
  struct Job {
    std::function<int()> attempt;  ///< nothing: for no bytes there is nothing to do, and OpenSSL would call it an error
    Done done;
  };

  Impl(Socket& s, std::shared_ptr<SSL_CTX> context) : socket(s), executor(s.get_executor()), ssl(SSL_new(context.get())) {
    auto* bio = BIO_new(bio_method());
    CROFT_ASSERT(ssl && bio);
    BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(s.native_handle())));
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl.get(), bio, bio);
    error_code ec;
    socket.native_non_blocking(true, ec);
  }

  void start(Op& op, Deadline until, Job job) {
    CROFT_ASSERT(!op.busy);
    ++op.number;
    op.until = until;
    op.busy = true;
    op.timed_out = false;
    if (!job.attempt) return end(op, std::move(job), {}, 0, false);
    go_on(op, std::move(job), false);
  }

  void go_on(Op& op, Job job, bool from_event) {
    if (!socket.is_open()) return end(op, std::move(job), asio::error::operation_aborted, 0, from_event);
    ERR_clear_error();
    errno = 0;
    int n = job.attempt();
    if (n > 0) return end(op, std::move(job), {}, static_cast<std::size_t>(n), from_event);
    switch (int error = SSL_get_error(ssl.get(), n); error) {
      case SSL_ERROR_WANT_READ: return wait(op, std::move(job), Socket::wait_read);
      case SSL_ERROR_WANT_WRITE: return wait(op, std::move(job), Socket::wait_write);
      case SSL_ERROR_ZERO_RETURN: return end(op, std::move(job), asio::error::eof, 0, from_event);
      default: return end(op, std::move(job), failure(error), 0, from_event);
    }
  }

  error_code failure(int error) {
    auto number = errno;
    auto code = ERR_peek_error();
    broken = true;
    auto verified = SSL_get_verify_result(ssl.get());
    if (!why && verified != X509_V_OK && !SSL_is_init_finished(ssl.get())) why = Error{Errc::forbidden, fmt::format("certificate: {}", secure::why_untrusted(verified))};
    if (error == SSL_ERROR_SYSCALL || ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
      ERR_clear_error();
      if (!why) why = Error{Errc::unavailable, "the connection was cut"};
      return error == SSL_ERROR_SYSCALL && number != 0 ? error_code(number, boost::system::system_category()) : error_code(asio::error::connection_reset);
    }
    bool no_tls = ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER || ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST;
    auto alert = ERR_GET_REASON(code) >= SSL_AD_REASON_OFFSET;  // the peer's word, not our judgement
    auto words = secure::ossl_words();
    if (!why) why = no_tls ? Error{Errc::invalid, "the other side does not speak TLS"} : Error{alert ? Errc::forbidden : Errc::invalid, alert ? "the other side refused: " + words : words};
    return boost::system::errc::make_error_code(boost::system::errc::protocol_error);
  }

  void wait(Op& op, Job job, Socket::wait_type what) {
    arm(op);
    auto self = shared_from_this();
    socket.async_wait(what, [self, &op, job = std::move(job)](error_code ec) mutable {
      if (ec) return self->end(op, std::move(job), op.timed_out ? error_code(boost::beast::error::timeout) : ec, 0, true);
      self->go_on(op, std::move(job), true);
    });
  }

  void arm(Op& op) {
    if (op.timer || op.until == Deadline::max()) return;
    op.timer.emplace(executor, op.until);
    auto self = shared_from_this();
    op.timer->async_wait([self, &op, number = op.number](error_code ec) {
      if (ec || op.number != number || !op.busy) return;
      op.timed_out = true;
      self->socket.close(ec);
    });
  }

  void end(Op& op, Job job, error_code ec, std::size_t n, bool from_event) {
    op.timer.reset();
    op.busy = false;
    if (from_event) return job.done(ec, n);
    asio::post(executor, [done = std::move(job.done), ec, n]() mutable { done(ec, n); });
  }

  Socket& socket;
  asio::any_io_executor executor;
  std::unique_ptr<SSL, secure::Freed<SSL_free>> ssl;
  Op reading, writing;
  std::string staged;
  std::string name;                       // client
  std::optional<secure::Expectation> expect;  // client
  TlsClient::Refuses refuses;             // client
  std::optional<Error> why;
  bool broken = false;                    // nothing may be sent any more
};

TlsLayer::TlsLayer(Socket& socket, const TlsServer& server) : impl_(std::make_shared<Impl>(socket, server.context())) { SSL_set_accept_state(impl_->ssl.get()); }

TlsLayer::TlsLayer(Socket& socket, const TlsClient& client, const std::string& name, secure::Expectation expect) : impl_(std::make_shared<Impl>(socket, client.context())) {
  auto* ssl = impl_->ssl.get();
  SSL_set_connect_state(ssl);
  impl_->name = name;
  if (client.unproved()) SSL_set_verify(ssl, SSL_VERIFY_NONE, nullptr);
  else if (expect.empty()) want_name(ssl, name);
  else impl_->expect = std::move(expect), impl_->refuses = client.refuses();
  if (!is_address(name) && name.size() <= 255) SSL_set_tlsext_host_name(ssl, name.c_str());
}

TlsLayer::~TlsLayer() = default;

void TlsLayer::handshake(Deadline until, Done done) {
  auto self = impl_;
  auto judge = [self, done = std::move(done)](error_code ec, std::size_t) mutable {
    if (!ec && self->expect) {
      std::unique_ptr<X509, secure::Freed<X509_free>> cert(SSL_get1_peer_certificate(self->ssl.get()));
      auto who = cert ? secure::identity_of(*cert) : fail(Errc::invalid, "certificate: none was shown");
      auto ok = who ? secure::check(*who, *self->expect) : fail(who.error());
      if (ok && self->refuses)
        if (auto facts = secure::read_certificate(*cert); !facts || self->refuses(*facts)) ok = fail(Errc::forbidden, "the certificate of {} is revoked", who->str());
      if (!ok) {
        self->why = Error{Errc::forbidden, std::move(ok).error().context};
        ec = boost::system::errc::make_error_code(boost::system::errc::permission_denied);
      }
    }
    done(ec, 0);
  };
  self->start(self->reading, until, {[ssl = self->ssl.get()] { return SSL_do_handshake(ssl); }, std::move(judge)});
}

void TlsLayer::read_some(asio::mutable_buffer into, Deadline until, Done done) {
  auto size = static_cast<int>(std::min<std::size_t>(into.size(), 1u << 30));
  std::function<int()> attempt = [ssl = impl_->ssl.get(), data = into.data(), size] { return SSL_read(ssl, data, size); };
  impl_->start(impl_->reading, until, {size > 0 ? std::move(attempt) : nullptr, std::move(done)});
}

void TlsLayer::write_some(asio::const_buffer from, Deadline until, Done done) {
  auto size = static_cast<int>(std::min<std::size_t>(from.size(), record_bytes));
  std::function<int()> attempt = [ssl = impl_->ssl.get(), data = from.data(), size] { return SSL_write(ssl, data, size); };
  impl_->start(impl_->writing, until, {size > 0 ? std::move(attempt) : nullptr, std::move(done)});
}

std::string& TlsLayer::staging() {
  impl_->staged.clear();
  return impl_->staged;
}

void TlsLayer::say_goodbye() {
  if (impl_->broken || !SSL_is_init_finished(impl_->ssl.get()) || !impl_->socket.is_open()) return;
  ERR_clear_error();
  SSL_shutdown(impl_->ssl.get());
  ERR_clear_error();
}

bool TlsLayer::has_unread() const { return SSL_pending(impl_->ssl.get()) > 0; }

Result<std::shared_ptr<const secure::Certificate>> TlsLayer::peer() const {
  std::unique_ptr<X509, secure::Freed<X509_free>> cert(SSL_get1_peer_certificate(impl_->ssl.get()));
  if (!cert) return nullptr;
  auto facts = secure::read_certificate(*cert);
  if (!facts) return fail(std::move(facts).error());
  return std::make_shared<const secure::Certificate>(std::move(*facts));
}

const Error& TlsLayer::why() const {
  static const Error unknown{Errc::unavailable, "the handshake failed"};
  return impl_->why ? *impl_->why : unknown;
}

}  // namespace croft::net
