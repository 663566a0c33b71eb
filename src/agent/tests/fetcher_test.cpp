// Artifacts: where they may come from, whose rights they are brought with, how large they may be.
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>

#include <fstream>
#include <thread>

#include "agent/fetcher.hpp"
#include "agent/reach.hpp"
#include "base/files.hpp"
#include "base/process.hpp"
#include "net/async.hpp"
#include "net/http_server.hpp"

namespace croft::agent {
namespace {

namespace asio = boost::asio;

/// A server on loopback that answers by path.
class Web {
 public:
  Web() : server_(io_.get_executor(), [this](net::Request r) { return answer(std::move(r)); }, {}), thread_([this] { io_.run(); }) { port_ = server_.listen("127.0.0.1", 0).value(); }
  ~Web() {
    auto job = server_.stop(Millis(100));
    asio::co_spawn(io_, std::move(job), asio::use_future).get();
    guard_.reset();
    thread_.join();
  }
  [[nodiscard]] std::string url(const std::string& path) const { return fmt::format("http://127.0.0.1:{}{}", port_, path); }

 private:
  asio::awaitable<net::Response> answer(net::Request r) {
    auto to = [](std::string where) {
      auto response = net::Response::text("elsewhere", 302);
      response.headers.set("Location", std::move(where));
      return response;
    };
    if (r.path == "/tool") co_return net::Response::text("hello");
    if (r.path == "/here/tool") co_return to("/tool");
    if (r.path == "/round/tool") co_return to("/round/tool");
    if (r.path == "/cloud/tool") co_return to("http://169.254.169.254/latest/meta-data/tool");
    if (r.path == "/disk/tool") co_return to("file:///etc/passwd");
    if (r.path == "/slow/tool") {  // says that much will come, and says no more
      net::Response response;
      response.stream = [](std::shared_ptr<net::StreamWriter> w) -> asio::awaitable<void> {
        (void)co_await w->write("x");
        while (!w->closed()) (void)co_await net::sleep_for(Millis(50));
      };
      co_return response;
    }
    if (r.path == "/endless/tool") {  // says no length
      net::Response response;
      response.stream = [](std::shared_ptr<net::StreamWriter> w) -> asio::awaitable<void> {
        for (int i = 0; i < 10'000; ++i)
          if (!co_await w->write(std::string(65536, 'x'))) co_return;
      };
      co_return response;
    }
    co_return net::Response::text("no", 404);
  }

  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> guard_{io_.get_executor()};
  net::HttpServer server_;
  std::thread thread_;
  std::uint16_t port_ = 0;
};

class Fetching : public testing::Test {
 protected:
  Fetching() {
    char name[] = "/tmp/croft-fetch-XXXXXX";
    dir_ = ::mkdtemp(name);
    ::chmod(dir_.c_str(), 0755);
    for (const char* sub : {"sandbox", "host", "secret"}) fs::create_directory(dir_ / sub);
    if (::geteuid() == 0) {
      rules_.as = user_named("nobody").value();
      EXPECT_EQ(::chown((dir_ / "sandbox").c_str(), rules_.as->uid, rules_.as->gid), 0);
    }
    rules_.host_paths = {(dir_ / "host").string()};
    write(dir_ / "secret" / "key", "secret");
    ::chmod((dir_ / "secret" / "key").c_str(), 0600);
  }
  ~Fetching() override { fs::remove_all(dir_); }
  static void write(const fs::path& file, const std::string& text) { std::ofstream(file) << text; }
  Status bring(const std::string& uri, bool cache = false, const std::string& dest = "", bool executable = false) {
    Artifact a;
    a.uri = uri;
    a.cache = cache;
    a.dest_path = dest;
    a.executable = executable;
    return fetch(a, dir_ / "sandbox", dir_ / "cache", rules_);
  }
  Errc code(const std::string& uri) {
    auto ok = bring(uri);
    EXPECT_FALSE(ok);
    EXPECT_NE(ok.error().context.find(uri), std::string::npos) << ok.error().context;
    return ok.error().code;
  }
  std::string brought(const std::string& name) { return read_file(dir_ / "sandbox" / name).value_or("none"); }

