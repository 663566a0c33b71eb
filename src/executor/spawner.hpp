#pragma once
// croft-executor --spawner ROOM: waits for run folders on descriptor 3 and makes an executor for each by fork alone, so that a start does not pay for
// loading a program. It ends with the agent, whose end of the socket closes then; the executors live on.
//
// Protocol  SOCK_SEQPACKET; a message is the run folder's path, with the writing end of a pipe. The new executor says "ok" there once it
//           listens on `ctl`, or what went wrong; an end without a word means that it died.
// ROOM      as many letters as a run folder's path may have, so that each executor can show its own as its command line.

/// Returns in each executor, in its run folder and with its listening `ctl`; in the spawner it does not return.
int become_executor(int argc, char** argv);
