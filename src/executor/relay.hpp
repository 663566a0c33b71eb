#pragma once
// Between the agent's pipes and a command that runs inside a task (enter.hpp).

#include <sys/types.h>

/// A terminal for the command, and how big it is at first.
struct Terminal {
  bool wanted = false;
  unsigned short rows = 24, columns = 80;
  const char* type = "xterm";       ///< for TERM
  int master = -1, slave = -1;
};

/// What the agent writes to descriptor 3 when the size changes: "ROWS COLUMNS", a line each.
constexpr int size_fd = 3;

/// "24x80:xterm". False when it is none.
bool parse_terminal(char* text, Terminal& out);
/// Opens a pseudo terminal. `owner`: whose its device becomes; -1 leaves it root's, which is to be where others of the task's user could open it. False with errno.
bool open_terminal(Terminal& terminal, uid_t owner);
/// A process with all that it has started and that still stands below it, held by descriptors: whoever ends first leaves the others in sight, and no number is taken
/// for another process's. All descriptors are closed at the process's end only.
class Tree {
 public:
  void collect(pid_t process);
  void signal(int signal) const;
  /// Waits for the end of all, at most so long. False: some live.
  bool wait(int ms) const;

 private:
  static constexpr int most = 4096;
  int fds_[most];
  int count_ = 0;
};
/// The same, asked to go and after `patience_ms` made to.
constexpr int patience_ms = 1000;
/// The last size that stands in descriptor 3, which is readable. False: none; `open` is false when there will be no more.
bool read_size(Terminal& terminal, bool& open);
/// A descriptor that tells of the end of children and of the wish to end; blocks those signals.
int watch_signals();
/// Which of these were told: SIGCHLD, and everything else as SIGTERM.
struct Told { bool child = false, end = false; };
Told read_signals(int fd);
/// The whole of it, to a descriptor that may be a slow reader's. False when nobody reads.
bool put_all(int fd, const char* data, size_t size);
/// Until the command has ended and what it wrote to its terminal is passed on; its exit code. Told to end, it hangs up on all
/// that the command has started, and kills after a second.
int relay(pid_t command, Terminal& terminal, int signals);