  fs::path dir_;
  FetchRules rules_;
};

TEST_F(Fetching, S9_FilesOfTheHostComeFromFoldersThatAreNamed) {
  write(dir_ / "host" / "tool", "hello");
  ASSERT_TRUE(bring((dir_ / "host" / "tool").string()));
  EXPECT_EQ(brought("tool"), "hello");
  EXPECT_EQ(code((dir_ / "secret" / "key").string()), Errc::forbidden);
  EXPECT_EQ(code("file://" + (dir_ / "host" / ".." / "secret" / "key").string()), Errc::forbidden);
  fs::create_symlink(dir_ / "secret" / "key", dir_ / "host" / "link");
  EXPECT_EQ(code((dir_ / "host" / "link").string()), Errc::forbidden);
  fs::create_directory_symlink(dir_ / "secret", dir_ / "host" / "way");
  EXPECT_EQ(code((dir_ / "host" / "way" / "key").string()), Errc::forbidden);
  EXPECT_EQ(code((dir_ / "host" / "none").string()), Errc::not_found);
  EXPECT_EQ(code((dir_ / "secret" / "none").string()), Errc::forbidden) << "what is there is not told either";
  EXPECT_EQ(code((dir_ / "host").string()), Errc::invalid);
  ASSERT_EQ(::mkfifo((dir_ / "host" / "pipe").c_str(), 0644), 0);
  EXPECT_EQ(code((dir_ / "host" / "pipe").string()), Errc::invalid);
  EXPECT_EQ(code("gopher://x/y"), Errc::invalid);
  EXPECT_EQ(code("scp://x/y"), Errc::invalid);
}

TEST_F(Fetching, S9_AnArchivesLinksLeadNowhere) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, for another user's rights";
  // One archive brings a link to a folder of root's, the next one a file below it; and one a link where an artifact is to be written.
  ASSERT_EQ(run_program({"sh", "-c", fmt::format("cd {0}/host && ln -s {0}/secret out && tar -cf link.tar out && rm out && mkdir out && echo evil > out/planted && tar -cf file.tar out && rm -r out && ln -s {0}/secret/key over && tar -cf over.tar over && rm over", dir_.string())}, Millis(10'000))->code, 0);
  ASSERT_TRUE(bring((dir_ / "host" / "link.tar").string()));
  (void)bring((dir_ / "host" / "file.tar").string());
  EXPECT_FALSE(fs::exists(dir_ / "secret" / "planted"));
  fs::remove_all(dir_ / "sandbox" / "out");
  write(dir_ / "host" / "tool", "evil");
  ASSERT_TRUE(bring((dir_ / "host" / "link.tar").string()));
  EXPECT_FALSE(bring((dir_ / "host" / "tool").string(), false, "out/planted"));
  EXPECT_FALSE(bring((dir_ / "host" / "tool").string(), true, "out/planted"));
  ASSERT_TRUE(bring((dir_ / "host" / "over.tar").string()));
  EXPECT_FALSE(bring((dir_ / "host" / "tool").string(), false, "over", true));
  EXPECT_FALSE(fs::exists(dir_ / "secret" / "planted"));
  EXPECT_EQ(read_file(dir_ / "secret" / "key").value(), "secret");
}

TEST_F(Fetching, S9_RedirectsAreFollowedButNotAnywhere) {
  Web web;
  ASSERT_TRUE(bring(web.url("/here/tool")));
  EXPECT_EQ(brought("tool"), "hello");
  EXPECT_EQ(code(web.url("/cloud/tool")), Errc::forbidden);
  EXPECT_EQ(code(web.url("/disk/tool")), Errc::forbidden);
  EXPECT_EQ(code(web.url("/round/tool")), Errc::io);
  EXPECT_EQ(code(web.url("/none/tool")), Errc::not_found);
  EXPECT_EQ(code("http://169.254.169.254/latest/tool"), Errc::forbidden);
  EXPECT_EQ(code("http://[::ffff:169.254.169.254]/latest/tool"), Errc::forbidden);
  EXPECT_EQ(code("http://[64:ff9b::169.254.169.254]/latest/tool"), Errc::forbidden);
  EXPECT_EQ(code("http://[2002:a9fe:a9fe::1]/latest/tool"), Errc::forbidden);
  EXPECT_EQ(code("http://[fd00:ec2::254]/latest/tool"), Errc::forbidden);
  EXPECT_EQ(code("http://100.100.100.200/latest/tool"), Errc::forbidden);
}

TEST_F(Fetching, S9_NothingTakesForEver) {
  Web web;
  rules_.limit = std::chrono::seconds(1);
  EXPECT_EQ(code(web.url("/slow/tool")), Errc::timeout);
}

Reach reach(const std::string& text) {
  sockaddr_in four{};
  sockaddr_in6 six{};
  if (::inet_pton(AF_INET, text.c_str(), &four.sin_addr) == 1) return four.sin_family = AF_INET, reach_of(reinterpret_cast<const sockaddr*>(&four));
  EXPECT_EQ(::inet_pton(AF_INET6, text.c_str(), &six.sin6_addr), 1) << text;
  six.sin6_family = AF_INET6;
  return reach_of(reinterpret_cast<const sockaddr*>(&six));
}

TEST(Reaching, S9_APublicPlaceLeadsToNoPrivateOne) {
  for (auto inside : {"127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "::1", "::", "fd12::1", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::1"}) {
    EXPECT_EQ(reach(inside), Reach::inside) << inside;
    EXPECT_FALSE(may_reach(reach("93.184.216.34"), reach(inside))) << inside;
    EXPECT_TRUE(may_reach(reach("10.0.0.1"), reach(inside))) << "who began inside is inside";
  }
  for (auto open : {"93.184.216.34", "172.32.0.1", "172.15.255.255", "11.0.0.1", "2606:2800:220:1::1"}) EXPECT_TRUE(may_reach(reach("8.8.8.8"), reach(open))) << open;
  for (auto never : {"169.254.169.254", "100.100.100.200", "fe80::1", "::ffff:169.254.1.1", "fd00:ec2::254"})
    for (auto from : {"8.8.8.8", "10.0.0.1", never}) EXPECT_FALSE(may_reach(reach(from), reach(never))) << never;
}

TEST_F(Fetching, S9_AUrlIsOneUrlForCurlToo) {
  Web web;
  auto port = web.url("").substr(web.url("").rfind(':') + 1);
  for (const auto& bad : {"http://x{@127.0.0.1:" + port + "/,@127.0.0.1:" + port + "/}tool", "http://127.0.0.1:" + port + "/{tool,here}/tool", "http://good\\@127.0.0.1:" + port + "/tool", std::string("http://a b/tool"),
                          std::string("http://%31%32%37.0.0.1/tool"), std::string("http://127.0.0.1:80x/tool"), std::string("http://[::1%lo]/tool")})
    EXPECT_EQ(code(bad), Errc::invalid) << bad;
  EXPECT_EQ(code("http://127.0.0.1:" + port + "/[1-3]/tool"), Errc::not_found) << "no pattern, but a path that is not there";
}

TEST_F(Fetching, S9_HelpersSeeNoOtherSandbox) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, for namespaces";
  // Two tasks' sandboxes of one user: an archive's link into the other one is to lead nowhere.
  auto all = dir_ / "slaves", own = all / "s/executors/a/runs/1", other = all / "s/executors/b/runs/1";
  for (const auto& box : {own, other}) {
    fs::create_directories(box);
    ASSERT_EQ(::chown(box.c_str(), 65534, 65534), 0);
  }
  write(other / "key", "secret");
  ASSERT_EQ(run_program({"sh", "-c", fmt::format("cd {}/host && ln -s {} out && tar -cf link.tar out && rm out", dir_.string(), other.string())}, Millis(10'000))->code, 0);
  write(dir_ / "host" / "tool", "evil");
  rules_.as = Owner{65534, 65534};
  rules_.sandboxes = all;
  Artifact a;
  a.uri = (dir_ / "host" / "link.tar").string();
  auto ok = fetch(a, own, dir_ / "cache", rules_);
  ASSERT_TRUE(ok) << ok.error().context;
  EXPECT_TRUE(fs::exists(own / "link.tar")) << "its own it sees";
  a.uri = (dir_ / "host" / "tool").string();
  a.dest_path = "out/planted";
  EXPECT_FALSE(fetch(a, own, dir_ / "cache", rules_));
  EXPECT_FALSE(fs::exists(other / "planted"));
  rules_.sandboxes.clear();
  EXPECT_TRUE(fetch(a, own, dir_ / "cache", rules_)) << "and without it the link would have led there";
  EXPECT_TRUE(fs::exists(other / "planted"));
}

TEST_F(Fetching, S9_NothingGrowsBeyondItsBound) {
  rules_.bytes_max = 1u << 20;
  Web web;
  EXPECT_EQ(code(web.url("/endless/tool")), Errc::too_large);
  write(dir_ / "host" / "big", std::string(2u << 20, 'x'));
  EXPECT_EQ(code((dir_ / "host" / "big").string()), Errc::too_large);
  ASSERT_EQ(run_program({"sh", "-c", fmt::format("cd {}/host && dd if=/dev/zero of=zeros bs=1M count=64 status=none && tar -czf bomb.tgz zeros && rm zeros", dir_.string())}, Millis(20'000))->code, 0);
  auto bomb = bring((dir_ / "host" / "bomb.tgz").string());
  ASSERT_FALSE(bomb);
  EXPECT_EQ(bomb.error().code, Errc::too_large) << bomb.error().context;
}

TEST_F(Fetching, S9_WhatHasAnotherChecksumIsNotTaken) {
  Web web;
  Artifact a;
  a.uri = web.url("/tool");
  for (bool cache : {false, true}) {
    a.cache = cache;
    a.checksum = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    EXPECT_TRUE(fetch(a, dir_ / "sandbox", dir_ / "cache", rules_));
    a.checksum = "sha256:" + std::string(64, '0');
    auto wrong = fetch(a, dir_ / "sandbox", dir_ / "cache", rules_);
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().code, Errc::corrupt);
    EXPECT_NE(wrong.error().context.find("2cf24dba5fb0a30e"), std::string::npos) << "it says what it is: " << wrong.error().context;
  }
  // What was kept went bad on the disk: it is brought anew.
  a.checksum = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
  for (const auto& entry : fs::directory_iterator(dir_ / "cache")) write(entry.path(), "hel");
  EXPECT_TRUE(fetch(a, dir_ / "sandbox", dir_ / "cache", rules_));
  EXPECT_EQ(brought("tool"), "hello");
  a.checksum = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043";
  EXPECT_TRUE(fetch(a, dir_ / "sandbox", dir_ / "cache", rules_));
}

TEST_F(Fetching, S9_HelpersSeeNoOtherProcess) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, for namespaces";
  // A program in tar's place, as an archive that took it over would be.
  fs::create_directory(dir_ / "bin");
  write(dir_ / "bin" / "tar", "#!/bin/sh\nls /proc | grep -c '^[0-9]' >" + (dir_ / "sandbox" / "seen").string() + "\n");
  fs::permissions(dir_ / "bin" / "tar", fs::perms(0755));
  write(dir_ / "host" / "a.tar", "");
  std::string path = ::getenv("PATH");
  ::setenv("PATH", ((dir_ / "bin").string() + ":" + path).c_str(), 1);
  auto ok = bring((dir_ / "host" / "a.tar").string());
  ::setenv("PATH", path.c_str(), 1);
  ASSERT_TRUE(ok) << ok.error().context;
  EXPECT_LE(std::stoi(brought("seen")), 5) << "the shells, ls and grep";
}

TEST_F(Fetching, WhatIsKeptIsReadByNobodyElse) {
  Web web;
  ASSERT_TRUE(bring(web.url("/tool"), true, "bin/tool", true));
  EXPECT_EQ(brought("bin/tool"), "hello");
  struct stat st{};
  ASSERT_EQ(::stat((dir_ / "sandbox/bin/tool").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0755u);
  int kept = 0;
  for (const auto& entry : fs::directory_iterator(dir_ / "cache")) {
    ++kept;
    ASSERT_EQ(::stat(entry.path().c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600u);
    EXPECT_EQ(st.st_uid, ::geteuid());
  }
  EXPECT_EQ(kept, 1);
  ASSERT_TRUE(bring(web.url("/tool"), true));
  EXPECT_EQ(brought("tool"), "hello");
}

}  // namespace
}  // namespace croft::agent
