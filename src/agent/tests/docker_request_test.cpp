#include "agent/docker_request.hpp"
#include "agent/volume_folders.hpp"
#include "agent/secret_files.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/json.hpp"
#include "base/text.hpp"

namespace croft::agent {
namespace {

Launch launch_of(std::vector<std::pair<std::string, std::string>> parameters = {}) {
  Launch l;
  l.spec.id = TaskId("web.1");
  l.spec.app = AppId("/web");
  l.spec.resources = {500, 256'000, 0, 0};
  l.spec.docker = DockerSpec{};
  l.spec.docker->image = "nginx";
  l.spec.docker->parameters = std::move(parameters);
  l.sandbox = "/sandbox";
  return l;
}

std::string made(const Launch& l, DockerHost host = {}) {
  auto body = create_request(l, host);
  return body ? json::print(*body) : body.error().context;
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

TEST(ImageName, IsTakenApart) {
  EXPECT_EQ(parse_image("nginx"), (ImageName{"nginx", "latest", "docker.io"}));
  EXPECT_EQ(parse_image("library/nginx:1.9"), (ImageName{"library/nginx", "1.9", "docker.io"}));
  EXPECT_EQ(parse_image("127.0.0.1:5002/fibonacci"), (ImageName{"127.0.0.1:5002/fibonacci", "latest", "127.0.0.1:5002"}));
  EXPECT_EQ(parse_image("reg.example.com/a/b:2"), (ImageName{"reg.example.com/a/b", "2", "reg.example.com"}));
  EXPECT_EQ(parse_image("localhost/a@sha256:00ff"), (ImageName{"localhost/a", "sha256:00ff", "localhost"}));
  EXPECT_EQ(parse_image("reg:5000/a:1@sha256:00ff"), (ImageName{"reg:5000/a", "sha256:00ff", "reg:5000"}));
}

TEST(CreateRequest, LimitsAndLabels) {
  auto text = made(launch_of({{"label", "croft.task=forged"}, {"label", "team=x"}}), {.farm = "f", .node = "n"});
  EXPECT_TRUE(has(text, "\"CpuShares\":512")) << text;
  EXPECT_TRUE(has(text, "\"Memory\":268435456,\"MemorySwap\":268435456") || (has(text, "\"Memory\":268435456") && has(text, "\"MemorySwap\":268435456"))) << text;
  EXPECT_TRUE(has(text, "\"croft.task\":\"web.1\"") && has(text, "\"team\":\"x\"") && has(text, "\"MESOS_TASK_ID\":\"web.1\"")) << text;
  EXPECT_FALSE(has(text, "forged")) << text;
  EXPECT_TRUE(has(text, "/sandbox:/mnt/mesos/sandbox")) << text;
}

TEST(CreateRequest, PortsAreBoundWhereTheFarmIs) {
  auto l = launch_of();
  PortSpec p;
  p.host_port = 31000;
  p.container_port = 80;
  p.protocol = Protocol::both;
  l.spec.ports = {p};
  auto text = made(l, {.publish = {"127.0.0.1", "172.17.42.1"}});
  EXPECT_TRUE(has(text, "\"80/udp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"31000\"},{\"HostIp\":\"172.17.42.1\",\"HostPort\":\"31000\"}]")) << text;
  EXPECT_TRUE(has(made(l), "\"HostIp\":\"\"")) << "a farm with an address of its own binds all";
  l.spec.docker->network = NetworkMode::host;
  EXPECT_FALSE(has(made(l), "PortBindings"));
}

TEST(CreateRequest, CommandsAsMarathonRunsThem) {
  auto l = launch_of();
  l.spec.cmd = "echo $X";
  EXPECT_TRUE(has(made(l, {.init = true}), "\"Entrypoint\":[\"/bin/sh\"],\"Cmd\":[\"-c\",\"echo $X\"]")) << made(l);
  EXPECT_TRUE(has(made(l, {.init = true}), "\"Init\":true"));
  l.spec.cmd.reset();
  l.spec.args = std::vector<std::string>{"a", "b c"};
  auto text = made(l);
  EXPECT_TRUE(has(text, "\"Cmd\":[\"a\",\"b c\"]") && !has(text, "Entrypoint")) << text;
}

TEST(CreateRequest, EveryKnownParameterHasAPlace) {
  for (auto [key, value, wanted] : {std::tuple{"dns", "1.2.3.4", "\"Dns\":[\"1.2.3.4\"]"}, {"-e", "A=b=c", "A=b=c"}, {"--hostname", "h", "\"Hostname\":\"h\""},
                                    {"ulimit", "nofile=1:2", "{\"Name\":\"nofile\",\"Soft\":1,\"Hard\":2}"}, {"log-opt", "tag=x", "\"tag\":\"x\""}, {"shm-size", "64m", "\"ShmSize\":67108864"},
                                    {"cpus", "1.5", "\"NanoCpus\":1500000000"}, {"tmpfs", "/t:size=1m", "\"Tmpfs\":{\"/t\":\"size=1m\"}"}, {"read-only", "true", "\"ReadonlyRootfs\":true"},
                                    {"device", "/dev/fuse", "\"PathInContainer\":\"/dev/fuse\""}, {"memory-swap", "-1", "\"MemorySwap\":-1"}, {"log-driver", "syslog", "\"Type\":\"syslog\""},
                                    {"network-alias", "db", "\"Aliases\":[\"db\"]"}, {"entrypoint", "/x", "\"Entrypoint\":[\"/x\"]"}})
    EXPECT_TRUE(has(made(launch_of({{key, value}})), wanted)) << key << ": " << made(launch_of({{key, value}}));
  for (auto [key, value] : {std::pair{"ulimit", "nofile"}, {"shm-size", "much"}, {"cpus", "-1"}, {"pids-limit", "x"}, {"memory-swap", "99999999999999999999"}, {"publish", "80:80"}}) {
    auto text = made(launch_of({{key, value}}));
    EXPECT_TRUE(has(text, std::string("parameter ") + key)) << text;
  }
}

class Auth : public ::testing::Test {
 protected:
  Auth() { std::filesystem::create_directories(folder_ / ".docker"); }
  ~Auth() override { std::filesystem::remove_all(folder_); }
  void put(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }
  std::filesystem::path folder_ = std::filesystem::temp_directory_path() / ("croft-auth-" + random_uuid());
};

TEST(Secrets, FilesGetFoldersThatCanBeReplacedAtOnce) {
  auto l = launch_of();
  l.spec.secrets = {{"/pw", "PW"}, {"/key", "", "conf/key"}, {"/cert", "", "/run/tls/cert.pem"}, {"/ca", "", "/run/tls/ca.pem"}};
  auto plan = plan_secrets(l.spec, "/own");
  EXPECT_EQ(plan.env, "files/own/.env");
  EXPECT_EQ(plan.files, (std::vector<std::string>{"", "files/own/1", "files/0/cert.pem", "files/0/ca.pem"}));
  ASSERT_EQ(plan.links.size(), 1u);
  EXPECT_EQ(plan.links[0].path, "conf/key");
  EXPECT_EQ(plan.links[0].target, "/own/1");
  ASSERT_EQ(plan.mounts.size(), 2u);
  EXPECT_EQ(plan.mounts[0].target, "/run/tls");
  EXPECT_EQ(plan.mounts[1].target, "/own");
  l.spec.docker.reset();
  EXPECT_EQ(plan_secrets(l.spec, "/own").env, "env") << "without an image only the executor sees them";
}

TEST(Secrets, AContainersDefinitionHasNoValueAndItsCommandIsWrapped) {
  auto l = launch_of();
  l.spec.secrets = {{"/pw", "PW"}};
  l.secrets = "/run/croft/secrets/1/web.1";
  DockerHost host;
  host.executor = "/usr/lib/croft-executor";
  auto body = *create_request(l, host, {{"/entry"}, {"a", "b"}});
  EXPECT_EQ(json::print(body.at("Entrypoint")), R"(["/mnt/mesos/croft-executor","--env","/mnt/mesos/secrets/.env","--","/entry"])");
  EXPECT_EQ(json::print(body.at("Cmd")), R"(["a","b"])") << "the image's own";
  auto of_host = json::print(body.at("HostConfig"));
  EXPECT_TRUE(has(of_host, R"({"Type":"bind","Source":"/run/croft/secrets/1/web.1/files/own","Target":"/mnt/mesos/secrets","ReadOnly":true})")) << of_host;
  EXPECT_TRUE(has(of_host, R"({"Type":"bind","Source":"/usr/lib/croft-executor","Target":"/mnt/mesos/croft-executor","ReadOnly":true})")) << of_host;
  EXPECT_TRUE(has(of_host, R"({"Name":"core","Soft":1,"Hard":1})")) << of_host;
  l.spec.cmd = "run";
  EXPECT_EQ(json::print(create_request(l, host, {{"/entry"}, {"a"}})->at("Cmd")), R"(["-c","run"])");
  l.spec.cmd.reset();
  EXPECT_EQ(create_request(l, host, {}).error().code, Errc::invalid) << "nothing to run";
  l.spec.secrets = {{"/pw", "", "pw"}};
  EXPECT_FALSE(create_request(l, host, {})->contains("Entrypoint")) << "files need no wrapping";
}

TEST_F(Auth, IsFoundForTheImagesRegistry) {
  EXPECT_EQ(*registry_auth(folder_, parse_image("a")), std::nullopt);
  put(".docker/config.json", R"({"auths":{"https://index.docker.io/v1/":{"auth":"YW5uOnMzY3JldA=="},"reg:5000":{"username":"bob","password":"p:w"}}})");
  auto hub = *registry_auth(folder_, parse_image("nginx"));
  ASSERT_TRUE(hub);
  auto plain = *hub;
  for (auto& c : plain) c = c == '-' ? '+' : c == '_' ? '/' : c;
  EXPECT_TRUE(has(*base64_decode(plain), R"("username":"ann","password":"s3cret")")) << *base64_decode(plain);
  EXPECT_TRUE(registry_auth(folder_, parse_image("reg:5000/x"))->has_value());
  EXPECT_EQ(*registry_auth(folder_, parse_image("other:5000/x")), std::nullopt);
}

TEST_F(Auth, TheNodesOwnFileIsAskedAfterTheSandbox) {
  put("own.json", R"({"auths":{"reg:5000":{"username":"node","password":"n"},"docker.io":{"username":"node","password":"n"}}})");
  put(".docker/config.json", R"({"auths":{"docker.io":{"username":"app","password":"a"}}})");
  auto said = [&](const char* image) {
    auto text = registry_auth(folder_, parse_image(image), folder_ / "own.json")->value_or("");
    for (auto& c : text) c = c == '-' ? '+' : c == '_' ? '/' : c;
    return *base64_decode(text);
  };
  EXPECT_TRUE(has(said("reg:5000/x"), R"("username":"node")"));
  EXPECT_TRUE(has(said("nginx"), R"("username":"app")"));
  EXPECT_EQ(*registry_auth(folder_, parse_image("reg:5000/x"), folder_ / "none.json"), std::nullopt);
  put("own.json", "{");
  auto broken = registry_auth(folder_, parse_image("reg:5000/x"), folder_ / "own.json");
  ASSERT_TRUE(broken) << "told in the log; images that need no login are pulled all the same";
  EXPECT_EQ(*broken, std::nullopt);
}

TEST_F(Auth, S9_AnArtifactsLinkLeadsToNobodyElsesLogins) {
  put("own.json", R"({"auths":{"reg:5000":{"username":"root","password":"r"}}})");
  fs::create_directory(folder_ / "sandbox");
  fs::create_symlink(folder_ / "own.json", folder_ / "sandbox" / ".dockercfg");
  EXPECT_FALSE(registry_auth(folder_ / "sandbox", parse_image("reg:5000/x"))) << "a link";
  fs::remove(folder_ / "sandbox" / ".dockercfg");
  fs::create_directory(folder_ / "real");
  fs::copy(folder_ / "own.json", folder_ / "real" / "config.json");
  fs::create_directory_symlink(folder_ / "real", folder_ / "sandbox" / ".docker");
  EXPECT_FALSE(registry_auth(folder_ / "sandbox", parse_image("reg:5000/x"))) << "a folder that is a link";
}

TEST_F(Auth, S11_AVolumesPathLeadsWhereItSaysOrNowhere) {
  auto sandbox = folder_ / "sandbox", srv = folder_ / "srv";
  for (const auto& path : {sandbox, srv, srv / "data", folder_ / "secret"}) fs::create_directory(path);
  fs::create_directory_symlink("/", sandbox / "out");
  fs::create_directory_symlink(folder_ / "secret", srv / "way");
  auto settle = [&](const std::string& path) { return settle_volumes({{"/v", path, "RW"}}, sandbox, {srv.string()}); };
  for (const std::string& bad : {std::string("out"), std::string("out/etc"), std::string("a/../../x"), (srv / "way").string(), (srv / "way/new").string(), (folder_ / "secret").string(), std::string("/")}) {
    auto no = settle(bad);
    ASSERT_FALSE(no) << bad;
    EXPECT_EQ(no.error().code, Errc::forbidden) << no.error().context;
  }
  auto made = settle("data/./deep/");
  ASSERT_TRUE(made) << made.error().context;
  EXPECT_EQ(fs::path((*made)[0].host_path), sandbox / "data/deep/");
  EXPECT_TRUE(fs::is_directory(sandbox / "data/deep"));
  EXPECT_TRUE(settle("data/deep")) << "an earlier attempt at this very task";
  fs::create_directory_symlink(srv / "data", srv / "inside");
  auto inside = settle((srv / "inside").string());
  ASSERT_TRUE(inside) << inside.error().context;
  EXPECT_EQ((*inside)[0].host_path, (srv / "data").string()) << "what was judged is what is mounted";
}

TEST_F(Auth, ABrokenFileIsNamed) {
  put(".dockercfg", "{");
  auto bad = registry_auth(folder_, parse_image("a"));
  ASSERT_FALSE(bad);
  EXPECT_TRUE(has(bad.error().context, ".dockercfg"));
  put(".dockercfg", R"({"docker.io":{"auth":"!!"}})");
  EXPECT_FALSE(registry_auth(folder_, parse_image("a")));
}

TEST(PullProgress, SumsUpLayersAndKeepsTheRegistrysWords) {
  PullProgress p;
  for (const char* line : {R"({"status":"Pulling from x","id":"1"})", R"({"status":"Downloading","id":"a","progressDetail":{"current":1000000,"total":4000000}})",
                           R"({"status":"Already exists","id":"b","progressDetail":{}})"})
    EXPECT_TRUE(p.take(*json::parse(line)));
  EXPECT_EQ(p.text("x:1"), "pulling x:1: 1.0 of 4.0 MB, 1 of 2 layers done");
  auto ended = p.take(*json::parse(R"({"errorDetail":{"message":"m"},"error":"manifest unknown"})"));
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().context, "manifest unknown");
}

TEST(Policy, WhatGivesTheHostIsRefused) {
  DockerSpec d;
  d.privileged = true;
  d.parameters = {{"cap-add", "SYS_ADMIN"}, {"-v", "/:/x"}, {"env", "A=b"}, {"nonsense", "1"}};
  std::vector<Volume> volumes{{"/a", "/srv/data", "RW"}, {"/b", "/srv/../etc", "RO"}, {"/c", "/srvx", "RO"}, {"/d", "../../x", "RW"}, {"/e", "inside", "RW"}};
  auto problems = check_policy(d, volumes, {.privileged = false, .host_paths = {"/srv"}, .parameters = {}});
  std::vector<std::string> paths;
  for (const auto& p : problems) paths.push_back(p.path);
  EXPECT_EQ(paths, (std::vector<std::string>{"/container/docker/privileged", "/container/docker/parameters(0)/key", "/container/docker/parameters(1)/key", "/container/docker/parameters(3)/key",
                                             "/container/volumes(1)/hostPath", "/container/volumes(2)/hostPath", "/container/volumes(3)/hostPath"}));
  d.parameters.pop_back();
  EXPECT_EQ(check_policy(d, {}, {.privileged = true, .host_paths = {}, .parameters = {"cap-add", "volume"}}).size(), 0u);
}

TEST(Policy, AGroupsPartIsForItsAdminsAndItsApps) {
  TaskPolicy policy{.privileged = false, .host_paths = {"/srv"}, .parameters = {}, .groups = {{"/infra", true, {"/var/log"}, {"cap-add"}}, {"/", false, {"/opt"}, {}}}};
  EXPECT_FALSE(policy_at(policy, "/infra/a", false).privileged);
  auto here = policy_at(policy, "/infra/a", true);
  EXPECT_TRUE(here.privileged);
  EXPECT_EQ(here.host_paths, (std::vector<std::string>{"/srv", "/var/log", "/opt"}));
  EXPECT_EQ(here.parameters, std::vector<std::string>{"cap-add"});
  auto beside = policy_at(policy, "/infrastructure", true);
  EXPECT_FALSE(beside.privileged);
  EXPECT_EQ(beside.host_paths, (std::vector<std::string>{"/srv", "/opt"}));
}

TEST(Policy, UsersOfTheHostAreThoseThatAreNamed) {
  TaskPolicy policy;
  EXPECT_FALSE(check_user("", policy)) << "the node's choice";
  ASSERT_TRUE(check_user("root", policy));
  EXPECT_EQ(check_user("root", policy)->path, "/user");
  policy.users = {"www-data"};
  policy.groups.push_back({.path = "/infra", .privileged = false, .host_paths = {}, .parameters = {}, .users = {"root"}});
  EXPECT_FALSE(check_user("www-data", policy));
  EXPECT_TRUE(check_user("root", policy_at(policy, "/infra/backup", false)));
  EXPECT_FALSE(check_user("root", policy_at(policy, "/infra/backup", true)));
  EXPECT_TRUE(check_user("root", policy_at(policy, "/infrared", true)));
  policy.users = {"*"};
  EXPECT_FALSE(check_user("root", policy));
}

TEST(Policy, S10_ChecksAskTheAppsOwnPortsAndThoseThatAreNamed) {
  HealthCheck own, other, command;
  own.port = 8099;
  other.port = 22;
  command.kind = CheckKind::command;
  command.port = 22;
  TaskPolicy policy;
  EXPECT_TRUE(check_probes({own, other}, {}, policy).empty()) << "without logins there is nobody to keep out";
  policy.check_ports.emplace();
  auto problems = check_probes({own, command, other, HealthCheck{}}, {0, 8099}, policy);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].path, "/healthChecks(2)/port");
  EXPECT_NE(problems[0].words.find("22 is none of the app's own ports"), std::string::npos) << problems[0].words;
  policy.check_ports = {{"9000-9100", "20-30"}};
  EXPECT_TRUE(check_probes({own, other}, {8099}, policy).empty());
  policy.check_ports = {{"*"}};
  EXPECT_TRUE(check_probes({own, other}, {}, policy_at(policy, "/a", true)).empty());
}

TEST(Policy, S11_WhatReachesOutByItsValueIsRefused) {
  auto problems = [](const char* key, const char* value) {
    DockerSpec d;
    d.parameters = {{key, value}};
    return check_policy(d, {}, {}).size();
  };
  for (auto [key, value] : {std::pair{"log-driver", "syslog"}, {"--log-driver", "gelf"}, {"log-opt", "syslog-address=tcp://169.254.169.254:80"}, {"log-opt", "fluentd-address=unix:///x"}, {"pids-limit", "-1"}, {"pids-limit", "0"},
                            {"pids-limit", "100000"}, {"pids-limit", "many"}})
    EXPECT_EQ(problems(key, value), 1u) << key << "=" << value;
  for (auto [key, value] : {std::pair{"log-driver", "local"}, {"log-opt", "max-size=5m"}, {"pids-limit", "100"}}) EXPECT_EQ(problems(key, value), 0u) << key << "=" << value;
}

TEST(Policy, S11_ANetworksNameIsNoModeOfDockers) {
  DockerSpec d;
  d.network = NetworkMode::container;
  for (auto bad : {"host", "container:croft-victim", "none", "", "a b", "../x"}) {
    d.network_name = bad;
    ASSERT_EQ(check_policy(d, {}, {}).size(), 1u) << bad;
    EXPECT_EQ(check_policy(d, {}, {})[0].path, "/networks(0)/name");
  }
  d.network_name = "backend_1";
  EXPECT_TRUE(check_policy(d, {}, {}).empty());
}

TEST(Policy, S10_AContainersPortIsNoPortOfTheNode) {
  TaskSpec spec;
  spec.ports.resize(2);
  spec.ports[0].container_port = 5050;
  spec.ports[1].container_port = 80;
  spec.ports[1].host_port = 31001;
  EXPECT_EQ(own_ports(spec), std::vector<std::uint16_t>{31001});
}

TEST(Policy, TheEnginesSocketIsGivenToNobody) {
  TaskPolicy all{.privileged = true, .host_paths = {"/"}, .parameters = {"*"}, .groups = {}};
  for (auto path : {"/var/run/docker.sock", "/run/docker.sock", "/run", "/var/run/", "/var/run/../run", "/srv/link/docker.sock", "/run/containerd/containerd.sock", "/var/run/docker"})
    EXPECT_EQ(check_policy({}, {{"/x", path, "RO"}}, all).size(), 1u) << path;
  DockerSpec d;
  d.parameters = {{"volume", "/var/run/docker.sock:/x"}};
  EXPECT_EQ(check_policy(d, {}, all).size(), 1u);
  d.parameters = {{"env", "DOCKER_HOST=unix:///x/docker.sock"}, {"workdir", "/run"}};
  EXPECT_EQ(check_policy(d, {{"/x", "/runs", "RO"}}, all).size(), 0u);
}

}  // namespace
}  // namespace croft::agent
