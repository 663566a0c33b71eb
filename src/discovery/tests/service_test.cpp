#include "discovery/discovery_service.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>

#include <fstream>
#include <mutex>
#include <thread>

#include "base/json.hpp"
#include "base/files.hpp"
#include "builders.hpp"
#include "catalog/catalog_stream.hpp"
#include "catalog/publisher.hpp"
#include "discovery/discovery_api.hpp"
#include "discovery/dns_address.hpp"
#include "discovery/names.hpp"
#include "net/http_server.hpp"

namespace croft::discovery {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;

template <class T>
T run(asio::thread_pool& pool, asio::awaitable<T> work) {
  return asio::co_spawn(pool, std::move(work), asio::use_future).get();
}

struct Asked { int status; std::string body; net::Headers headers; };

Asked get(const net::Router& router, const std::string& path, const std::string& accept = "") {
  asio::thread_pool pool(1);
  net::Request r;
  r.method = "GET";
  r.target = r.path = path;
  r.local = "127.0.0.1:8123";
  if (!accept.empty()) r.headers.set("Accept", accept);
  auto answer = run(pool, router.handle(std::move(r)));
  return {answer.status, answer.body, answer.headers};
}

class Api : public ::testing::Test {
 protected:
  Api() {
    auto one = endpoint("service_fibonacci.u1", "/service/fibonacci", "c-S1", 31000), two = endpoint("service_fibonacci.u2", "/service/fibonacci", "c-S2", 31001);
    two.ip = "fd01::2";
    auto c = content_of({one, two, endpoint("web.u1", "/web", "c-S1", 31002)});
    c.masters = {{"m1", "192.168.99.11", 5050, true}};
    zone_ = zone_of(c);
    ApiInfo info;
    info.version = "0.1";
    info.resolvers = {"10.0.0.1"};
    add_discovery_routes(router_, info, [this](const net::Request&) { return zone_; }, [this] { return stale_; });
  }
  json::value body(const std::string& path) {
    auto a = get(router_, path);
    EXPECT_EQ(a.status, 200) << path;
    auto v = json::parse(a.body);
    EXPECT_TRUE(v) << a.body;
    return v ? *v : json::value();
  }
  std::shared_ptr<const Zone> zone_;
  double stale_ = 0;
  net::Router router_;
};

TEST_F(Api, ServicesGivesHostAddressAndPortAsText) {
  auto host = "fibonacci-service-" + hash_of("service_fibonacci.u1") + "-s1.marathon.mesos.";
  auto all = body("/v1/services/_fibonacci-service._tcp.marathon.mesos.").as_array();
  ASSERT_EQ(all.size(), 2u);
  std::set<std::string> found;
  for (const auto& v : all) {
    EXPECT_EQ(json::text(v, "service"), "_fibonacci-service._tcp.marathon.mesos.");  // as it was given
    found.insert(json::text(v, "ip") + " " + json::text(v, "port"));
    if (json::text(v, "ip") == "192.168.99.21") { EXPECT_EQ(json::text(v, "host"), host); }
  }
  EXPECT_EQ(found, (std::set<std::string>{"192.168.99.21 31000", "fd01::2 31001"}));
}

TEST_F(Api, AServiceIsFoundUnderThePlainAndTheDottedNameToo) {
  for (auto name : {"_fibonacci-service._tcp.marathon.mesos", "_Fibonacci-Service._TCP.marathon.mesos.", "_fibonacci.service._tcp.marathon.mesos", "fibonacci-service",
                    "fibonacci.service", "service/fibonacci", "_fibonacci-service.*._tcp.marathon.mesos"})
    EXPECT_EQ(body("/v1/services/" + std::string(name)).as_array().size(), 2u) << name;
}

TEST_F(Api, NothingFoundIsOneEmptyEntry) {
  EXPECT_EQ(get(router_, "/v1/services/_nobody._tcp.marathon.mesos").body, R"([{"service":"","host":"","ip":"","port":""}])");
  EXPECT_EQ(get(router_, "/v1/services/---").body, R"([{"service":"","host":"","ip":"","port":""}])");
  EXPECT_EQ(get(router_, "/v1/hosts/nobody.mesos").body, R"([{"host":"","ip":""}])");
}

TEST_F(Api, HostsGivesAddressesUnderTheFullName) {
  EXPECT_EQ(get(router_, "/v1/hosts/LEADER.mesos").body, R"([{"host":"leader.mesos.","ip":"192.168.99.11"}])");
  EXPECT_EQ(get(router_, "/v1/hosts/fibonacci-service.marathon.mesos.").body,
            R"([{"host":"fibonacci-service.marathon.mesos.","ip":"192.168.99.21"},{"host":"fibonacci-service.marathon.mesos.","ip":"fd01::2"}])");
}

TEST_F(Api, EnumerateListsRecordsByTaskEachOnce) {
  auto v = body("/v1/enumerate");
  const auto& framework = json::list(v, "frameworks").at(0);
  EXPECT_EQ(json::text(framework, "name"), "marathon");
  const auto& tasks = json::list(framework, "tasks");
  ASSERT_EQ(tasks.size(), 3u);
  EXPECT_EQ(json::text(tasks[0], "id"), "service_fibonacci.u1");
  EXPECT_EQ(json::text(tasks[0], "name"), "fibonacci.service");
  std::set<std::string> seen;
  for (const auto& t : tasks)
    for (const auto& r : json::list(t, "records")) {
      auto line = json::text(r, "name") + " " + json::text(r, "rtype") + " " + json::text(r, "host");
      EXPECT_TRUE(seen.insert(line).second) << line;
    }
  auto canonical = "fibonacci-service-" + hash_of("service_fibonacci.u1") + "-s1";
  EXPECT_TRUE(seen.contains("_fibonacci-service._tcp.marathon.slave.mesos. SRV " + canonical + ".marathon.slave.mesos.:31000"));
  EXPECT_TRUE(seen.contains("fibonacci-service.marathon.mesos. AAAA fd01::2"));
}

TEST_F(Api, AxfrListsTheZone) {
  auto v = body("/v1/axfr");
  EXPECT_EQ(json::text(v, "Domain"), "mesos");
  EXPECT_EQ(json::text(v, "Mname"), "ns1.mesos.");
  EXPECT_EQ(json::integer(v, "Serial"), zone_->serial);
  const auto& records = *json::find(v, "Records");
  EXPECT_EQ(json::texts(*json::find(records, "As"), "leader.mesos."), std::vector<std::string>{"192.168.99.11"});
  EXPECT_EQ(json::texts(*json::find(records, "AAAAs"), "fibonacci-service.marathon.mesos."), std::vector<std::string>{"fd01::2"});
  EXPECT_EQ(json::texts(*json::find(records, "SRVs"), "_leader._tcp.mesos."), std::vector<std::string>{"leader.mesos.:5050"});
  EXPECT_EQ(json::find(*json::find(records, "As"), "_leader._tcp.mesos."), nullptr);
}

TEST_F(Api, ConfigHasTheKeysThatClientsKnowAndNoSecret) {
  auto v = body("/v1/config");
  EXPECT_EQ(v.as_object().begin()->key(), "RefreshSeconds");
  for (auto key : {"Port", "HttpPort", "TTL", "SOASerial", "Masters", "Resolvers", "IPSources", "Domain", "DnsOn", "MesosCredentials", "MesosAuthentication"})
    EXPECT_TRUE(v.as_object().contains(key)) << key;
  EXPECT_EQ(json::text(*json::find(v, "MesosCredentials"), "Secret"), "");
  EXPECT_EQ(json::integer(v, "HttpPort"), 8123);
}

TEST_F(Api, WhatIsNotThereIsToldAsMesosDnsToldIt) {
  auto ports = get(router_, "/v1/hosts/leader.mesos/ports");
  EXPECT_EQ(ports.status, 501);
  EXPECT_EQ(ports.body, "To be implemented...");
  auto nothing = get(router_, "/v2/nothing");
  EXPECT_EQ(nothing.status, 404);
  EXPECT_EQ(nothing.body, "404: Page Not Found");
}

TEST_F(Api, VersionAcceptAndMethods) {
  EXPECT_EQ(get(router_, "/v1/version").body, R"({"Service":"Mesos-DNS","URL":"https://github.com/mesosphere/mesos-dns","Version":"0.1"})");
  EXPECT_EQ(get(router_, "/v1/version", "text/html").status, 406);
  EXPECT_EQ(get(router_, "/v1/version", "text/html, */*;q=0.1").status, 200);
  EXPECT_EQ(get(router_, "/v1/nothing").status, 404);
}

TEST_F(Api, TellsWhenItIsStaleAndWhenItKnowsNothing) {
  EXPECT_FALSE(get(router_, "/v1/hosts/leader.mesos").headers.has("X-Croft-Stale"));
  stale_ = 12.3;
  EXPECT_EQ(get(router_, "/v1/hosts/leader.mesos").headers.get("X-Croft-Stale"), "12");
  zone_ = ZoneBuilder(ZoneOptions{}).zone();
  EXPECT_EQ(get(router_, "/v1/hosts/leader.mesos").status, 503);
  EXPECT_EQ(get(router_, "/v1/version").status, 200);
}

/// The whole way: a leader's change over HTTP to an answer over UDP.
class Whole : public ::testing::Test {
 protected:
  Whole() {
    char name[] = "/tmp/croft-discovery-XXXXXX";
    dir_ = ::mkdtemp(name);
    catalog::Publisher::Options o;
    o.epoch = 1;
    publisher_ = std::make_unique<catalog::Publisher>(o);
    net::Router router;
    router.on("GET", "/croft/v1/catalog", [this](net::Request r) {
      catalog::Feed feed = [this](std::optional<catalog::Index> after) { return look(after); };
      return catalog::serve_catalog(std::move(r), std::move(feed), changed_);
    });
    server_ = std::make_unique<net::HttpServer>(pool_.get_executor(), std::make_shared<const net::Router>(std::move(router)));
    port_ = *server_->listen("127.0.0.1", 0);
  }
  ~Whole() override {
    stop_leader();
    if (service_) run(pool_, service_->stop());
    service_.reset();
    pool_.join();
    fs::remove_all(dir_);
  }
  asio::awaitable<catalog::Batch> look(std::optional<catalog::Index> after) {
    std::lock_guard lock(mutex_);
    catalog::Batch b{publisher_->index(), publisher_->since(after), leads_};
    co_return b;
  }
  void change(const std::function<void(catalog::Publisher&)>& f) {
    std::lock_guard lock(mutex_);
    f(*publisher_);
    publisher_->flush();
    changed_->notify();
  }
  void stop_leader() {
    {
      std::lock_guard lock(mutex_);
      leads_ = false;
      changed_->notify();
    }
    if (server_) run(pool_, server_->stop(std::chrono::milliseconds(200)));
    server_.reset();
  }
  void start() {
    DiscoveryOptions o;
    o.masters = {{"127.0.0.1", port_, ""}};
    o.saved = dir_ / "catalog.json";
    o.dns.listen = {{"127.0.0.1", 0, false}};
    o.dns.forward = false;
    o.version = "0.1";
    service_ = std::make_unique<DiscoveryService>(pool_.get_executor(), o, metrics_);
    auto ok = service_->start();
    ASSERT_TRUE(ok) << ok.error().context;
  }
  Read ask(const Ask& what) {
    auto at = *socket_address("127.0.0.1", service_->dns_port());
    Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    timeval limit{5, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    auto packet = packet_of(what);
    ::sendto(fd.get(), packet.data(), packet.size(), 0, at.get(), at.size);
    std::string in(4096, '\0');
    auto n = ::recv(fd.get(), in.data(), in.size(), 0);
    return read_answer(std::string_view(in).substr(0, n > 0 ? static_cast<std::size_t>(n) : 0));
  }
  bool comes_true(const std::function<bool()>& so) {
    for (auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5); std::chrono::steady_clock::now() < end;) {
      if (so()) return true;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return false;
  }

  asio::thread_pool pool_{2};
  Metrics metrics_;
  fs::path dir_;
  std::mutex mutex_;
  std::unique_ptr<catalog::Publisher> publisher_;
  bool leads_ = true;
  std::shared_ptr<net::Signal> changed_ = net::Signal::make();
  std::unique_ptr<net::HttpServer> server_;
  std::uint16_t port_ = 0;
  std::unique_ptr<DiscoveryService> service_;
};

const Ask instances{.name = "_fibonacci-service._tcp.marathon.mesos", .type = SRV};

TEST_F(Whole, AChangeReachesDnsAndADrainingInstanceLeavesIt) {
  start();
  auto one = endpoint("f.u1"), two = endpoint("f.u2", "/service/fibonacci", "c-S2", 31001);
  change([&](catalog::Publisher& p) { p.set(one), p.set(two); });
  ASSERT_TRUE(comes_true([&] { return ask(instances).answers.size() == 2; }));
  one.draining = true;
  auto begun = std::chrono::steady_clock::now();
  change([&](catalog::Publisher& p) { p.set(one); });
  ASSERT_TRUE(comes_true([&] { return ask(instances).answers.size() == 1; }));
  RecordProperty("push_us", static_cast<int>(std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begun).count()));
  change([&](catalog::Publisher& p) { p.remove_endpoint(one.task), p.remove_endpoint(two.task); });
  ASSERT_TRUE(comes_true([&] { return ask(instances).answers.empty(); }));
  EXPECT_NE(metrics_.print().find("croft_dns_tasks 0"), std::string::npos);
}

TEST_F(Whole, GoesOnFromDiskWithoutALeader) {
  start();
  EXPECT_TRUE(ask(instances).answers.empty());
  change([&](catalog::Publisher& p) { p.set(endpoint("f.u1")); });
  ASSERT_TRUE(comes_true([&] { return ask(instances).answers.size() == 1; }));
  stop_leader();
  run(pool_, service_->stop());
  service_.reset();
  start();
  ASSERT_TRUE(comes_true([&] { return ask(instances).answers.size() == 1; }));
  net::Router router;
  service_->add_routes(router);
  EXPECT_TRUE(get(router, "/v1/services/fibonacci-service").headers.has("X-Croft-Stale"));
}

TEST_F(Whole, ABadDomainIsNamed) {
  DiscoveryOptions o;
  o.zone.domain = "not..a.name";
  DiscoveryService s(pool_.get_executor(), o, metrics_);
  auto ok = s.start();
  ASSERT_FALSE(ok);
  EXPECT_NE(ok.error().context.find("'not..a.name'"), std::string::npos);
}

}  // namespace
}  // namespace croft::discovery
