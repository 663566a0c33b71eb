#!/usr/bin/env python3
"""End-to-end tests of three masters with a real ZooKeeper ensemble, each on a loopback address of its own.   usage: masters.py BIN_DIR [TEST...]"""
import glob
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, alive, end_processes, own_namespace, run_suite, wait  # noqa: E402
from zookeeper import Ensemble  # noqa: E402

MASTERS = ["127.0.0.11", "127.0.0.12", "127.0.0.13"]
NODES = ["127.0.0.21", "127.0.0.22"]
LOG = "127.0.0.30"
APP = "/service/fibonacci"
RULE = {"id": APP, "acl": "path_beg -i " + APP}


def exchange(host, port, method, path, body=None, timeout=10):
    """(status, headers, body), without following redirects"""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


class MastersFarm(Farm):
    """Masters with a balancer each, two nodes with a DNS server each, a log host: a process a role, as on seven hosts."""

    def __init__(self, bin_dir):
        super().__init__(bin_dir)
        self.ensemble = Ensemble(self.dir, MASTERS)
        self.roles = {}
        self.asked = 0
        self.away = set()  # masters that a test has stopped: nobody would go on asking them for long

    def configure(self, host, **more):
        settings = {"data": f"{self.dir}/{host}", "hostname": host, "ip": host, "bind": host, "masters": [m + ":8080" for m in MASTERS], "auth": "none", "docker": False, "drain_ms": 2000, "agent_timeout_ms": 4000,
                    "elasticsearch": [f"http://{LOG}:9200"]}
        if host in MASTERS:
            settings.update(zookeeper="zk://" + ",".join(m + ":2181" for m in MASTERS) + "/mesos", session_timeout_ms=2000)
        if host in NODES:
            n = NODES.index(host)
            settings.update(instance=f"croft-e2e-{n}", dns_port=8053, ports=f"{31000 + 1000 * n}-{31999 + 1000 * n}", cpus=20.0, mem=10000.0)
        settings.update(more)
        path = f"{self.dir}/{host}.toml"
        with open(path, "w") as f:
            for key, value in settings.items():
                f.write(f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value).replace(chr(39), chr(34))}\n")
        return path

    def start_role(self, role, host):
        out = open(f"{self.dir}/{role}-{host}.log", "a")
        self.roles[role, host] = subprocess.Popen([self.bin + "/croft", "serve", "--role", role, "--config", f"{self.dir}/{host}.toml"], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                                  start_new_session=True)

    def start(self):
        for host in MASTERS + NODES + [LOG]:
            self.configure(host)
        self.ensemble.start_all()
        self.start_role("log", LOG)
        for host in MASTERS:
            self.start_role("master", host)
            self.start_role("balancer", host)
        for host in NODES:
            self.start_role("node", host)
            self.start_role("dns", host)
        wait("both nodes are there", lambda: sum(h["reachable"] for h in self.get("/croft/v1/overview")["hosts"]) == 2, 30)

    def down(self):
        end_processes(self.roles.values())
        for host in MASTERS + NODES:
            subprocess.run([self.bin + "/croft", "down", "--data", f"{self.dir}/{host}"], timeout=60)
        self.ensemble.stop()
        for top in glob.glob("/sys/fs/cgroup/*/croft-e2e-*") + glob.glob("/sys/fs/cgroup/croft-e2e-*"):
            for folder, _, _ in os.walk(top, topdown=False):  # `croft down` knows croft dev's own only
                os.rmdir(folder)

    def log(self):
        out = []
        for role, host in self.roles:
            with open(f"{self.dir}/{role}-{host}.log") as f:
                out.append(f"--- {role} {host}\n{f.read()[-1500:]}")
        return "\n".join(out)

    # The API is asked on all masters in turn; who does not lead passes it on.
    def call(self, method, path, body=None, port=8080, headers=None, timeout=10, host=None):
        self.asked += 1
        return super().call(method, path, body, port, headers, timeout) if host is None and port not in (8080, 5000, 8000) else self.call_at(host or self.answering()[self.asked % len(self.answering())], method, path, body, port, timeout)

    def answering(self):
        return [m for m in MASTERS if m not in self.away]

    def call_at(self, host, method, path, body=None, port=8080, timeout=10):
        import json
        status, _, text = exchange(host, port, method, path, body if isinstance(body, (str, bytes, type(None))) else json.dumps(body), timeout)
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode(errors="replace")

    def leading(self):
        """The address of the master that leads, as one that answers says."""
        for host in self.answering():
            try:
                status, headers, _ = exchange(host, 5050, "GET", "/redirect", timeout=2)
            except OSError:
                continue
            if status == 307:
                return urllib.parse.urlparse(headers["Location"]).hostname
        return None

    def pids_of(self, app):
        name = app.strip("/").replace("/", "_") + "."
        return {task: pid for task, pid in self.task_pids().items() if task.startswith(name) and alive(pid)}

    def task_pids(self):
        pids = {}
        for host in NODES:
            self.data = f"{self.dir}/{host}"
            try:
                pids.update(super().task_pids())
            except FileNotFoundError:
                pass
        return pids


