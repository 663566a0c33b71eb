#!/usr/bin/env python3
"""End-to-end tests of the roles as processes of their own, croft serve.   usage: roles.py BIN_DIR [TEST...]"""
import glob
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, alive, children, end_processes, own_namespace, run_suite, under_load, wait  # noqa: E402
from restarts import APP as VICTIM, Asker, victim  # noqa: E402

APP = "/service/fibonacci"
RULE = {"id": APP, "acl": "path_beg -i " + APP}
ROLES = ("master", "dns", "balancer", "log", "node")
HUNDRED = 100
CGROUP = "croft-e2e.slice/tasks.service"  # as the package has it


class RolesFarm(Farm):
    """A process a role, as on real hosts, all on loopback. The node says it has room for the tests' many small tasks."""

    def __init__(self, bin_dir):
        super().__init__(bin_dir)
        with open(self.config, "w") as f:
            f.write(f'data = "{self.data}"\nhostname = "localhost"\nip = "127.0.0.1"\nbind = "127.0.0.1"\nauth = "none"\ninstance = "croft-dev"\ncgroup = "{CGROUP}"\n'
                    'dns_port = 8053\ndrain_ms = 3000\ndocker = false\ncpus = 40\nmem = 40000\n')
        self.roles = {}

    def start_role(self, role):
        out = open(os.path.join(self.dir, role + ".log"), "a")
        self.roles[role] = subprocess.Popen([self.bin + "/croft", "serve", "--role", role, "--config", self.config], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    def start(self):
        for role in ROLES:
            self.start_role(role)
        wait("the farm is up", lambda: any(h["reachable"] for h in self.get("/croft/v1/overview")["hosts"]), 10)

    def end_role(self, role, how):
        process = self.roles[role]
        process.send_signal(how)
        process.wait(15)
        return process.returncode

    def down(self):
        end_processes(self.roles.values())
        subprocess.run([self.bin + "/croft", "down", "--data", self.data], timeout=60)

    def role_log(self, role):
        with open(os.path.join(self.dir, role + ".log")) as f:
            return f.read()

    def log(self):
        return "\n".join(f"--- {role}\n{self.role_log(role)[-2000:]}" for role in ROLES)

    def run_folder(self, task):
        return os.path.join(self.data, "node", "runs", task)

    def found_again(self, limit=15):
        wait("the node is back", lambda: any(h["reachable"] for h in self.get("/croft/v1/overview")["hosts"]), limit)


def ask(farm, n=10):
    return farm.call("GET", f"{APP}/{n}", port=5000)


def lines(farm, app):
    return farm.get(f"/logstash-*/_count?q=app:%22{app.replace('/', '%2F')}%22", port=9200)["count"]


def mine(farm, tasks):
    return {task: pid for task, pid in farm.task_pids().items() if task in tasks}


def output(farm, task):
    """The task's stdout as it stands in the sandbox."""
    with open(glob.glob(f"{farm.data}/node/slaves/*/frameworks/*/executors/{task}/runs/latest/stdout")[0]) as f:
        return f.read()


def test_the_way_through(farm):
    farm.deploy(farm.fibonacci(3))
    assert farm.call("POST", "/api/services", RULE, port=8000)[0] == 200
    wait("the rule is in force", lambda: ask(farm, 15) == (200, 610))
    for role, port in (("master", 8080), ("node", 5051), ("balancer", 8000), ("dns", 8123), ("log", 9200)):
        assert "croft_" in farm.call("GET", "/metrics", port=port)[1], role
    assert len({p.pid for p in farm.roles.values()}) == 5


def test_a_killed_agent_misses_nothing(farm):
    farm.deploy({"id": "/counter", "cmd": "i=0; while [ $i -lt 300 ]; do echo count $i; i=$((i+1)); sleep 0.02; done; exec sleep 10000", "cpus": 0.1, "mem": 32})
    farm.deploy({"id": "/fails", "cmd": "while [ ! -e go ]; do sleep 0.02; done; echo last words; exit 7", "cpus": 0.1, "mem": 32, "backoffSeconds": 3600})
    farm.deploy({"id": "/ends", "cmd": "while [ ! -e go ]; do sleep 0.02; done; exit 0", "cpus": 0.1, "mem": 32, "backoffSeconds": 3600})
    ending = {app: farm.running(app)[0]["id"] for app in ("/fails", "/ends")}
    pids = {task: pid for task, pid in farm.task_pids().items() if task not in ending.values()}
    before = {t["id"]: t["startedAt"] for t in farm.running(APP)}
    counter = farm.running("/counter")[0]["id"]
    assert farm.end_role("node", signal.SIGKILL) == -signal.SIGKILL
    for app, task in ending.items():
        with open(glob.glob(f"{farm.data}/node/slaves/*/frameworks/*/executors/{task}/runs/latest")[0] + "/go", "w"):
            pass
        wait(f"{app} ends while nobody looks", lambda task=task: os.path.exists(farm.run_folder(task) + "/exit"))
    ended_by = time.time()
    assert len(pids) == 4 and all(alive(p) for p in pids.values()), pids
    assert ask(farm) == (200, 55), "the tasks serve without their agent"
    wait("it goes on writing meanwhile", lambda: len(output(farm, counter).splitlines()) > 150, 15)
    begun = time.monotonic()
    farm.start_role("node")
    farm.found_again()
    wait("the ends are told", lambda: not {t["id"] for app in ending for t in farm.app(app)["tasks"]} & set(ending.values()), 15)
    print(f"    found again, and the ends told, after {time.monotonic() - begun:.2f} s")
    failure = farm.app("/fails")["lastTaskFailure"]
    assert failure["taskId"] == ending["/fails"] and failure["message"].endswith("exited with status 7"), failure
    told = time.mktime(time.strptime(failure["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert told <= ended_by + 1, (failure, ended_by, "the time is when it ended, not when the agent came back")
    assert "exited with status 7" in farm.cli("explain", "/fails").stdout
    assert {t: p for t, p in farm.task_pids().items() if t in pids} == pids
    assert {t["id"]: t["startedAt"] for t in farm.running(APP)} == before
    wait("every line is in the logs", lambda: lines(farm, "/counter") == 300, 30)
    assert output(farm, counter).split() == [w for i in range(300) for w in ("count", str(i))]
    wait("those of the ended task too", lambda: lines(farm, "/fails") == 1, 10)
    for app in ("/counter", "/fails", "/ends"):
        farm.call("DELETE", f"/v2/apps{app}?force=true")
    farm.settled()


def test_an_orderly_restart_of_the_agent(farm):
    before = {t["id"]: t["startedAt"] for t in farm.running(APP)}
    pids = mine(farm, before)
    code = farm.end_role("node", signal.SIGTERM)
    assert code == 0, code
    assert len(pids) == 3 and all(alive(p) for p in pids.values()), pids
    farm.start_role("node")
    farm.found_again()
    wait("all are healthy again", lambda: farm.app(APP)["tasksHealthy"] == 3, 15)
    assert mine(farm, before) == pids and {t["id"]: t["startedAt"] for t in farm.running(APP)} == before
    assert "damaged" not in farm.role_log("node")


def test_every_role_killed_under_load(farm):
    before = {t["id"]: t["startedAt"] for t in farm.running(APP)}
    pids = mine(farm, before)
    haproxy = subprocess.run(["pgrep", "-o", "-f", "haproxy.*" + farm.data], capture_output=True, text=True).stdout.strip()  # its master; a reload replaces the worker
    others = {}

    def kill_each():
        for role in ROLES:
            others[role] = {r: p.pid for r, p in farm.roles.items() if r != role}
            farm.end_role(role, signal.SIGKILL)
            time.sleep(0.3)
            assert all(p.poll() is None for r, p in farm.roles.items() if r != role), f"the fall of {role} took another with it"
            farm.start_role(role)
            farm.found_again()

    count, failures = under_load(f"http://127.0.0.1:5000{APP}/1", kill_each)
    print(f"    {count} requests, {failures or 'none failed'}")
    assert count > 50 and not failures, failures
    wait("it is the same farm", lambda: {t["id"]: t["startedAt"] for t in farm.running(APP)} == before, 15)
    assert mine(farm, before) == pids
    assert haproxy and subprocess.run(["pgrep", "-o", "-f", "haproxy.*" + farm.data], capture_output=True, text=True).stdout.strip() == haproxy, "HAProxy was adopted"
    wait("DNS answers", lambda: len(farm.get("/v1/services/_fibonacci-service._tcp.marathon.mesos.", port=8123)) == 3)
    farm.call("PUT", "/v2/apps" + APP, {"instances": 4})
    farm.settled()
    wait("changes go everywhere", lambda: len(farm.get("/v1/services/_fibonacci-service._tcp.marathon.mesos.", port=8123)) == 4)
    assert ask(farm) == (200, 55)


def test_haproxy_knows_more_than_an_old_copy_and_a_leader_that_has_heard_nobody(farm):
    """The balancer's copy of the catalog may be a second old, and a new leader knows only what agents tell it: until then the instances stand as HAProxy has them."""
    copy = os.path.join(farm.data, "balancer", "catalog.json")
    farm.deploy(victim(2))
    first = {t["id"] for t in farm.running(VICTIM)}
    wait("the copy has them", lambda: all(task in open(copy).read() for task in first))
    with open(copy) as f:
        old = f.read()
    farm.deploy(victim(2, env={"COLOUR": "green"}))
    before = {t["id"] for t in farm.running(VICTIM)}
    assert not before & first
    asker = Asker(farm, 3)
    try:
        for role in ("master", "balancer", "node"):
            farm.end_role(role, signal.SIGKILL)
        with open(copy, "w") as f:
            f.write(old)
        adopted = farm.role_log("balancer").count("is adopted")
        farm.start_role("master")
        farm.start_role("balancer")
        wait("HAProxy is adopted", lambda: farm.role_log("balancer").count("is adopted") > adopted)
        time.sleep(1.5)  # three times as long as HAProxy takes to find out that somebody has gone
        farm.start_role("node")
        farm.found_again()
        wait("it is the same farm", lambda: {t["id"] for t in farm.running(VICTIM)} == before)
        farm.deploy(victim(3, env={"COLOUR": "green"}))
    finally:
        asker.end()
    print(f"    {asker.answers} requests, {len(asker.failures)} failed")
    assert asker.answers > 100 and not asker.failures, asker.failures[:3]
    farm.call("DELETE", f"/v2/apps{VICTIM}?force=true")
    farm.settled()


def test_one_damaged_run_folder_of_a_hundred(farm):
    """There is no database of the agent that could be lost: the run folders are all it has. One of them is damaged while it is down."""
    begun = time.monotonic()
    farm.deploy({"id": "/hundred", "cmd": "exec sleep 100000", "cpus": 0.01, "mem": 32, "instances": HUNDRED, "portDefinitions": [], "backoffSeconds": 1})
    print(f"    {HUNDRED} tasks after {time.monotonic() - begun:.2f} s")
    assert not glob.glob(f"{farm.data}/node/*.db*"), "a database of the agent's: delete it in this test"
    pids = {t: p for t, p in farm.task_pids().items() if t.startswith("hundred.")}
    assert len(pids) == HUNDRED
    before = {t["id"]: t["startedAt"] for t in farm.running("/hundred")}
    damages = {"cut off": lambda text: text[:len(text) // 2], "emptied": lambda _: "", "of another shape": lambda _: json.dumps({"format": 1, "spec": [1, 2]})}
    for how, damage in damages.items():
        victim = sorted(t for t in farm.task_pids() if t in before)[len(before) // 2]
        farm.end_role("node", signal.SIGKILL)
        record = farm.run_folder(victim) + "/task.json"
        with open(record) as f:
            text = damage(f.read())
        with open(record, "w") as f:
            f.write(text)
        farm.start_role("node")
        farm.found_again()
        wait(f"a hundred run again, one record {how}", lambda: len(now := {t["id"] for t in farm.running("/hundred")}) == HUNDRED and victim not in now, 20)
        kept = {t["id"]: t["startedAt"] for t in farm.running("/hundred")}
        assert len(set(kept) & set(before)) == HUNDRED - 1, (how, len(set(kept) & set(before)))
        assert all(kept[t] == before[t] for t in kept if t in before)
        assert {t: p for t, p in farm.task_pids().items() if t in kept and t in pids} == {t: p for t, p in pids.items() if t in kept}
        wait("nothing is left of the lost one", lambda victim=victim: not alive(pids.get(victim, 0) or 1 << 30))
        assert record in farm.role_log("node"), (how, "the error names the file")
        pids, before = {t: p for t, p in farm.task_pids().items() if t.startswith("hundred.")}, kept
    print("    " + next(line for line in farm.role_log("node").splitlines() if "task.json" in line)[:200])
    farm.call("DELETE", "/v2/apps/hundred?force=true")
    farm.settled(60)


def test_what_serve_refuses(farm):
    def serve(text, role="master"):
        file = os.path.join(farm.dir, "bad.toml")
        with open(file, "w") as f:
            f.write(text)
        done = subprocess.run([farm.bin + "/croft", "serve", "--role", role, "--config", file], capture_output=True, text=True, timeout=20)
        return done.returncode, done.stderr

    for text, words in (("", "auth"), ('auth = "open"\n', "auth"), ('auth = "none"\nmastrs = []\n', "bad.toml:2: 'mastrs'"), ('auth = "none"\nagent_port = 70000\n', "bad.toml:2: 'agent_port'"),
                        ('auth = "none"\nattributes = 3\n', "bad.toml:2: 'attributes'"), ('auth = \n', "bad.toml:1")):
        code, said = serve(text)
        assert code == 2 and words in said, (text, code, said)
    assert subprocess.run([farm.bin + "/croft", "serve", "--role", "king"], capture_output=True).returncode == 2
    with open(farm.config) as f:
        code, said = serve(f.read().replace(farm.data, farm.dir + "/other"), "log")
    assert code == 1 and "9200" in said, (code, said)


def test_down_leaves_nothing(farm):
    pids = list(farm.task_pids().values())
    pids += [c for p in pids for c in children(p)]
    farm.down()
    assert not any(alive(p) for p in pids)
    for above in ("/sys/fs/cgroup/*/", "/sys/fs/cgroup/"):
        for folder in ("croft-dev", CGROUP.split("/")[0]):
            assert not glob.glob(above + folder), glob.glob(above + folder)
    left = subprocess.run(["pgrep", "-f", farm.data], capture_output=True, text=True).stdout
    assert not left, left


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), RolesFarm(sys.argv[1]), sys.argv[2:], always=("test_the_way_through", "test_down_leaves_nothing"))
