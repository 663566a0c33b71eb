#include "logs/ship/log_input.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>

#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace croft::logs {

namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;
using asio::ip::tcp;

namespace {
constexpr std::size_t line_max = 1u << 20, held_max = 64u << 20, connections_max = 1000;
constexpr std::chrono::seconds silent_min{60};
}  // namespace

std::string gap_document(const std::vector<std::pair<std::string_view, std::string>>& fields, std::string_view why, std::uint64_t from, std::uint64_t to, Wall now) {
  JsonWriter w;
  w.begin_object().field("@timestamp", to_iso8601(now)).field("message", fmt::format("{} bytes of log lines are missing here: {}", to - from, why));
  for (const auto& [key, value] : fields) w.field(key, value);
  w.key("gap").begin_object().field("from", from).field("to", to).field("bytes", to - from).end_object();
  w.key("tags").begin_array().value("_gap").end_array().end_object();
  return std::move(w).take();
}

LogInput::LogInput(asio::any_io_executor pool, std::string host, InputSpool& spool, Metrics& metrics)
    : pool_(std::move(pool)),
      host_(std::move(host)),
      spool_(spool),
      lines_(metrics.counter("croft_log_input_lines_total", "Lines taken by the TCP input.")),
      refused_(metrics.counter("croft_log_input_full_total", "Connections that came while the TCP input had all that it takes.")),
      lost_bytes_(metrics.counter("croft_log_input_lost_bytes_total", "Bytes of lines that could not be kept.")) {}

Status LogInput::listen(const std::string& address, std::uint16_t port) {
  boost::system::error_code ec;
  tcp::endpoint endpoint(asio::ip::make_address(address, ec), port);
  auto acceptor = std::make_shared<tcp::acceptor>(asio::make_strand(pool_));
  if (!ec) acceptor->open(endpoint.protocol(), ec);
  if (!ec) acceptor->set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor->bind(endpoint, ec);
  if (!ec) acceptor->listen(1024, ec);
  if (!ec) port_ = acceptor->local_endpoint(ec).port();
  if (ec) return fail(Errc::io, "log input: bind {}:{}: {}", address, port, ec.message());
  acceptors_.push_back(acceptor);
  auto loop = accept(acceptor);
  net::spawn(acceptor->get_executor(), "log input", std::move(loop), shared_from_this());
  return {};
}

asio::awaitable<void> LogInput::accept(Acceptor acceptor) {
  auto self = shared_from_this();
  while (!stopping_) {
    boost::system::error_code ec;
    auto own = asio::make_strand(pool_);
    auto socket = std::make_shared<tcp::socket>(asio::any_io_executor(own));
    co_await acceptor->async_accept(*socket, redirect_error(use_awaitable, ec));
    if (ec == asio::error::operation_aborted || !acceptor->is_open()) break;
    if (ec) {  // no descriptors left, most likely
      co_await net::sleep_for(std::chrono::milliseconds(50));
      continue;
    }
    {
      std::lock_guard lock(mutex_);
      if (stopping_ || (open_.size() >= connections_max && !give_way())) continue;
      open_[socket] = std::chrono::steady_clock::now();
    }
    socket->set_option(asio::socket_base::keep_alive(true), ec);
    auto life = receive(std::move(socket));
    net::spawn(own, "log input", std::move(life), self);
  }
}

/// With mutex_: the connection that has been silent longest goes, if it has been for a while. False: nobody goes.
bool LogInput::give_way() {
  refused_.add();
  auto now = std::chrono::steady_clock::now();
  auto oldest = std::min_element(open_.begin(), open_.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  bool goes = oldest != open_.end() && now - oldest->second > silent_min;
  if (now - told_ > std::chrono::minutes(1)) {
    told_ = now;
    log::warn("logs", "{} connections are open to the log input, which is all it takes: {}", open_.size(), goes ? "the one that was silent longest is closed" : "new ones are closed");
  }
  if (!goes) return false;
  asio::post(oldest->first->get_executor(), [socket = oldest->first] {
    boost::system::error_code ec;
    socket->shutdown(tcp::socket::shutdown_both, ec);
  });
  open_.erase(oldest);
  return true;
}

asio::awaitable<void> LogInput::receive(std::shared_ptr<tcp::socket> socket) {
  auto self = shared_from_this();
  LineSplitter splitter(line_max);
  std::vector<char> buffer(16u << 10);
  auto line = [this](std::string_view text, bool cut) { take(text, cut); };
  while (!stopping_) {
    boost::system::error_code ec;
    auto n = co_await socket->async_read_some(asio::buffer(buffer), redirect_error(use_awaitable, ec));
    {
      std::lock_guard lock(mutex_);
      if (auto at = open_.find(socket); at != open_.end()) at->second = std::chrono::steady_clock::now();
    }
    auto before = splitter.held();
    splitter.feed({buffer.data(), n}, line);
    held_ += splitter.held() - before;
    if (held_ > held_max && splitter.held() > 0) {
      held_ -= splitter.held();
      splitter.cut_now(line);
    }
    if (ec) break;
    if (n == buffer.size() && n < (256u << 10)) buffer.resize(2 * n);  // a busy sender
  }
  held_ -= splitter.held();
  splitter.finish(line);
  std::lock_guard lock(mutex_);
  open_.erase(socket);
}

void LogInput::take(std::string_view line, bool cut) {
  if (trim(line).empty()) return;
  LineContext context;
  context.at = system_now().wall;
  context.cut = cut;
  context.fallback_host = host_;
  context.stranger = true;
  auto document = document_of(line, context);
  std::uint64_t lost = 0;
  {
    std::lock_guard lock(mutex_);
    lost = std::exchange(lost_, 0);
  }
  if (lost > 0) tell_gap("input", 0, lost);
  if (auto ok = spool_.add(index_for(document.at), document.json); !ok) {
    std::lock_guard lock(mutex_);
    if (lost_ == 0) log::error("shipper", "lines of the TCP input are lost: {}", ok.error().context);
    lost_ += line.size();
    lost_bytes_.add(line.size());
    return;
  }
  lines_.add();
}

void LogInput::tell_gap(const std::string& source, std::uint64_t from, std::uint64_t to) {
  auto now = system_now().wall;
  auto document = gap_document({{"host", host_}, {"source", source}}, source == "input" ? "the disk was full" : "the spool was full", from, to, now);
  if (spool_.add(index_for(now), document)) return;
  std::lock_guard lock(mutex_);
  lost_ += to - from;
}

void LogInput::stop() {
  stopping_ = true;
  for (const auto& one : acceptors_) asio::post(one->get_executor(), [acceptor = one] { boost::system::error_code ec; acceptor->close(ec); });
  std::lock_guard lock(mutex_);
  for (const auto& [socket, heard] : open_) asio::post(socket->get_executor(), [socket = socket] { boost::system::error_code ec; socket->close(ec); });
}

}  // namespace croft::logs