class Requests:
    """Asks the balancers in turn without a pause. Repeats a read on the next one after a second only where `repeat` says that a host may be gone."""

    def __init__(self, repeat=False):
        self.repeat, self.answered, self.lost, self.slowest, self.stopping = repeat, 0, [], 0.0, False
        self.thread = threading.Thread(target=self.run)

    def one(self, at):
        for attempt in range(3 if self.repeat else 1):
            try:
                status, _, body = exchange(MASTERS[(at + attempt) % 3], 5000, "GET", APP + "/10", timeout=5)
                if status == 200 and body == b"55":
                    return None
                last = f"{status} {body[:80]!r}"
            except OSError as e:
                last = repr(e)
            if self.repeat:
                time.sleep(1)
        return last

    def run(self):
        at = 0
        while not self.stopping:
            begun = time.monotonic()
            wrong = self.one(at)
            at += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if wrong:
                self.lost.append(wrong)
            else:
                self.answered += 1

    def __enter__(self):
        self.thread.start()
        time.sleep(0.3)
        return self

    def __exit__(self, *_):
        time.sleep(0.3)
        self.stopping = True
        self.thread.join()
        print(f"    {self.answered} requests, {len(self.lost)} lost, slowest {self.slowest * 1000:.0f} ms")
        assert self.answered > 2 and not self.lost, self.lost[:5]


def quick(n):
    return {"id": f"/after{n}", "cmd": "exec sleep 10000", "cpus": 0.1, "mem": 16, "portDefinitions": []}


def deployed_after(farm, name, limit):
    """Seconds until a new app runs: posted to whoever answers, again until it is taken."""
    begun = time.monotonic()

    def post():
        for host in farm.answering():
            try:
                status, body = farm.call_at(host, "POST", "/v2/apps", quick(name), timeout=2)
            except OSError:
                continue
            if status in (201, 409):
                return True
        return False

    wait("it is taken", post, limit, 0.01)
    taken = time.monotonic() - begun

    def runs():
        for host in farm.answering():
            try:
                if farm.call_at(host, "GET", f"/v2/apps/after{name}", timeout=1)[1]["app"]["tasksRunning"] == 1:
                    return True
            except (OSError, KeyError, TypeError):
                continue
        return False

    wait("it runs", runs, limit, 0.01)
    took = time.monotonic() - begun
    print(f"    taken after {taken:.2f} s, running after {took:.2f} s")
    return took


def all_there(farm):
    """Every master answers for the leader again, whoever that is."""
    for host in MASTERS:
        wait(f"the master on {host} answers", lambda host=host: farm.call_at(host, "GET", "/v2/apps" + APP, timeout=2)[0] == 200, 30)


def tidy(farm, name):
    farm.call("DELETE", f"/v2/apps/after{name}")
    farm.settled()


def test_the_way_through(farm):
    farm.deploy(farm.fibonacci(4, env={"DISCOVERY_URL": f"http://{NODES[0]}:8123", "DISCOVERY_SERVICE": "fibonacci-service"}))
    assert farm.call("POST", "/api/services", RULE, port=8000)[0] == 200
    for host in MASTERS:
        wait(f"the balancer on {host} answers", lambda host=host: farm.call_at(host, "GET", APP + "/15", port=5000) == (200, 610), 20)
    hosts = {t["host"] for t in farm.running(APP)}
    assert hosts == set(NODES), hosts
    leader = farm.leading()
    assert leader in MASTERS
    for host in MASTERS:
        status, headers, _ = exchange(host, 8080, "GET", "/v2/leader")
        assert status == 200 and farm.call_at(host, "GET", "/v2/leader")[1] == {"leader": leader + ":8080"}
        status, headers, _ = exchange(host, 5050, "GET", "/master/state?x=1")
        assert (status, headers.get("Location")) == ((200, None) if host == leader else (307, f"//{leader}:5050/master/state?x=1")), (status, headers)
        assert exchange(host, 5050, "GET", "/health")[0] == 200
        assert exchange(host, 8080, "GET", "/ping")[0] == 200


