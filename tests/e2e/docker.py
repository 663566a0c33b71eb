#!/usr/bin/env python3
"""End-to-end tests with a real Docker Engine and a real docker-registry.   usage: docker.py BIN_DIR [TEST...]"""
import base64
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from engine import BRIDGE, Engine, Registry, SlowWire  # noqa: E402
from farm import Farm, alive, own_namespace, run_suite, under_load, wait  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLE = os.path.join(HERE, "../../examples/fibonacci")
APP = "/service/fibonacci"
RULE = {"id": APP, "acl": "path_beg -i " + APP}
SLOW_SECONDS = 90


class DockerFarm(Farm):
    """croft dev with an Engine of its own, a registry, one that wants a password, and one behind a slow wire."""

    def __init__(self, bin_dir):
        super().__init__(bin_dir)
        self.engine = Engine(self.dir)
        self.options = ["--docker", self.engine.socket, "--bridge", BRIDGE]
        self.helpers = []

    def start(self):
        if not self.helpers:
            self.engine.start()
            self.registry = Registry(self.dir, 5002)
            self.private = Registry(self.dir, 5003, "ann", "s3cret")
            self.helpers = [self.registry, self.private]
            self.publish(1)
            self.engine.build("127.0.0.1:5002/box:1", {"busybox": "/bin/busybox"}, ["COPY busybox /bin/busybox", 'RUN ["/bin/busybox", "--install", "-s", "/bin"]'])
            self.engine.docker("push", "-q", "127.0.0.1:5002/box:1")
        super().start()
        wait("croft sees the Engine", lambda: any(h["docker"] for h in self.get("/croft/v1/overview")["hosts"]))

    def publish(self, version):
        env = dict(os.environ, DOCKER_HOST="unix://" + self.engine.socket, FIBONACCI=self.bin + "/fibonacci", HOME=self.dir)
        done = subprocess.run([EXAMPLE + "/publish", "127.0.0.1:5002", "--version", str(version)], capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stdout + done.stderr

    def article(self, version=1, **more):
        with open(EXAMPLE + "/article.json") as f:
            app = json.loads(f.read().replace("{{registry}}", "127.0.0.1:5002").replace("{{version}}", str(version)).replace("{{bridge}}", BRIDGE))
        app.update(more)
        return app

    def box(self, name, cmd, image="127.0.0.1:5002/box:1", docker=None, **more):
        """A small app in the image that has a shell."""
        container = {"type": "DOCKER", "docker": dict({"image": image, "network": "BRIDGE"}, **(docker or {}))}
        return dict({"id": name, "cmd": cmd, "cpus": 0.1, "mem": 32, "container": container, "backoffSeconds": 60}, **more)

    def output(self, app, stream="stdout"):
        task = self.app(app)["tasks"][0]["id"]
        base = os.path.join(self.data, "node/slaves")
        for slave in os.listdir(base):
            path = f"{base}/{slave}/frameworks"
            for framework in os.listdir(path):
                file = f"{path}/{framework}/executors/{task}/runs/latest/{stream}"
                if os.path.exists(file):
                    with open(file) as f:
                        return f.read()
        return ""

    def remove(self, app):
        self.call("DELETE", f"/v2/apps{app}?force=true")
        if app == "/slowpull":
            wait("it is gone", lambda: self.get("/v2/deployments") == [], 60)
        self.settled()

    def settled(self, limit=60):
        """The slow pull's deployment goes on beside the others."""
        wait("no other deployment is under way", lambda: all(d["affectedApps"] == ["/slowpull"] for d in self.get("/v2/deployments")), limit)

    def down(self):
        if self.engine.process is None:
            return
        super().down()
        self.left = self.engine.containers()
        for helper in self.helpers:
            helper.stop()
        self.engine.stop()
        self.engine.process = None


def ask(farm, n=10):
    return farm.call("GET", f"{APP}/{n}", port=5000)


def test_the_article(farm):
    begun = time.monotonic()
    farm.deploy(farm.article())
    print(f"    deployed after {time.monotonic() - begun:.2f} s")
    assert farm.call("POST", "/api/services", RULE, port=8000)[0] == 200
    wait("the rule is in force", lambda: ask(farm)[0] == 200)
    begun = time.monotonic()
    assert ask(farm, 15) == (200, 610), ask(farm, 15)
    print(f"    fibonacci(15) took {time.monotonic() - begun:.2f} s")
    assert len(farm.get("/monitor/statistics", port=5051)) == 3
    assert all(s["statistics"]["mem_rss_bytes"] > 0 for s in farm.get("/monitor/statistics", port=5051))


def test_a_slow_pull_begins(farm):
    """Judged at the end: it takes 90 seconds."""
    noise = os.path.join(farm.dir, "noise")
    with open(noise, "wb") as f:
        f.write(os.urandom(12 << 20))
    farm.engine.build("127.0.0.1:5002/slow:1", {"noise": noise, "busybox": "/bin/busybox"}, ["COPY noise /noise", "COPY busybox /bin/sh"])
    farm.engine.docker("push", "-q", "127.0.0.1:5002/slow:1")
    farm.engine.docker("rmi", "127.0.0.1:5002/slow:1")
    farm.helpers.append(SlowWire(5004, 5002, (12 << 20) // SLOW_SECONDS))
    farm.slow_since = time.monotonic()
    farm.deploy(farm.box("/slowpull", "exec sleep 10000", image="127.0.0.1:5004/slow:1"), wait_for=False)
    wait("the pull tells how far it is", lambda: "pulling 127.0.0.1:5004/slow:1" in farm.cli("explain", "/slowpull").stdout, 20)


def test_scaling(farm):
    for n in (6, 2, 3):
        begun = time.monotonic()
        assert farm.call("PUT", "/v2/apps" + APP, {"instances": n})[0] == 200
        farm.settled()
        assert len(farm.running(APP)) == n
        print(f"    {n} instances after {time.monotonic() - begun:.2f} s")
    wait("all serve", lambda: farm.app(APP)["tasksHealthy"] == 3)
    assert ask(farm) == (200, 55)


def test_rolling_update_loses_no_request(farm):
    farm.publish(2)
    before = {t["id"] for t in farm.running(APP)}

    def update():
        farm.call("PUT", "/v2/apps" + APP, farm.article(2))
        wait("three new ones", lambda: len(farm.running(APP)) == 3 and not before & {t["id"] for t in farm.app(APP)["tasks"]}, 60)

    begun = time.monotonic()
    count, failures = under_load(f"http://127.0.0.1:5000{APP}/10", update)
    print(f"    {count} requests during an update of {time.monotonic() - begun:.2f} s")
    assert count > 5 and not failures, (count, failures)


def test_a_killed_container_is_replaced(farm):
    pids = farm.task_pids()
    victim = farm.running(APP)[0]["id"]

    def kill():
        os.kill(pids[victim], signal.SIGKILL)
        wait("three run again", lambda: len([t for t in farm.running(APP) if t["id"] != victim]) == 3, 30)

    farm.call("PUT", "/v2/apps" + APP, farm.article(2, backoffSeconds=1))
    count, failures = under_load(f"http://127.0.0.1:5000{APP}/1", kill)
    print(f"    {count} requests, {failures or 'none failed'}")
    assert count > 5 and not failures, (count, failures)


def test_nothing_is_lost_when_croft_executors_and_engine_die(farm):
    farm.deploy(farm.box("/counter", "i=0; while [ $i -lt 300 ]; do echo count $i; i=$((i+1)); sleep 0.05; done; exec sleep 10000"))
    before = {t["id"] for t in farm.running(APP)}
    pids = {t: p for t, p in farm.task_pids().items() if t in before or t.startswith("counter")}
    farm.kill9()
    assert len(pids) == 4 and all(alive(p) for p in pids.values()), (pids, [p for p in pids.values() if not alive(p)])
    assert ask(farm, 1)[0] == 200, "HAProxy and the containers go on without croft"
    farm.start()
    wait("everything is known again", lambda: {t["id"] for t in farm.running(APP)} == before, 15)
    subprocess.run(["pkill", "-9", "-f", "croft-executor " + farm.data], check=True)
    begun = time.monotonic()
    farm.engine.kill9()
    farm.engine.start()
    print(f"    the Engine is back after {time.monotonic() - begun:.1f} s")
    wait("all lines are there, in order", lambda: farm.output("/counter").split() == [w for i in range(300) for w in ("count", str(i))], 60)
    wait("each is found once", lambda: farm.get("/logstash-*/_count?q=app:%22/counter%22", port=9200)["count"] == 300, 20)
    assert all(alive(p) for p in pids.values())
    assert {k: v for k, v in farm.task_pids().items() if k in pids} == pids
    wait("and it serves", lambda: ask(farm) == (200, 55), 20)
    farm.remove("/counter")


def test_what_is_inside(farm):
    parameters = [{"key": k, "value": v} for k, v in (("env", "COLOUR=blue"), ("label", "team=x"), ("hostname", "inner"), ("add-host", "friend:10.9.8.7"), ("ulimit", "nofile=333:444"),
                                                      ("dns", BRIDGE), ("workdir", "/tmp"))]
    os.makedirs("/var/tmp/croft-e2e-volume", exist_ok=True)
    with open("/var/tmp/croft-e2e-volume/note", "w") as f:
        f.write("from outside")
    app = farm.box("/inside", "hostname; echo $COLOUR $MARATHON_APP_ID $PORT0 $CROFT_HOST_IP $CROFT_DNS_URL; cat /etc/hosts; ulimit -n; pwd; cat /v/note; echo; touch /v/x || echo read-only; "
                   "ping -c 1 -W 2 $HOST >/dev/null && echo host resolves; nslookup leader.mesos; ls $MESOS_SANDBOX; echo done; exec sleep 10000",
                   docker={"parameters": parameters, "portMappings": [{"containerPort": 80}]})
    app["container"]["volumes"] = [{"containerPath": "/v", "hostPath": "/var/tmp/croft-e2e-volume", "mode": "RO"}]
    farm.deploy(app)
    text = wait("it has said all", lambda: "done" in farm.output("/inside") and farm.output("/inside"), 20)
    for words in ("inner\n", "blue /inside", f"{BRIDGE} http://{BRIDGE}:8123", "10.9.8.7", "333\n", "/tmp\n", "from outside", "host resolves", "stdout"):
        assert words in text, (words, text)
    assert BRIDGE in text.split("leader.mesos")[-1] or f"Address: {BRIDGE}" in text, text
    assert "read-only" in farm.output("/inside") or "Read-only" in farm.output("/inside", "stderr")
    assert farm.engine.containers("team=x")
    farm.remove("/inside")
    for key in ("publish", "nonsense", "privileged"):
        status, body = farm.call("POST", "/v2/apps", farm.box("/bad", "x", docker={"parameters": [{"key": key, "value": "1"}]}))
        assert status == 422 and body["details"][0]["path"] == "/container/docker/parameters(0)/key" and key in body["details"][0]["errors"][0], (status, body)
    bad = farm.box("/bad", "x", docker={"privileged": True})
    bad["container"]["volumes"] = [{"containerPath": "/host", "hostPath": "/", "mode": "RW"}]
    status, body = farm.call("POST", "/v2/apps", bad)
    assert status == 422 and {d["path"] for d in body["details"]} == {"/container/docker/privileged", "/container/volumes(0)/hostPath"}, body


def test_an_image_that_is_not_there(farm):
    others = {t["id"] for t in farm.running(APP)}
    farm.deploy(farm.box("/nothing", "x", image="127.0.0.1:5002/nothing:7"), wait_for=False)
    failure = wait("the registry's words", lambda: farm.app("/nothing").get("lastTaskFailure"), 20)
    assert "127.0.0.1:5002/nothing:7" in failure["message"] and "manifest unknown" in failure["message"], failure
    assert "manifest unknown" in farm.cli("explain", "/nothing").stdout
    assert {t["id"] for t in farm.running(APP)} == others
    farm.remove("/nothing")


def test_credentials_by_uris(farm):
    farm.engine.docker("tag", "127.0.0.1:5002/box:1", "127.0.0.1:5003/box:1")
    farm.engine.docker("login", "-u", "ann", "-p", "s3cret", "127.0.0.1:5003")
    farm.engine.docker("push", "-q", "127.0.0.1:5003/box:1")
    farm.engine.docker("rmi", "127.0.0.1:5003/box:1")
    os.remove(farm.dir + "/.docker/config.json")
    app = farm.box("/private", "exec sleep 10000", image="127.0.0.1:5003/box:1", docker={"forcePullImage": True})
    farm.deploy(app, wait_for=False)
    failure = wait("it is refused", lambda: farm.app("/private").get("lastTaskFailure"), 20)
    assert "no basic auth credentials" in failure["message"], failure
    os.makedirs(farm.dir + "/login/.docker", exist_ok=True)
    with open(farm.dir + "/login/.docker/config.json", "w") as f:
        json.dump({"auths": {"127.0.0.1:5003": {"auth": base64.b64encode(b"ann:s3cret").decode()}}}, f)
    with tarfile.open(farm.dir + "/docker.tar.gz", "w:gz") as tar:
        tar.add(farm.dir + "/login/.docker", ".docker")
    farm.call("PUT", "/v2/apps/private?force=true", dict(app, uris=[f"file://{farm.dir}/docker.tar.gz"]))
    farm.settled()
    assert farm.app("/private")["tasksRunning"] == 1
    farm.remove("/private")


def test_secrets_inside(farm):
    """Variables and files of a container; neither in its definition. A file follows a change."""
    password, key = "password-" + os.urandom(8).hex(), "key-" + os.urandom(8).hex()
    for name, value in (("pw", password), ("key", key)):
        assert farm.call("PUT", f"/croft/v1/secrets/{name}", {"value": value})[0] == 201
    cmd = 'echo "has $PW $(cat /run/creds/key) $(cat sub/key)"; while :; do cat /run/creds/key > /mnt/mesos/sandbox/seen.new; mv /mnt/mesos/sandbox/seen.new /mnt/mesos/sandbox/seen; sleep 0.1; done'
    check = {"protocol": "COMMAND", "command": {"value": "test -n \"$PW\""}, "gracePeriodSeconds": 20, "intervalSeconds": 1, "timeoutSeconds": 2, "maxConsecutiveFailures": 1}
    app = farm.box("/secretive", "cd /mnt/mesos/sandbox; " + cmd, healthChecks=[check], env={"PW": {"secret": "pw"}}, secrets={"pw": {"source": "pw"}, "key": {"source": "key"}})
    app["container"]["volumes"] = [{"containerPath": "/run/creds/key", "secret": "key"}, {"containerPath": "sub/key", "secret": "key"}]
    farm.deploy(app)
    wait("it has them all", lambda: f"has {password} {key} {key}" in farm.output("/secretive"), 10)
    task = farm.app("/secretive")["tasks"][0]["id"]
    defined = farm.engine.docker("inspect", "croft-" + task).stdout
    assert password not in defined and key not in defined
    # What the app printed itself is where lines are kept; nothing else on any disk. (A farm without logins has no keys: its store holds base64.)
    files = subprocess.run(["grep", "-rlaF", "--exclude=stdout*", "--exclude=seen*", "--exclude=*-json.log", "--exclude-dir=log", password, farm.dir], capture_output=True, text=True).stdout
    assert not files, files
    assert farm.call("PUT", "/croft/v1/secrets/key", {"value": "another"})[0] == 200
    wait("the file follows", lambda: farm.output("/secretive", "seen") == "another", 10)
    assert farm.app("/secretive")["tasks"][0]["id"] == task and farm.app("/secretive")["tasksHealthy"] == 1
    # An image that brings its own command.
    farm.engine.build("127.0.0.1:5002/own:1", {"busybox": "/bin/busybox"}, ["COPY busybox /bin/busybox", 'ENTRYPOINT ["/bin/busybox", "sh", "-c"]', 'CMD ["echo its own $PW; exec /bin/busybox sleep 1000"]'])
    own = farm.box("/owncommand", None, image="127.0.0.1:5002/own:1", env={"PW": {"secret": "pw"}}, secrets={"pw": {"source": "pw"}})
    farm.deploy(own)
    wait("its own command has it", lambda: f"its own {password}" in farm.output("/owncommand"), 10)
    for name in ("/secretive", "/owncommand"):
        farm.remove(name)
    for name in ("pw", "key"):
        assert farm.call("DELETE", f"/croft/v1/secrets/{name}")[0] == 200


def test_memory_and_health_inside(farm):
    farm.deploy(farm.box("/eater", "exec tail /dev/zero", mem=16), wait_for=False)
    failure = wait("it is killed", lambda: farm.app("/eater").get("lastTaskFailure"), 30)
    assert "Memory limit" in failure["message"], failure
    farm.remove("/eater")
    check = {"protocol": "COMMAND", "command": {"value": "test -f /tmp/good"}, "gracePeriodSeconds": 20, "intervalSeconds": 1, "timeoutSeconds": 2, "maxConsecutiveFailures": 2}
    farm.deploy(farm.box("/checked", "mkdir -p /tmp; touch /tmp/good; sleep 2; exec sleep 10000", healthChecks=[check]))
    assert farm.app("/checked")["tasksHealthy"] == 1
    farm.remove("/checked")


def test_a_command_in_a_container(farm):
    """croft exec: what the container has, its secrets too, and no more; a terminal; gone with whoever asked for it."""
    password = "password-" + os.urandom(8).hex()
    assert farm.call("PUT", "/croft/v1/secrets/pw", {"value": password})[0] == 201
    farm.deploy(farm.box("/box", "exec sleep 10000", env={"PW": {"secret": "pw"}, "GREETING": "good day"}, secrets={"pw": {"source": "pw"}}))

    def run(*words, stdin=b""):
        return subprocess.run([farm.bin + "/croft", "exec", *words], input=stdin, capture_output=True, timeout=60)

    done = run("/box", "sh", "-c", "echo $GREETING $PW; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, f"good day {password}\n".encode()) and done.stderr.endswith(b"err\n"), done
    assert run("/box", "sh", "-c", "ls /").stdout.split() == farm.engine.docker("exec", "croft-" + farm.app("/box")["tasks"][0]["id"], "/bin/busybox", "ls", "/").stdout.encode().split(), "its own files"
    assert run("/box", "/nowhere").returncode in (126, 127)
    data = os.urandom(3_000_000)
    done = run("/box", "cat", stdin=data)
    assert done.stdout == data and done.returncode == 0, (len(done.stdout), done.returncode, done.stderr)
    terminal = subprocess.run(["script", "-qec", f"{farm.bin}/croft exec -t /box sh -c 'test -t 0 && echo it is a terminal of $TERM'", "/dev/null"], capture_output=True, timeout=60, env=dict(os.environ, TERM="vt100"))
    assert terminal.returncode == 0 and b"it is a terminal of vt100" in terminal.stdout, terminal
    done = run("/box", "od", "-v", "-t", "x1", stdin=data)  # says far more than it reads, while it reads
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(data) // 16 + 1, (done.returncode, len(done.stdout))
    loud = subprocess.Popen([farm.bin + "/croft", "exec", "/box", "sh", "-c", "while :; do echo loud 4812; done"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    loud.stdout.readline()
    time.sleep(1)  # nobody reads it
    loud.kill()
    loud.wait()
    wait("it has gone with its client", lambda: subprocess.run(["pgrep", "-f", "^sh -c while"], capture_output=True).returncode != 0, 30)
    client = subprocess.Popen([farm.bin + "/croft", "exec", "/box", "sleep", "4811"], stdin=subprocess.DEVNULL)
    there = lambda: subprocess.run(["pgrep", "-fx", "sleep 4811"], capture_output=True).returncode == 0  # noqa: E731
    wait("it runs", there, 10)
    client.terminate()
    client.wait()
    wait("it has gone with its client", lambda: not there(), 25)
    farm.remove("/box")
    assert farm.call("DELETE", "/croft/v1/secrets/pw")[0] == 200


def test_audit_of_the_engine(farm):
    """What the node's Engine says of itself reaches croft audit: this one has live-restore and a seccomp profile, and no user namespaces."""
    done = subprocess.run([farm.bin + "/croft", "audit", "--json"], capture_output=True, text=True, timeout=30)
    by = {i["id"]: i for i in json.loads(done.stdout)["items"]}
    host = farm.get("/croft/v1/overview")["hosts"][0]["hostname"]
    assert by["CIS 2.9"]["found"] == [host] and by["CIS 2.9"]["asked"] == 1, by["CIS 2.9"]
    assert by["CIS 2.17"]["found"] == [] and by["CIS 2.18"]["found"] == [] and by["CIS 2.6"]["found"] == [], by
    assert (by["CIS 2.15"]["found"] == []) == ("--live-restore" in open(f"/proc/{farm.engine.process.pid}/cmdline").read()), by["CIS 2.15"]


def test_on_the_hosts_network(farm):
    """S11: there a container hears nobody else's packets; on the bridge it has what the Engine gives to all."""
    raw = 1 << 13  # CAP_NET_RAW
    for network, has in (("HOST", 0), ("BRIDGE", raw)):
        farm.deploy(farm.box("/net", "grep CapEff /proc/self/status; ip link; exec sleep 1000", docker={"network": network}))
        seen = wait("it has said what it may", lambda: re.search(r"CapEff:\s+([0-9a-f]+)(.*\n)+.*lo:", farm.output("/net")), 10)
        assert int(seen.group(1), 16) & raw == has, (network, seen.group(0))
        assert ("docker0" in farm.output("/net")) == (network == "HOST"), farm.output("/net")
        farm.remove("/net")


def test_an_archives_link_is_no_volume(farm):
    """S11: a volume in the sandbox, where an artifact has put a link to the host's root."""
    folder = "/var/tmp/croft-e2e-archive"
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["sh", "-ec", "rm -f out; ln -s / out; tar -cf evil.tar out"], cwd=folder, check=True)
    app = farm.box("/evil", "touch /host/tmp/croft-was-here; exec sleep 1000", fetch=[{"uri": folder + "/evil.tar"}])
    app["container"]["volumes"] = [{"containerPath": "/host", "hostPath": "out", "mode": "RW"}]
    farm.deploy(app, wait_for=False)
    failure = wait("it is refused on the node", lambda: farm.app("/evil").get("lastTaskFailure"), 20)
    assert "is no folder but a link" in failure["message"] and not os.path.exists("/tmp/croft-was-here"), failure
    farm.remove("/evil")


def test_the_same_tag_with_another_image(farm):
    def build(word):
        farm.engine.build("127.0.0.1:5002/word:latest", {"busybox": "/bin/busybox"}, ["COPY busybox /bin/sh", f"ENV WORD={word}"])
        farm.engine.docker("push", "-q", "127.0.0.1:5002/word:latest")

    build("first")
    farm.deploy(farm.box("/word", "echo $WORD; exec sleep 10000", image="127.0.0.1:5002/word", docker={"forcePullImage": True}))
    wait("the first speaks", lambda: farm.output("/word") == "first\n")
    build("second")
    assert farm.call("POST", "/v2/apps/word/restart")[0] == 200
    farm.settled()
    wait("only the second speaks", lambda: len(farm.app("/word")["tasks"]) == 1 and farm.output("/word") == "second\n")
    farm.remove("/word")


def test_delete_and_post_at_once(farm):
    for _ in range(2):
        old = {t["id"] for t in farm.running(APP)}
        assert farm.call("DELETE", "/v2/apps" + APP)[0] == 200
        status, body = farm.call("POST", "/v2/apps", farm.article())
        assert status == 201, (status, body)
        wait("deployed anew", lambda: [d for d in farm.get("/v2/deployments") if APP in d["affectedApps"]] == [], 90)
        new = {t["id"] for t in farm.running(APP)}
        assert len(new) == 3 and not new & old and farm.app(APP)["tasksHealthy"] == 3, (old, new)


def test_term_is_heard(farm):
    farm.deploy(farm.box("/term", "trap 'echo heard; exit 0' TERM; while true; do sleep 0.05; done"))
    pid = farm.task_pids()[farm.running("/term")[0]["id"]]
    begun = time.monotonic()
    farm.call("DELETE", "/v2/apps/term")
    wait("it is gone", lambda: not alive(pid), 10, 0.005)
    print(f"    gone after {(time.monotonic() - begun) * 1000:.0f} ms")
    farm.settled()


def test_the_slow_pull_ends(farm):
    def there():
        assert not farm.app("/slowpull").get("lastTaskFailure"), farm.app("/slowpull")["lastTaskFailure"]
        return farm.app("/slowpull")["tasksRunning"] == 1

    why = farm.cli("explain", "/slowpull").stdout
    wait("the slow image runs", there, 3 * SLOW_SECONDS)
    print(f"    it ran after {time.monotonic() - farm.slow_since:.0f} s; before that: {why.strip().splitlines()[-1] if why.strip() else ''}")
    farm.remove("/slowpull")


def test_down_leaves_nothing(farm):
    pids = list(farm.task_pids().values())
    farm.down()
    assert not any(alive(p) for p in pids)
    assert not farm.left, farm.left


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), DockerFarm(sys.argv[1]), sys.argv[2:], always=("test_the_article", "test_down_leaves_nothing"))
