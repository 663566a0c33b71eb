#pragma once
#include "config.hpp"
#include "relay.hpp"

/// croft-executor --enter RUN [--tty ROWSxCOLUMNS:TYPE] -- COMMAND…: runs a command in the running task of this run folder, and with no more than the task
/// itself has: its namespaces, cgroups, user, capabilities, seccomp program, environment. Health checks and `croft exec` come this way. The command's exit
/// code; 126 when the task cannot be entered, 127 when there is no such command.
int enter(int argc, char** argv);

/// The same for a container, by the Engine.
int enter_container(const Config& config, char** command, Terminal& terminal);