def fail_over(farm, name, end, limit, back, repeat=False):
    """Ends the leader by `end`, and sees that nothing but leadership changed."""
    before = {t["id"]: t["startedAt"] for t in farm.running(APP)}
    pids = farm.pids_of(APP)
    leader = farm.leading()
    with Requests(repeat):
        farm.away = {leader}
        end(leader)
        took = deployed_after(farm, name, limit * 10)
        assert took < limit * 10, took
        wait("all is known again, and nothing was restarted", lambda: {t["id"]: t["startedAt"] for t in farm.running(APP)} == before, 10)
    assert all(alive(p) for p in pids.values())
    back(leader)
    farm.away = set()
    all_there(farm)
    tidy(farm, name)


def test_a_killed_leader_is_followed(farm):
    """Its own host ends its session when it comes back, as systemd's restart does."""
    def end(leader):
        farm.roles["master", leader].kill()
        farm.roles["master", leader].wait()
        farm.start_role("master", leader)
    fail_over(farm, "kill", end, 1, lambda leader: None)


def test_a_killed_leader_that_stays_away(farm):
    def end(leader):
        farm.roles["master", leader].kill()
        farm.roles["master", leader].wait()
    fail_over(farm, "away", end, 5, lambda leader: farm.start_role("master", leader))


def test_a_frozen_leader_is_fenced(farm):
    def back(leader):
        farm.roles["master", leader].send_signal(signal.SIGCONT)
        wait("the old leader passes on", lambda: exchange(leader, 5050, "GET", "/state", timeout=2)[0] == 307, 20)
        assert farm.call_at(leader, "GET", "/v2/apps" + APP)[0] == 200
    fail_over(farm, "frozen", lambda leader: farm.roles["master", leader].send_signal(signal.SIGSTOP), 5, back)


def test_an_orderly_hand_over(farm):
    leader = farm.leading()
    with Requests():
        status, body = farm.call_at(leader, "DELETE", "/v2/leader")
        assert (status, body) == (200, {"message": "Leadership abdicated"})
        wait("another leads", lambda: farm.leading() not in (None, leader), 10, 0.01)
        deployed_after(farm, "handed", 10)
    tidy(farm, "handed")


