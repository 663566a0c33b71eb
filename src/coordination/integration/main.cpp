#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <cstdlib>

#include "base/log.hpp"
#include "coordination/integration/ensemble.hpp"
#include "coordination/integration/master.hpp"

int main(int argc, char** argv) {
  using namespace croft::coordination::testing_zk;
  const char* level = std::getenv("CROFT_TEST_LOG");
  croft::log::setup(level ? croft::log::level_of(level) : croft::log::Level::off);
  if (argc == 6 && std::strcmp(argv[1], "--master") == 0) return child_main(argc, argv);
  ::testing::InitGoogleTest(&argc, argv);
  if (auto missing = missing_programs(); !missing.empty()) {
    std::fprintf(stderr, "FAILED: these tests run real ZooKeeper servers and need packages:%s (./dev setup test)\n", missing.c_str());
    return 1;
  }
  return RUN_ALL_TESTS();
}
