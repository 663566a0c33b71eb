#include "agent/child.hpp"

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>

#include "base/process.hpp"
#include "net/async.hpp"

namespace croft::agent {

namespace asio = boost::asio;

namespace {

/// Its exit code once it has ended; nothing: not yet.
std::optional<int> ended(pid_t pid) {
  int status = 0;
  if (::waitpid(pid, &status, WNOHANG) != pid) return std::nullopt;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

using Descriptor = std::shared_ptr<asio::posix::stream_descriptor>;  // a timer that has just run out may look at it after everybody else

asio::awaitable<std::optional<int>> wait_for_end(Descriptor end, pid_t pid, std::chrono::steady_clock::time_point until) {
  for (;;) {
    if (auto code = ended(pid)) co_return code;
    auto left = until - std::chrono::steady_clock::now();
    if (left <= left.zero()) co_return std::nullopt;
    if (!end->is_open()) {  // a kernel without such descriptors
      co_await net::sleep_for(std::min<Millis>(Millis(20), std::chrono::ceil<Millis>(left)));
      continue;
    }
    asio::steady_timer timer(end->get_executor(), left);
    timer.async_wait([end](boost::system::error_code ec) {
      if (!ec) end->cancel(ec);
    });
    boost::system::error_code ec;
    co_await end->async_wait(asio::posix::stream_descriptor::wait_read, asio::redirect_error(asio::use_awaitable, ec));
    timer.cancel();
  }
}

}  // namespace

asio::awaitable<Result<int>> run_child(std::vector<std::string> words, Millis limit, Millis patience) {
  SpawnActions actions;
  actions.open(0, "/dev/null", O_RDONLY);
  actions.open(1, "/dev/null", O_WRONLY);
  actions.dup(1, 2);
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  if (int rc = ::posix_spawnp(&pid, argv[0], actions.finish(), usual_signals(), argv.data(), environ); rc != 0) co_return fail(errno_error("start " + words[0], rc));
  auto executor = co_await asio::this_coro::executor;
  auto end = std::make_shared<asio::posix::stream_descriptor>(executor);
  boost::system::error_code ec;
  if (int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); fd >= 0) end->assign(fd, ec);
  auto code = co_await wait_for_end(end, pid, std::chrono::steady_clock::now() + limit);
  if (code) co_return *code;
  ::kill(pid, SIGTERM);  // not waited for yet: the number is still its
  code = co_await wait_for_end(end, pid, std::chrono::steady_clock::now() + patience);
  if (!code) {
    ::kill(pid, SIGKILL);
    while (!ended(pid)) co_await net::sleep_for(Millis(10));
  }
  co_return fail(Errc::timeout, "no end within {} ms", limit.count());
}

}  // namespace croft::agent
