#include "coordination/integration/ensemble.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "base/files.hpp"
#include "base/process.hpp"

namespace croft::coordination::testing_zk {

namespace {

constexpr const char* jar = "/usr/share/java/zookeeper.jar";  // its manifest names what else it needs

sockaddr_in loopback(int port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<std::uint16_t>(port));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

/// From a range below the ephemeral ports, where only these tests look for servers' places.
int free_port() {
  static int next = 27100 + (getpid() % 40) * 20;
  for (int tries = 0; tries < 900; ++tries) {
    int port = next++;
    if (next >= 28000) next = 27100;
    Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto a = loopback(port);
    if (::bind(probe.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) == 0) return port;
  }
  abort();
}

}  // namespace

std::string missing_programs() {
  std::string wants;
  if (!fs::exists(jar)) wants += " libzookeeper-java";
  auto java = run_program({"java", "-version"}, std::chrono::seconds(20));
  if (!java || java->code != 0) wants += " default-jre-headless";
  return wants;
}

Ensemble::Ensemble(int members) {
  char name[] = "/tmp/croft-zk-XXXXXX";
  folder_ = mkdtemp(name);
  for (int i = 0; i < members; ++i) members_.push_back({free_port(), free_port(), free_port()});
  for (int i = 0; i < members; ++i) {
    auto data = folder_ / std::to_string(i + 1);
    fs::create_directories(data);
    std::ofstream(data / "myid") << i + 1;
    std::ofstream config(folder_ / (std::to_string(i + 1) + ".cfg"));
    config << "tickTime=" << tick.count() << "\ninitLimit=20\nsyncLimit=5\ndataDir=" << data.string() << "\nclientPort=" << members_[i].client_port
           << "\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\nmaxClientCnxns=0\n";
    if (members == 1) continue;
    for (int j = 0; j < members; ++j)
      config << "server." << j + 1 << "=127.0.0.1:" << members_[j].peer_port << ":" << members_[j].election_port << "\n";
  }
  for (int i = 0; i < members; ++i) start(i);
}

Ensemble::~Ensemble() {
  for (std::size_t i = 0; i < members_.size(); ++i) kill(static_cast<int>(i));
  fs::remove_all(folder_);
}

void Ensemble::start(int member) {
  if (members_[member].pid > 0) return;
  auto number = std::to_string(member + 1);
  auto config = (folder_ / (number + ".cfg")).string(), log = (folder_ / (number + ".log")).string();
  std::vector<std::string> words{"java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Dzookeeper.forceSync=no",
                                 "-cp", jar, "org.apache.zookeeper.server.quorum.QuorumPeerMain", config};
  std::vector<char*> argv;
  for (auto& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  SpawnActions actions;
  actions.open(0, "/dev/null", O_RDONLY);
  actions.open(1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND);
  actions.dup(1, 2);
  if (posix_spawnp(&members_[member].pid, "java", actions.finish(), nullptr, argv.data(), environ) != 0) members_[member].pid = -1;
}

void Ensemble::kill(int member) {
  auto& pid = members_[member].pid;
  if (pid <= 0) return;
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  pid = -1;
}

void Ensemble::pause(int member) { ::kill(members_[member].pid, SIGSTOP); }
void Ensemble::resume(int member) { ::kill(members_[member].pid, SIGCONT); }

std::string Ensemble::ask(int member, const char* word) const {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto a = loopback(members_[member].client_port);
  timeval limit{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) return {};
  if (::send(fd.get(), word, 4, MSG_NOSIGNAL) != 4) return {};
  std::string out;
  char buffer[4096];
  for (ssize_t n; (n = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) out.append(buffer, static_cast<std::size_t>(n));
  return out;
}

bool Ensemble::wait_ready() {
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(40);
  for (std::size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].pid <= 0) continue;
    while (ask(static_cast<int>(i), "srvr").find("Mode:") == std::string::npos) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  return true;
}

int Ensemble::leader() const {
  for (std::size_t i = 0; i < members_.size(); ++i)
    if (members_[i].pid > 0 && ask(static_cast<int>(i), "srvr").find("Mode: leader") != std::string::npos) return static_cast<int>(i);
  return -1;
}

std::string Ensemble::servers() const {
  std::string out;
  for (std::size_t i = 0; i < members_.size(); ++i) out += (i ? "," : "") + server(static_cast<int>(i));
  return out;
}

}  // namespace croft::coordination::testing_zk
