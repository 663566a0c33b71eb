// Election on one host: whoever holds the lock leads, and the kernel lets go of the lock when its holder dies.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>

#include "base/files.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "coordination/standalone.hpp"
#include "net/async.hpp"

namespace croft::coordination {

namespace {

constexpr std::chrono::milliseconds retry_every{100};

class FileElection final : public Election {
 public:
  FileElection(fs::path file, std::string advertised) : file_(std::move(file)), advertised_(std::move(advertised)) {}

  asio::awaitable<Status> campaign() override {
    Fd fd(::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd.valid()) co_return fail_errno("open " + file_.string());
    bool said = false;
    while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) co_return fail_errno("lock " + file_.string());
      if (!said) log::info("coordination", "lock={} held by another process, waiting", file_.string());
      said = true;
      if (!co_await net::sleep_for(retry_every)) co_return fail(Errc::unavailable, "the campaign was cancelled");
    }
    // Who holds it is told for people; the lock is what counts, also on a full disk.
    if (::ftruncate(fd.get(), 0) != 0 || ::pwrite(fd.get(), advertised_.data(), advertised_.size(), 0) < 0)
      log::warn("coordination", "{}", fail_errno("write " + file_.string()).error().context);
    lock_ = std::move(fd);
    leads_ = true;
    co_return Status{};
  }

  asio::awaitable<void> lost() override {
    auto ticket = resigned_->ticket();
    while (lock_.valid() && !co_await resigned_->wait(ticket, std::chrono::hours(1))) {}
  }

  asio::awaitable<void> resign() override {
    if (lock_.valid() && ::ftruncate(lock_.get(), 0) != 0) log::warn("coordination", "lock={} could not be emptied", file_.string());
    leads_ = false;
    lock_.reset();
    resigned_->notify();
    co_return;
  }

  asio::awaitable<Result<std::optional<std::string>>> leader() override {
    auto text = read_file(file_, 4096);
    if (!text && text.error().code == Errc::not_found) co_return std::optional<std::string>();
    if (!text) co_return fail(text.error());
    auto address = trim(*text);
    if (address.empty()) co_return std::optional<std::string>();
    co_return std::optional<std::string>(address);
  }

  // The kernel keeps the lock for us as long as we live, so there is no time to run out.
  Mono safe_until() const override { return leads_ ? Mono::max() : Mono{}; }

 private:
  fs::path file_;
  std::string advertised_;
  Fd lock_;
  std::atomic<bool> leads_{false};
  std::shared_ptr<net::Signal> resigned_ = net::Signal::make();
};

class FixedDetector final : public Detector {
 public:
  explicit FixedDetector(Leader only) : only_(std::move(only)) {}
  Sighting sighting() const override { return {only_, only_, true, 1}; }
  asio::awaitable<Sighting> changed(std::uint64_t seen, Millis limit) override { return wait(sighting(), seen, limit); }

 private:
  static asio::awaitable<Sighting> wait(Sighting now, std::uint64_t seen, Millis limit) {
    if (seen == now.turn) co_await net::sleep_for(limit);
    co_return now;
  }
  const Leader only_;
};

}  // namespace

std::shared_ptr<Detector> fixed_detector(Leader only) { return std::make_shared<FixedDetector>(std::move(only)); }

std::unique_ptr<Election> file_election(fs::path lock_file, std::string advertised) {
  return std::make_unique<FileElection>(std::move(lock_file), std::move(advertised));
}

}  // namespace croft::coordination
