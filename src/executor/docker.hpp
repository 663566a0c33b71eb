#pragma once
// A container of a Docker Engine instead of a process of our own. A holder process stands for it: its output goes into our pipes, signals
// to it become requests to the Engine, and its exit status is the container's. It survives restarts of the Engine.

#include "task.hpp"

/// Starts the container (unless it runs already: a second executor takes over from one that died) and the holder.
Started start_container(const Config& config, int stdout_fd, int stderr_fd);
