#include <gtest/gtest.h>

#include "orchestrator/audit_log.hpp"

namespace croft::orchestrator {
namespace {

AuditRecord audit_line(std::string what) { return {0, Wall(Millis(1'900'000'000'000)), "user ann", "10.0.0.9", std::move(what), {"/service/a"}}; }

const auto every_line = [](const AuditRecord&) { return true; };

TEST(AuditLog, ComesBackAsItWasStored) {
  AuditLog log;
  coordination::Batch batch;
  for (int i = 0; i < 3; ++i) {
    auto entry = log.entry(audit_line("PUT /v2/apps/service/a"));
    entry.done = i != 1;
    entry.reason = i == 1 ? "\"quoted\"\nwhy" : "";
    log.put(entry, batch);
    log.keep(entry);
  }
  AuditLog again;
  for (const auto& [key, text] : batch.put) ASSERT_TRUE(again.load(key, text)) << key;
  auto page = again.page(0, 10, false, every_line);
  ASSERT_EQ(page.records.size(), 3u);
  EXPECT_EQ(page.newest, 3u);
  EXPECT_FALSE(page.records[1].done);
  EXPECT_EQ(page.records[1].reason, "\"quoted\"\nwhy");
  EXPECT_EQ(page.records[2].paths, std::vector<std::string>{"/service/a"});
  EXPECT_EQ(again.entry(audit_line("x")).number, 4u) << "numbers go on";
}

TEST(AuditLog, OldOnesGoWithTheCommitThatBringsANewOne) {
  AuditLog log;
  for (std::size_t i = 0; i < AuditLog::records_max; ++i) log.keep(log.entry(audit_line("x")));
  coordination::Batch batch;
  auto entry = log.entry(audit_line("one more"));
  log.put(entry, batch);
  EXPECT_EQ(batch.remove, std::vector<std::string>{"audit/0000000000000001"});
  EXPECT_EQ(batch.put.count("audit/0000000000010001"), 1u);
  log.keep(entry);
  EXPECT_EQ(log.page(0, 1, false, every_line).records[0].number, 2u);
}

TEST(AuditLog, S18_WhoIsLoudWashesNobodyElsesOut) {
  AuditLog log;
  auto keep = [&](std::string who, bool done, std::string what) {
    AuditRecord r = audit_line(std::move(what));
    r.who = std::move(who);
    r.done = done;
    coordination::Batch batch;
    auto entry = log.entry(r);
    log.put(entry, batch);
    log.keep(entry);
  };
  keep("user ann", true, "the deed of ann");
  keep("user eve", true, "the deed of eve");
  keep("user vic", false, "one refusal");
  for (std::size_t i = 0; i < 2 * AuditLog::records_max; ++i) keep("user eve", i % 2 == 0, "noise");
  auto all = log.page(0, 20'000, false, every_line).records;
  EXPECT_EQ(all.size(), AuditLog::records_max);
  auto there = [&](std::string_view what) { return std::any_of(all.begin(), all.end(), [&](const auto& r) { return r.what == what; }); };
  EXPECT_TRUE(there("the deed of ann"));
  EXPECT_FALSE(std::is_sorted(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.number >= b.number; })) << "by number";
  for (std::size_t i = 0; i < 2 * AuditLog::records_max; ++i) keep("user eve", true, "changes");
  all = log.page(0, 20'000, false, every_line).records;
  EXPECT_TRUE(there("the deed of ann")) << "eve has most, and pays";
}

TEST(AuditLog, PagesGoOnWhereTheLastOneEnded) {
  AuditLog log;
  for (int i = 0; i < 10; ++i) log.keep(log.entry(audit_line(i % 2 ? "odd" : "even")));
  auto odd = [](const AuditRecord& r) { return r.what == "odd"; };
  auto first = log.page(0, 3, false, odd);
  ASSERT_EQ(first.records.size(), 3u);
  auto second = log.page(first.newest, 3, false, odd);
  ASSERT_EQ(second.records.size(), 2u);
  EXPECT_EQ(second.records[0].number, 8u);
  EXPECT_EQ(second.newest, 10u) << "what is not shown is not asked for again";
  auto last = log.page(0, 2, true, odd);
  ASSERT_EQ(last.records.size(), 2u);
  EXPECT_EQ(last.records[1].number, 10u);
}

TEST(AuditLog, WhatIsDamagedOrNewerIsNamed) {
  AuditLog log;
  for (auto text : {"", "[]", "{\"format\":1}", "{\"format\":2,\"number\":1,\"when\":\"2030-01-01T00:00:00.000Z\"}"}) {
    auto bad = log.load("audit/1", text);
    ASSERT_FALSE(bad) << text;
    EXPECT_NE(bad.error().context.find("audit/1"), std::string::npos) << bad.error().context;
  }
}

TEST(AuditLog, TextsAndListsAreBounded) {
  AuditLog log;
  auto long_one = audit_line(std::string(100'000, 'x'));
  long_one.paths.assign(5'000, "/a");
  auto entry = log.entry(long_one);
  EXPECT_EQ(entry.what.size(), AuditLog::text_max);
  EXPECT_EQ(entry.paths.size(), AuditLog::paths_max);
}

}  // namespace
}  // namespace croft::orchestrator
