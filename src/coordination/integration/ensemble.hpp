#pragma once
// Real ZooKeeper servers for tests: on loopback, in folders of their own, ended by pid with the object.

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace croft::coordination::testing_zk {

/// "" when ZooKeeper and Java are there; else what to install.
std::string missing_programs();

class Ensemble {
 public:
  explicit Ensemble(int members);
  ~Ensemble();
  Ensemble(const Ensemble&) = delete;

  void start(int member);
  void kill(int member);        ///< SIGKILL, and waits for the end
  void pause(int member);       ///< SIGSTOP
  void resume(int member);
  /// All of the members that run serve clients. False after 40 s.
  bool wait_ready();
  [[nodiscard]] int leader() const;  ///< the member that leads the ensemble; -1: none
  [[nodiscard]] std::string servers() const;
  [[nodiscard]] std::string server(int member) const { return "127.0.0.1:" + std::to_string(members_[member].client_port); }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  static constexpr std::chrono::milliseconds tick{200};

 private:
  struct Member { int client_port, peer_port, election_port; pid_t pid = -1; };
  [[nodiscard]] std::string ask(int member, const char* word) const;
  std::filesystem::path folder_;
  std::vector<Member> members_;
};

}  // namespace croft::coordination::testing_zk
