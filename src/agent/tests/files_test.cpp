// The file API: what stands below the sandboxes' folder, by every spelling that clients use, and nothing else.
#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/agent_files.hpp"
#include "base/json.hpp"
#include "base/text.hpp"

namespace croft::agent {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;

class Collector final : public net::StreamWriter {
 public:
  asio::awaitable<bool> write(std::string chunk) override {
    text += chunk;
    co_return true;
  }
  [[nodiscard]] bool closed() const override { return false; }
  std::string text;
};

asio::awaitable<void> ask(const net::Router& router, net::Request request, net::Response& out) {
  out = co_await router.handle(std::move(request));
  if (!out.stream) co_return;
  auto collector = std::make_shared<Collector>();
  co_await out.stream(collector);
  out.body += collector->text;
}

class Files : public testing::Test {
 protected:
  Files() {
    char name[] = "/tmp/croft-files-XXXXXX";
    dir_ = ::mkdtemp(name);
    sandbox_ = dir_ / "slaves/c-S0/frameworks/c-0000/executors/t.1/runs/uuid-1";
    fs::create_directories(sandbox_ / "folder");
    fs::create_directory_symlink("uuid-1", sandbox_.parent_path() / "latest");
    write("stdout", "line one\nline two\n");
    std::ofstream(dir_ / "secret") << "secret";
    add_file_routes(router_, dir_);
  }
  ~Files() override { fs::remove_all(dir_); }

  void write(const std::string& name, const std::string& text) { std::ofstream(sandbox_ / name, std::ios::binary) << text; }
  net::Response get(const std::string& call, const std::vector<std::pair<std::string, std::string>>& query) {
    std::string raw;
    for (const auto& [k, v] : query) raw += (raw.empty() ? "" : "&") + k + "=" + url_encode(v);
    net::Request r;
    r.method = "GET";
    r.path = call;
    r.target = call + "?" + raw;
    r.query = net::Query(raw);
    net::Response out;
    asio::io_context io;
    auto job = ask(router_, std::move(r), out);
    asio::co_spawn(io, std::move(job), [](std::exception_ptr e) { if (e) std::rethrow_exception(e); });
    io.run();
    return out;
  }
  net::Response read(const std::string& path, std::vector<std::pair<std::string, std::string>> more = {}) {
    more.insert(more.begin(), {"path", path});
    return get("/files/read", more);
  }
  std::string stdout_path() const { return (sandbox_ / "stdout").string(); }

