#include "coordination/integration/master.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <iostream>

#include "base/log.hpp"
#include "base/process.hpp"

namespace croft::coordination::testing_zk {

int child_main(int, char** argv) {
  Loop loop;
  Master master(loop, "child", argv[2], argv[3], Millis(std::atoi(argv[4])), argv[5]);
  auto led = loop.run(master.election->campaign());
  auto term = loop.run(master.store->take_over());
  std::cout << (led && term ? "leads" : "failed " + (term ? led.error() : term.error()).context) << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "lease") {
      auto left = std::chrono::duration_cast<Millis>(master.election->safe_until() - std::chrono::steady_clock::now());
      std::cout << (left.count() > 0 ? "holds" : "over") << std::endl;
    } else if (line == "lost") {
      loop.run(master.election->lost());
      std::cout << "lost" << std::endl;
    } else {
      auto done = master.commit(line, "by the child");
      if (done) std::cout << *done << std::endl;
      else std::cout << to_string(done.error().code) << std::endl;
    }
  }
  return 0;
}

Child::Child(const std::string& servers, const std::string& place, Millis timeout, const fs::path& keep_in) {
  int down[2], up[2];
  if (::pipe2(down, O_CLOEXEC) != 0 || ::pipe2(up, O_CLOEXEC) != 0) abort();
  std::vector<std::string> words{"/proc/self/exe", "--master", servers, place, std::to_string(timeout.count()), keep_in.string()};
  std::vector<char*> argv;
  for (auto& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  SpawnActions actions;
  actions.dup(down[0], 0);
  actions.dup(up[1], 1);
  if (posix_spawn(&pid_, "/proc/self/exe", actions.finish(), nullptr, argv.data(), environ) != 0) abort();
  ::close(down[0]);
  ::close(up[1]);
  in_ = down[1];
  out_ = up[0];
}

Child::~Child() {
  end();
  ::close(in_);
  ::close(out_);
}

void Child::signal(int number) { ::kill(pid_, number); }

void Child::end() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::string Child::ask(const std::string& line) {
  auto text = line + "\n";
  if (::write(in_, text.data(), text.size()) < 0) return "cannot write";
  return read_line();
}

std::string Child::read_line(Millis limit) {
  auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    if (auto at = rest_.find('\n'); at != std::string::npos) {
      auto line = rest_.substr(0, at);
      rest_.erase(0, at + 1);
      return line;
    }
    auto left = std::chrono::duration_cast<Millis>(end - std::chrono::steady_clock::now()).count();
    pollfd p{out_, POLLIN, 0};
    char buffer[512];
    if (left <= 0 || ::poll(&p, 1, static_cast<int>(left)) <= 0) return "nothing said";
    auto n = ::read(out_, buffer, sizeof buffer);
    if (n <= 0) return "ended";
    rest_.append(buffer, static_cast<std::size_t>(n));
  }
}

}  // namespace croft::coordination::testing_zk
