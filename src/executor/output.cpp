#include "output.hpp"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

namespace {

struct Entry {
  uint64_t offset;
  int64_t at;
};

constexpr uint64_t room_again = 1u << 20;

void close_files(Output& o) {
  if (o.file >= 0) close(o.file);
  if (o.times >= 0) close(o.times);
  o.file = o.times = -1;
}

/// The task may have put anything in a file's place: only a plain file is taken, and nothing is waited for.
int open_plain(int dir, const char* name, int flags) {
  int fd = openat(dir, name, flags | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
  struct stat st;
  if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) return fd;
  if (fd >= 0) close(fd);
  else if (errno != ENXIO && errno != ELOOP) return -1;
  return flags & O_CREAT && unlinkat(dir, name, 0) == 0 ? openat(dir, name, flags | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644) : -1;
}

/// The times only where they are there, or with the first output: many tasks never print anything.
void open_times(Output& o, int dir, int create) {
  char times[64];
  snprintf(times, sizeof times, "%s.times", o.name);
  o.times = open_plain(dir, times, O_RDWR | create);
}

void open_file(Output& o, int dir) { o.file = open_plain(dir, o.name, O_WRONLY | O_CREAT); }

void rotate(Output& o, int dir, int count) {
  close_files(o);
  char from[64], to[64];
  for (int i = count - 1; i >= 0; --i) {
    for (const char* suffix : {"", ".times"}) {
      if (i == 0) snprintf(from, sizeof from, "%s%s", o.name, suffix);
      else snprintf(from, sizeof from, "%s.%d%s", o.name, i, suffix);
      snprintf(to, sizeof to, "%s.%d%s", o.name, i + 1, suffix);
      if (i + 1 >= count && count > 1) unlinkat(dir, from, 0);
      else renameat(dir, from, dir, to);
    }
  }
  open_file(o, dir);
  o.size = 0;
}

/// For some blocks and as many times. Not asked by trying: a new file would take an older one's place each time.
bool has_room(int dir) {
  struct statvfs s;
  return fstatvfs(dir, &s) == 0 && static_cast<uint64_t>(s.f_bavail) * s.f_frsize >= room_again;
}

void keep(Output& o, int dir, uint64_t rotate_bytes, int rotate_count, const char* at, size_t left) {
  auto all = left;
  o.within_line = at[left - 1] != '\n';
  if (o.broken && !has_room(dir)) {
    o.lost += left;
    o.total += left;
    return;
  }
  if (o.broken && o.size == 0 && o.times >= 0 && ftruncate(o.times, 0) != 0) o.lost += 0;  // its first entry is of what was lost
  if (o.size > 0 && (o.broken || o.size + left > rotate_bytes)) rotate(o, dir, rotate_count);
  o.broken = false;
  if (o.file < 0) open_file(o, dir);
  if (o.times < 0) open_times(o, dir, O_CREAT);
  Entry entry{o.total, now_ms()};
  if (o.times >= 0 && write(o.times, &entry, sizeof entry) != sizeof entry) o.lost += 0;  // a line without its own time takes the one before
  while (left > 0 && o.file >= 0) {
    auto w = write(o.file, at, left);
    if (w < 0 && errno == EINTR) continue;
    if (w <= 0) break;  // a full disk must not stop the task: what does not fit is counted and lost
    at += w;
    left -= static_cast<size_t>(w);
    o.size += static_cast<uint64_t>(w);
  }
  o.total += all;
  o.lost += left;
  o.broken = left > 0;
}

}  // namespace

int64_t now_ms() {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1000000;
}

void open_output(Output& o, int dir, uint64_t, int) {
  open_file(o, dir);
  open_times(o, dir, 0);
  struct stat st;
  if (o.file >= 0 && fstat(o.file, &st) == 0) o.size = static_cast<uint64_t>(st.st_size);
  Entry first;
  if (o.times >= 0 && pread(o.times, &first, sizeof first, 0) == sizeof first) o.total = first.offset + o.size;
}

bool pump(Output& o, int dir, uint64_t rotate_bytes, int rotate_count) {
  static char block[65536];
  auto n = read(o.pipe, block, sizeof block);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return false;
  keep(o, dir, rotate_bytes, rotate_count, block, static_cast<size_t>(n));
  return true;
}

void say(Output& o, int dir, uint64_t rotate_bytes, int rotate_count, const char* line) {
  char text[256];
  auto n = snprintf(text, sizeof text, "%scroft: %s\n", o.within_line ? "\n" : "", line);
  if (n > 0 && static_cast<size_t>(n) < sizeof text) keep(o, dir, rotate_bytes, rotate_count, text, static_cast<size_t>(n));
}
