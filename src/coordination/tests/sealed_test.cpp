#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "await.hpp"
#include "base/files.hpp"
#include "coordination/sealed.hpp"
#include "coordination/standalone.hpp"

namespace croft::coordination {
namespace {

class SealedStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { char name[] = "/tmp/croft-sealed-XXXXXX"; dir_ = mkdtemp(name); }
  void TearDown() override { fs::remove_all(dir_); }
  std::unique_ptr<Store> plain() { return std::move(*open_sqlite_store(dir_ / "store.db")); }
  std::unique_ptr<Store> sealed() { return sealed_store(plain(), ring_); }
  static void put(Store& store, std::string key, std::string value) {
    Batch b;
    b.put.emplace(std::move(key), std::move(value));
    ASSERT_TRUE(wait_for(store.commit(std::move(b))));
  }
  fs::path dir_;
  std::shared_ptr<const secure::KeyRing> ring_ = std::make_shared<const secure::KeyRing>(secure::KeyRing::create());
};

TEST_F(SealedStoreTest, WhoReadsTheDiskLearnsKeysOnly) {
  {
    auto store = sealed();
    (void)wait_for(store->take_over());
    put(*store, "apps/a", "{\"env\":{\"PASSWORD\":\"hunter2\"}}");
    EXPECT_EQ(wait_for(store->load("apps/")).value().at("apps/a"), "{\"env\":{\"PASSWORD\":\"hunter2\"}}");
  }
  auto raw = wait_for(plain()->load("")).value().at("apps/a");
  EXPECT_EQ(raw.find("hunter2"), std::string::npos) << raw;
}

TEST_F(SealedStoreTest, PlainValuesOfBeforeAreRead) {
  {
    auto store = plain();
    (void)wait_for(store->take_over());
    put(*store, "apps/a", "old");
  }
  auto store = sealed();
  EXPECT_EQ(wait_for(store->load("")).value().at("apps/a"), "old");
}

TEST_F(SealedStoreTest, MovedChangedAndOthersValuesAreRefusedByName) {
  {
    auto store = sealed();
    (void)wait_for(store->take_over());
    put(*store, "apps/a", "1");
  }
  auto raw = plain();
  (void)wait_for(raw->take_over());
  auto value = wait_for(raw->load("")).value().at("apps/a");
  put(*raw, "apps/b", value);
  auto moved = wait_for(sealed()->load("apps/b"));
  ASSERT_FALSE(moved);
  EXPECT_NE(moved.error().context.find("apps/b"), std::string::npos) << moved.error().context;
  put(*raw, "apps/b", value.substr(0, value.size() - 4));
  EXPECT_FALSE(wait_for(sealed()->load("apps/b")));
  put(*raw, "apps/b", "sealed-1:?");
  EXPECT_FALSE(wait_for(sealed()->load("apps/b")));
  auto other = sealed_store(plain(), std::make_shared<const secure::KeyRing>(secure::KeyRing::create()));
  EXPECT_FALSE(wait_for(other->load("apps/a")));
}

}  // namespace
}  // namespace croft::coordination