def test_a_command_inside_a_task_by_any_master(farm):
    """croft exec at a master that does not lead; and its end when the leader changes."""
    leader = farm.leading()
    other = next(m for m in MASTERS if m != leader)
    words = [farm.bin + "/croft", "--url", f"http://{other}:8080", "exec", APP]
    data = os.urandom(2_000_000)
    begun = time.monotonic()
    done = subprocess.run(words + ["cat"], input=data, capture_output=True, timeout=60)
    assert done.stdout == data and done.returncode == 0, (len(done.stdout), done.stderr)
    print(f"    2 MB in and out by a master that does not lead: {time.monotonic() - begun:.2f} s")
    assert subprocess.run(words + ["sh", "-c", "exit 9"], stdin=subprocess.DEVNULL, timeout=60).returncode == 9
    client = subprocess.Popen(words + ["sleep", "4911"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    there = lambda: subprocess.run(["pgrep", "-fx", "sleep 4911"], capture_output=True).returncode == 0  # noqa: E731
    wait("it runs", there, 10)
    assert farm.call("DELETE", "/v2/leader")[0] == 200
    assert client.wait(40) == 255 and b"session is over" in client.stderr.read()
    wait("it has gone with its leader", lambda: not there(), 25)
    wait("another leads", lambda: farm.leading() not in (None, leader), 15)


def test_a_rolling_update_survives_fail_overs(farm):
    old = {t["id"] for t in farm.running(APP)}
    app = farm.fibonacci(4, env={"DISCOVERY_URL": f"http://{NODES[0]}:8123", "DISCOVERY_SERVICE": "fibonacci-service", "COLOUR": "blue"}, upgradeStrategy={"minimumHealthCapacity": 0.75, "maximumOverCapacity": 0.25})
    with Requests():
        assert farm.call("PUT", "/v2/apps" + APP, app)[0] == 200
        for _ in range(2):
            time.sleep(0.4)
            leader = farm.leading()
            farm.roles["master", leader].kill()
            farm.roles["master", leader].wait()
            farm.start_role("master", leader)
            all_there(farm)
        wait("it is done", lambda: farm.get("/v2/deployments") == [], 60)
    new = {t["id"] for t in farm.running(APP)}
    assert len(new) == 4 and not old & new, (old, new)


def test_without_any_master_service_goes_on(farm):
    before = {t["id"]: t["startedAt"] for t in farm.running(APP)}
    with Requests():
        for host in MASTERS:
            farm.roles["master", host].kill()
            farm.roles["master", host].wait()
        time.sleep(3)
        answer = subprocess.run(["dig", "+short", "+time=2", "+tries=1", f"@{NODES[0]}", "-p", "8053", "SRV", "_fibonacci-service._tcp.marathon.mesos"], capture_output=True, text=True).stdout
        assert len(answer.splitlines()) == 4, answer
        for host in MASTERS:
            farm.start_role("master", host)
        all_there(farm)
        wait("all is known again", lambda: {t["id"]: t["startedAt"] for t in farm.running(APP)} == before, 20)
        deployed_after(farm, "none", 20)
    tidy(farm, "none")


def test_zookeeper_members_die(farm):
    before = {t["id"]: t["startedAt"] for t in farm.running(APP)}
    with Requests():
        follower = next(i for i in range(3) if farm.ensemble.mode(i) == "follower")
        farm.ensemble.kill(follower)
        deployed_after(farm, "onegone", 20)
        second = next(i for i in range(3) if farm.ensemble.members[i].poll() is None)
        farm.ensemble.kill(second)
        time.sleep(3)
        begun = time.monotonic()
        status, body = farm.call_at(MASTERS[0], "POST", "/v2/apps", quick("refused"), timeout=20)
        print(f"    refused after {time.monotonic() - begun:.2f} s: {status} {body}")
        assert status in (502, 503), (status, body)
        farm.ensemble.start(follower)
        farm.ensemble.start(second)
        wait("changes work again", lambda: farm.call("PUT", "/v2/apps/onback", quick("x") | {"id": "/onback"})[0] in (200, 201), 60, 0.2)
    wait("all is known again", lambda: {t["id"]: t["startedAt"] for t in farm.running(APP)} == before, 20)
    farm.call("DELETE", "/v2/apps/onback?force=true")
    tidy(farm, "onegone")
    assert farm.call("GET", "/v2/apps/afterrefused")[0] == 404


def test_each_role_dies_by_itself(farm):
    before = {t["id"]: t["startedAt"] for t in farm.running(APP)}
    pids = farm.pids_of(APP)
    for role, host in (("master", farm.leading()), ("balancer", MASTERS[0]), ("dns", NODES[0]), ("node", NODES[0]), ("log", LOG)):
        others = {key: p.pid for key, p in farm.roles.items() if key != (role, host)}
        with Requests():
            farm.roles[role, host].send_signal(signal.SIGSEGV)
            farm.roles[role, host].wait()
            farm.start_role(role, host)
            all_there(farm)
        assert {key: p.pid for key, p in farm.roles.items() if key != (role, host) and p.poll() is None} == others, role
    wait("all is known again", lambda: {t["id"]: t["startedAt"] for t in farm.running(APP)} == before, 20)
    assert farm.pids_of(APP) == pids


def test_a_node_away_within_and_beyond_its_time(farm):
    before = {t["id"]: t["host"] for t in farm.running(APP)}
    node = farm.roles["node", NODES[1]]
    with Requests():
        node.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        node.send_signal(signal.SIGCONT)
        time.sleep(1)
        assert {t["id"]: t["host"] for t in farm.running(APP)} == before
        node.send_signal(signal.SIGSTOP)
        kept = {t for t, host in before.items() if host == NODES[0]}
        wait("what it had is replaced", lambda: len([t for t in farm.running(APP) if t["host"] == NODES[0]]) == 4, 30)
        begun = time.monotonic()
        node.send_signal(signal.SIGCONT)
        wait("the extra ones are gone", lambda: len(farm.running(APP)) == 4 and farm.pids_of(APP).keys() == {t["id"] for t in farm.running(APP)}, 30)
        print(f"    duplicates gone {time.monotonic() - begun:.2f} s after it was back")


def croft_node(farm, *words):
    command = [farm.bin + "/croft", "--url", f"http://{farm.leading()}:8080", "node", *words]
    done = subprocess.run([*command, "--timeout", "40"] if words[0] == "drain" else command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_a_node_is_drained_and_taken_back(farm):
    on = lambda host: [t for t in farm.running(APP) if t["host"] == host]  # noqa: E731

    def scaled(n):
        assert farm.call("PUT", "/v2/apps" + APP, {"instances": n})[0] == 200
        farm.settled()

    scaled(8)
    assert on(NODES[1]), "else there is nothing to move"
    with Requests():
        begun = time.monotonic()
        croft_node(farm, "drain", NODES[1])
        print(f"    empty after {time.monotonic() - begun:.2f} s")
        assert len(on(NODES[0])) == 8 and not on(NODES[1])
        assert "drained" in croft_node(farm, "list")
        old = farm.leading()
        assert farm.call("DELETE", "/v2/leader")[0] == 200
        wait("another one leads", lambda: farm.leading() not in ("", None, old), 20)
        all_there(farm)
        scaled(9)
        assert not on(NODES[1]), "the next leader knows it too"
        croft_node(farm, "undrain", NODES[1])
        croft_node(farm, "drain", NODES[0])  # where a task is put is placement's to choose, unless there is one place only
        assert len(on(NODES[1])) == 9 and not on(NODES[0]), "it takes tasks again"
        croft_node(farm, "undrain", NODES[0])
        scaled(4)


def test_another_store_kills_nothing(farm):
    """Masters started on an empty store: the nodes refuse them and say so; back on their own, nothing was restarted."""
    before = {t["id"]: t["startedAt"] for t in farm.running(APP)}
    pids = farm.pids_of(APP)
    with Requests():
        for tree in ("/empty", "/croft"):
            for host in MASTERS:
                farm.roles["master", host].kill()
                farm.roles["master", host].wait()
                farm.configure(host, zookeeper_tree=tree)
                farm.start_role("master", host)
            wait("one leads", farm.leading, 20)
            if tree == "/empty":
                def refused():
                    with open(f"{farm.dir}/node-{NODES[0]}.log") as f:
                        return "belongs to cluster" in f.read()
                wait("the node says why it does not register", refused, 20)
                assert farm.get("/v2/apps") == {"apps": []}
                time.sleep(2)
            assert all(alive(p) for p in pids.values()), tree
        all_there(farm)
        wait("all is known again", lambda: {t["id"]: t["startedAt"] for t in farm.running(APP)} == before, 20)


def test_a_restored_store_restarts_nothing(farm):
    """The store is saved, lost, and brought back elsewhere while the tasks run."""
    before = {t["id"]: t["startedAt"] for t in farm.running(APP)}
    pids = farm.pids_of(APP)
    config, backup = f"{farm.dir}/{MASTERS[0]}.toml", farm.dir + "/backup"
    said = farm.cli("store", "save", backup, "--config", config).stdout
    assert "records saved" in said, said
    with Requests():
        for host in MASTERS:
            farm.roles["master", host].kill()
            farm.roles["master", host].wait()
            farm.configure(host, zookeeper_tree="/restored")
        said = farm.cli("store", "restore", backup, "--config", config).stdout
        assert "records restored" in said, said
        again = farm.cli("store", "restore", backup, "--config", config, check=False)
        assert again.returncode == 4, (again.returncode, again.stderr)
        for host in MASTERS:
            farm.start_role("master", host)
        all_there(farm)
        wait("all is known again", lambda: {t["id"]: t["startedAt"] for t in farm.running(APP)} == before, 20)
        deployed_after(farm, "restored", 20)
    assert farm.pids_of(APP) == pids
    tidy(farm, "restored")
    with open(backup, "r+b") as f:
        f.seek(200)
        f.write(b"x")
    damaged = farm.cli("store", "restore", backup, "--config", config, check=False)
    assert damaged.returncode == 1 and backup in damaged.stderr, damaged.stderr


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), MastersFarm(sys.argv[1]), sys.argv[2:], always=("test_the_way_through",))