  fs::path dir_, sandbox_;
  net::Router router_;
};

TEST_F(Files, BrowseListsAFolderWithFullPathsInOrder) {
  auto r = get("/files/browse", {{"path", sandbox_.string()}});
  ASSERT_EQ(r.status, 200);
  auto list = *json::parse(r.body);
  ASSERT_EQ(list.as_array().size(), 2u);
  EXPECT_EQ(json::text(list.at(0), "path"), (sandbox_ / "folder").string());
  EXPECT_EQ(json::text(list.at(1), "path"), stdout_path());
  EXPECT_EQ(json::text(list.at(1), "mode").substr(0, 4), "-rw-");
  EXPECT_EQ(json::text(list.at(0), "mode")[0], 'd');
  EXPECT_EQ(json::integer(list.at(1), "size"), 18);
  EXPECT_GT(json::integer(list.at(1), "mtime"), 1'000'000'000);
  EXPECT_EQ(json::integer(list.at(1), "nlink"), 1);
  EXPECT_FALSE(json::text(list.at(1), "uid").empty());
}

TEST_F(Files, ATrailingSlashMakesNoDifference) {
  EXPECT_EQ(get("/files/browse", {{"path", sandbox_.string() + "/"}}).body, get("/files/browse", {{"path", sandbox_.string()}}).body);
}

TEST_F(Files, OldClientsAskWithJsonBehind) {
  EXPECT_EQ(get("/files/browse.json", {{"path", sandbox_.string()}}).status, 200);
  EXPECT_EQ(get("/files/read.json", {{"path", stdout_path()}}).status, 200);
}

TEST_F(Files, MinusOneAndNothingAskForTheSize) {
  EXPECT_EQ(read(stdout_path()).body, R"({"data":"","offset":18})");
  EXPECT_EQ(read(stdout_path(), {{"offset", "-1"}}).body, R"({"data":"","offset":18})");
}

TEST_F(Files, ReadGivesAPieceAndItsOffset) {
  EXPECT_EQ(read(stdout_path(), {{"offset", "5"}, {"length", "3"}}).body, R"({"data":"one","offset":5})");
  EXPECT_EQ(read(stdout_path(), {{"offset", "9"}}).body, R"({"data":"line two\n","offset":9})");
  EXPECT_EQ(read(stdout_path(), {{"offset", "9"}, {"length", "-1"}}).body, R"({"data":"line two\n","offset":9})");
  EXPECT_EQ(read(stdout_path(), {{"offset", "18"}}).body, R"({"data":"","offset":18})");
  EXPECT_EQ(read(stdout_path(), {{"offset", "4000000000"}}).body, R"({"data":"","offset":4000000000})") << "past the end";
  EXPECT_EQ(read(stdout_path(), {{"offset", "3"}, {"length", "0"}}).body, R"({"data":"","offset":3})");
}

TEST_F(Files, NoPieceIsLongerThanSixteenPages) {
  write("big", std::string(200'000, 'x'));
  for (auto length : {"-1", "100000", "9223372036854775807"}) {
    auto v = *json::parse(read((sandbox_ / "big").string(), {{"offset", "0"}, {"length", length}}).body);
    EXPECT_EQ(json::text(v, "data").size(), 65536u) << length;
  }
}

TEST_F(Files, BinaryOutputIsStillJson) {
  write("bin", std::string("\xff\xfe\0\x01 caf\xc3", 9));
  EXPECT_TRUE(json::parse(read((sandbox_ / "bin").string(), {{"offset", "0"}}).body));
}

TEST_F(Files, WrongNumbersAreNamed) {
  for (auto offset : {"-2", "x", "1.5", "99999999999999999999"}) {
    auto r = read(stdout_path(), {{"offset", offset}});
    EXPECT_EQ(r.status, 400) << offset;
    EXPECT_NE(r.body.find("offset"), std::string::npos);
  }
  EXPECT_EQ(read(stdout_path(), {{"offset", "0"}, {"length", "-2"}}).status, 400);
  EXPECT_EQ(get("/files/read", {}).status, 400);
  EXPECT_EQ(get("/files/browse", {{"path", ""}}).status, 400);
}

TEST_F(Files, DirectoriesDevicesAndPipesAreNotRead) {
  EXPECT_EQ(read(sandbox_.string(), {{"offset", "0"}}).status, 400);
  ASSERT_EQ(::mkfifo((sandbox_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(read((sandbox_ / "pipe").string(), {{"offset", "0"}}).status, 400) << "and it does not wait for a writer";
  EXPECT_EQ(get("/files/download", {{"path", sandbox_.string()}}).status, 400);
}

TEST_F(Files, WhatIsNotThereIs404) {
  EXPECT_EQ(read((sandbox_ / "nothing").string()).status, 404);
  EXPECT_EQ(get("/files/browse", {{"path", (sandbox_ / "nothing").string()}}).status, 404);
  EXPECT_EQ(get("/files/browse", {{"path", "/"}}).status, 404);
}

TEST_F(Files, NoWayLeadsOut) {
  fs::create_symlink("/etc/passwd", sandbox_ / "absolute");
  fs::create_symlink("../../../../../../../../secret", sandbox_ / "relative");
  fs::create_directory_symlink("/", sandbox_ / "root");
  for (auto path : {"/etc/passwd", "secret", "../secret"}) EXPECT_EQ(read(path).status, 404) << path;
  auto slaves = (dir_ / "slaves").string();
  for (const auto& path : std::vector<std::string>{slaves + "/../secret", slaves + "/c-S0/../../secret", sandbox_.string() + "/absolute", sandbox_.string() + "/relative", sandbox_.string() + "/root/etc/passwd",
                    slaves + "/../../../../../etc/passwd", "/frameworks/../../../secret", "/frameworks/../../../../../../etc/passwd", slaves + "x/secret"})
    for (auto call : {"/files/read", "/files/download", "/files/browse"}) {
      auto r = get(call, {{"path", path}, {"offset", "0"}});
      EXPECT_GE(r.status, 400) << call << " " << path;
      EXPECT_LT(r.status, 500) << call << " " << path;
      EXPECT_EQ(r.body.find("root:"), std::string::npos);
    }
}

TEST_F(Files, S8_ATasksLinksDoNotLeaveItsSandbox) {
  auto other = dir_ / "slaves/c-S0/frameworks/c-0000/executors/other.1/runs/uuid-2";
  fs::create_directories(other);
  std::ofstream(other / "stdout") << "somebody else's";
  fs::create_symlink("../../../other.1/runs/uuid-2/stdout", sandbox_ / "link");
  fs::create_directory_symlink("../../../other.1/runs/uuid-2", sandbox_ / "way");
  fs::create_symlink(other / "stdout", sandbox_ / "absolute");
  fs::create_symlink("stdout", sandbox_ / "own");
  for (const auto& run : {sandbox_, sandbox_.parent_path() / "latest"}) {
    for (const char* name : {"link", "way/stdout", "absolute", "folder/../way/stdout"})
      for (const char* call : {"/files/read", "/files/download"}) EXPECT_NE(get(call, {{"path", (run / name).string()}, {"offset", "0"}}).status, 200) << call << " " << run / name;
    EXPECT_NE(get("/files/browse", {{"path", (run / "way").string()}}).status, 200);
    EXPECT_EQ(get("/files/read", {{"path", (run / "own").string()}, {"offset", "0"}}).status, 200);
  }
}

TEST_F(Files, LatestAndTheVirtualPathLeadToTheNewestRun) {
  EXPECT_EQ(read((sandbox_.parent_path() / "latest/stdout").string(), {{"offset", "0"}, {"length", "4"}}).body, R"({"data":"line","offset":0})");
  EXPECT_EQ(read("/frameworks/c-0000/executors/t.1/runs/latest/stdout", {{"offset", "0"}, {"length", "4"}}).body, R"({"data":"line","offset":0})");
  EXPECT_EQ(read("/frameworks/c-0000/executors/other/runs/latest/stdout").status, 404);
}

TEST_F(Files, DownloadGivesTheBytesAsAnAttachment) {
  write("a\"b\n.txt", "x");
  auto r = get("/files/download", {{"path", stdout_path()}});
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.body, "line one\nline two\n");
  EXPECT_EQ(r.headers.get("Content-Disposition"), "attachment; filename=\"stdout\"");
  EXPECT_EQ(r.headers.get("Content-Type"), "application/octet-stream");
  auto odd = get("/files/download", {{"path", (sandbox_ / "a\"b\n.txt").string()}});
  EXPECT_EQ(odd.headers.get("Content-Disposition"), "attachment; filename=\"ab.txt\"") << "no header of its own making";
  EXPECT_EQ(odd.headers.get("Content-Type"), "text/plain");
}

TEST_F(Files, S8_AFolderSwappedForALinkWhileItIsReadLeadsNowhere) {
  // The task swaps its own folder for a link to another one's, and back, as fast as it can.
  auto other = dir_ / "slaves/c-S0/frameworks/c-0000/executors/u.1/runs/uuid-2";
  fs::create_directories(other);
  std::ofstream(other / "file") << "secret";
  write("folder/file", "own");
  fs::create_directory_symlink(other, sandbox_ / "link");
  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    while (!stop) ::syscall(SYS_renameat2, AT_FDCWD, (sandbox_ / "folder").c_str(), AT_FDCWD, (sandbox_ / "link").c_str(), RENAME_EXCHANGE);
  });
  int owned = 0;
  for (int i = 0; i < 3000; ++i) {
    auto r = read((sandbox_ / "folder/file").string(), {{"offset", "0"}});
    EXPECT_EQ(r.body.find("secret"), std::string::npos) << i;
    owned += r.status == 200;
    EXPECT_EQ(get("/files/browse", {{"path", (sandbox_ / "folder").string()}}).body.find("uuid-2"), std::string::npos);
  }
  stop = true;
  swapper.join();
  EXPECT_GT(owned, 0);
  EXPECT_LT(owned, 3000) << "it was swapped meanwhile";
}

TEST_F(Files, S8_PathsThatAreNoneAreAnswered) {
  for (const auto& path : {std::string("\0", 1), sandbox_.string() + std::string("/stdout\0.txt", 12), std::string(100'000, 'a'), sandbox_.string() + "/" + std::string(300, 'b'), std::string("/") + std::string(5000, '/'), std::string("\xff\xfe")}) {
    auto r = read(path, {{"offset", "0"}});
    EXPECT_TRUE(r.status == 404 || r.status == 400) << r.status << " " << path.substr(0, 80);
  }
}

}  // namespace
}  // namespace croft::agent
