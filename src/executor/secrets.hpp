#pragma once
// A task's secrets: variables from a file that only root reads, and files that the task sees through a mount.

#include "config.hpp"

/// Adds the variables of FOLDER/env to the environment, in memory that forget_secrets() wipes; no such file: none. False with errno.
bool read_secrets(Config& config);
/// Once the task runs: the environment's secrets are in the task's own memory only.
void forget_secrets();
/// Within the task's mounts: FOLDER/files/own at SANDBOXES/.secrets, read-only. False with errno.
bool show_secrets(const Config& config);
/// croft-executor --env FILE -- COMMAND…: in a container, becomes the command with the file's variables. Returns an exit code when it cannot.
int run_with_secrets(const char* file, char** command);
