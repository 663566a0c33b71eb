#include "refusals.hpp"

#include "base/json_writer.hpp"
#include "base/log.hpp"
#include "net/async.hpp"

namespace croft {

namespace {
constexpr std::chrono::milliseconds post_limit{5000}, pause{2000};
constexpr std::size_t text_max = 512;
}  // namespace

void RefusalReporter::tell(const Refused& r, Mono now) {
  JsonWriter w;
  w.begin_object().field("who", r.who.substr(0, text_max)).field("from", r.from).field("what", (host_ + ": " + r.what).substr(0, text_max)).field("path", r.path.substr(0, text_max));
  w.field("reason", r.reason.substr(0, text_max)).end_object();
  {
    std::lock_guard guard(mutex_);
    if (now - minute_ >= std::chrono::minutes(1)) minute_ = now, counts_.clear();
    if (stopping_ || held_.size() >= held_max || ++counts_[r.who] > each_max) return;
    held_.push_back(std::move(w).take());
    if (std::exchange(posting_, true)) return;
  }
  net::spawn(executor_, "refusals", post_all(shared_from_this()));  // it may begin at once, on this thread
}

void RefusalReporter::stop() {
  std::lock_guard guard(mutex_);
  stopping_ = true;
}

boost::asio::awaitable<void> RefusalReporter::post_all(std::shared_ptr<RefusalReporter>) {
  for (std::size_t turn = 0;; ++turn) {
    std::string body;
    {
      std::lock_guard guard(mutex_);
      if (held_.empty() || stopping_ || masters_.empty()) {
        posting_ = false;
        co_return;
      }
      body = held_.front();
    }
    net::Request request;
    request.method = "POST";
    request.target = "/croft/v1/refusals";
    request.headers.set("Content-Type", "application/json");
    request.body = body;
    net::ClientOptions how;
    how.connect_timeout = how.timeout = post_limit;
    auto answer = co_await client_.request(masters_[turn % masters_.size()], std::move(request), how);
    bool taken = answer && answer->status < 500;
    if (taken && answer->status >= 300) log::warn("security", "a refusal is not in the audit log: the master answered {} {}", answer->status, answer->body);
    if (taken) {
      std::lock_guard guard(mutex_);
      held_.pop_front();
    } else {
      co_await net::sleep_for(pause);
    }
  }
}

}  // namespace croft
