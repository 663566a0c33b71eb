#pragma once
int enter(int argc, char** argv);
