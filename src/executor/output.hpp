#pragma once
// One of the task's streams: a pipe read here, written to a file in the sandbox, rotated, with times beside it.
//
// Beside `stdout` stands `stdout.times`: entries of 16 bytes, little-endian: offset of a piece's first byte in the whole stream (u64), milliseconds
// since 1970 when it was written (i64). The first entry tells the stream offset of the file's first byte, so offsets go on over
// rotations: `stdout` becomes `stdout.1` and `stdout.times` becomes `stdout.1.times`. What finds no room on a full disk counts too: once there is room, a
// new file begins, and its first entry tells how much is missing before it.

#include <stdint.h>

struct Output {
  const char* name;         ///< "stdout"
  int pipe = -1;            ///< reading end; -1 when it has ended
  int file = -1, times = -1;
  uint64_t total = 0;       ///< bytes of the stream so far, those that found no room too
  uint64_t size = 0;        ///< of the present file
  uint64_t lost = 0;        ///< bytes that could not be written
  bool broken = false;      ///< the last ones could not: the present file ends before them, perhaps within a line
  bool within_line = false; ///< the last byte was no newline
};

/// Opens (and goes on with) the stream's files in `dir`.
void open_output(Output& o, int dir, uint64_t rotate_bytes, int rotate_count);
/// Reads what there is and writes it. False when the stream has ended.
bool pump(Output& o, int dir, uint64_t rotate_bytes, int rotate_count);
/// Writes a line of the executor's own among the task's.
void say(Output& o, int dir, uint64_t rotate_bytes, int rotate_count, const char* line);
int64_t now_ms();
