// Preloaded by strain.py: a disk whose syncs take as many milliseconds as the file SYNC_DELAY says, read anew each time (a mapping of eight bytes).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t none;
static volatile int64_t *delay = &none;

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("SYNC_DELAY");
  int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
  void *at = fd >= 0 ? mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
  if (fd >= 0) close(fd);
  if (at != MAP_FAILED) delay = at;
}

static void wait_for_disk(void) {
  struct timespec t = {*delay / 1000, *delay % 1000 * 1000000};
  if (*delay > 0) nanosleep(&t, NULL);
}

int fsync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  wait_for_disk();
  return real(fd);
}

int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  wait_for_disk();
  return real(fd);
}
