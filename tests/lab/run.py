#!/usr/bin/env python3
"""Tests on the seven hosts.   usage: run.py [--keep] [--long] [--again] [--where-possible] [TEST...]   Makes the lab where it is not up, and takes it down again unless it was there before.
--where-possible: on a machine that cannot boot such hosts, or not run Docker in them, nothing is tested, and that is said.
--again: what failed is run once more at the end, and judged by that; both are told.
--long: outages last as long as they are promised to be survived (ten minutes), and not only until they are seen."""
import json
import os
import subprocess
import sys
import time
import traceback
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
if "--long" in sys.argv:
    os.environ["CROFT_LAB_LONG"] = "1"
import base  # noqa: E402
import faults  # noqa: E402
import lab  # noqa: E402
import lines  # noqa: E402
import machines  # noqa: E402
import rolling  # noqa: E402
import stores  # noqa: E402
import strangers  # noqa: E402
from hosts import APP, LOG, MASTERS, NODES, SLACK, Load, api, call, console, croft, get, healthy, leader, master, native, reachable, settled, tasks, wait  # noqa: E402
from machines import HOSTS, ssh  # noqa: E402

SERVICE = "_fibonacci-service._tcp.marathon.mesos."
BUSYBOX = "/bin/busybox"
PUSH = "DOCKER_CONFIG=/etc/croft/docker docker push -q"
AGAIN_MAX = 2  # more than that is no chance


def publish_box():
    """An image with a shell, in the lab's registry."""
    node = NODES[0]
    if "box" in ssh(node, "docker image ls --format '{{.Repository}}' log1:5002/box").stdout:
        return "log1:5002/box:1"
    with open(BUSYBOX, "rb") as f:
        subprocess.run(machines.ssh_words(node) + ["mkdir -p /var/cache/box && cat >/var/cache/box/busybox && chmod 755 /var/cache/box/busybox"], stdin=f, check=True, timeout=60)
    ssh(node, "cd /var/cache/box && printf 'FROM scratch\\nCOPY busybox /bin/busybox\\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\\n' >Dockerfile && "
              f"DOCKER_BUILDKIT=0 docker build -q -t log1:5002/box:1 . && {PUSH} log1:5002/box:1", timeout=120)
    return "log1:5002/box:1"


def test_every_host_gets_610_from_every_balancer():
    for host in HOSTS.values():
        said = ssh(host, f"for m in {' '.join(m.name for m in MASTERS)}; do curl -sS -m 10 http://$m:5000{APP}/15; echo; done").stdout.split()
        assert said == ["610"] * len(MASTERS), (host.name, said)


def test_three_containers_on_three_nodes():
    hosts = sorted(t["host"] for t in tasks())
    assert hosts == ["node1", "node2", "node3"], hosts
    for node in NODES:
        said = ssh(node, "docker ps --format '{{.Image}}'").stdout
        assert "log1:5002/fibonacci" in said, (node.name, said)


def test_a_node_offers_its_limits_less_the_reserve():
    for node in NODES:
        status, state = call("GET", api(node, "/state", port=5051))
        assert status == 200, (status, state)
        have = state["resources"]
        assert have["cpus"] == node.cpus and abs(have["mem"] - (node.mem_mib - 256)) < 1, (node.name, have)


def test_a_container_asks_discovery_without_a_login():
    image = publish_box()
    app = {"id": "/asker", "cmd": f"wget -q -O - http://172.17.42.1:8123/v1/services/{SERVICE}; echo; nslookup fibonacci-service.marathon.mesos; nslookup log1.lab.example; echo done; exec sleep 10000",
           "cpus": 0.1, "mem": 32, "instances": 3, "constraints": [["hostname", "UNIQUE"]], "container": {"type": "DOCKER", "docker": {"image": image, "network": "BRIDGE"}}}
    status, body = master("PUT", "/v2/apps/asker", app)
    assert status in (200, 201), (status, body)
    settled()
    try:
        for node in NODES:
            text = wait(f"{node.name}'s container has asked", lambda: (lambda t: "done" in t and t)(ssh(node, "docker logs $(docker ps -q -f ancestor=log1:5002/box:1 | head -1) 2>&1").stdout))
            answers = json.loads(text[text.index("["):text.index("]") + 1])
            assert sorted(a["ip"] for a in answers) == [n.address for n in NODES], (node.name, text)
            names = text[text.index("]"):]
            assert any(n.address in names or "172.17." in names for n in NODES), text
            assert LOG.address in names, text
    finally:
        master("DELETE", "/v2/apps/asker?force=true")
        settled()


def test_names_on_the_nodes():
    for node in NODES:
        assert ssh(node, "getent hosts leader.mesos").stdout.split()[:1] == [leader().address]
        assert ssh(node, "getent hosts log1.lab.example").stdout.split()[:1] == [LOG.address]
        srv = ssh(node, f"dig +short SRV {SERVICE}").stdout.split("\n")
        assert len([line for line in srv if line]) == 3, srv
        balancers = set(ssh(node, "dig +short balancer.mesos").stdout.split())
        assert balancers == {m.address for m in MASTERS}, balancers


def test_a_dead_balancer_leaves_the_names_within_a_second():
    victim, node = MASTERS[2], NODES[0]
    count = lambda: len(ssh(node, "dig +short balancer.mesos").stdout.split())  # noqa: E731
    wait("all three are named", lambda: count() == 3)
    ssh(victim, "systemctl kill -s KILL croft-balancer; systemctl stop croft-balancer")
    begun = time.monotonic()
    try:
        wait("two are named", lambda: count() == 2, 15, 0.02)
        took = time.monotonic() - begun
        print(f"    gone from DNS after {took:.2f} s")
        assert took < 1.3 * SLACK, took  # with the time that the question itself takes over SSH
    finally:
        ssh(victim, "systemctl start croft-balancer")
    wait("three again", lambda: count() == 3)


def test_what_is_too_big_waits_and_says_why():
    status, body = master("PUT", "/v2/apps/huge", {"id": "/huge", "cmd": "sleep 1000", "cpus": 3, "mem": 32})
    assert status == 201, (status, body)
    try:
        queue = wait("it is in the queue with its refusals", lambda: [q for q in get("/v2/queue")["queue"] if q["app"]["id"] == "/huge"])
        assert queue[0]["delay"] is not None
        why = croft("explain", "/huge")
        for node in NODES:
            assert node.name in why, why
        assert "cpus" in why, why
    finally:
        master("DELETE", "/v2/apps/huge?force=true")
        settled()


def test_logs_of_all_nodes_through_nginx():
    status, body = console("/", login=False)
    assert status == 401, (status, body)
    for node in NODES:
        ssh(node, f"curl -sS -o /dev/null http://master1:5000{APP}/8")

    def hosts():
        status, found = console("/croft/v1/logs?q=" + urllib.parse.quote(f'app:"{APP}"'))
        assert status == 200, (status, found)
        hits = found["hits"]["hits"] if "hits" in found else found
        return {h.get("_source", h).get("host") for h in hits} >= {n.name for n in NODES}

    wait("lines of all three nodes are found", hosts)


def test_the_tour():
    """docs/tour.md, block by block, with ./dev lab env."""
    sys.path.append(os.path.join(lab.TOP, "tests/e2e"))
    import tour
    try:
        blocks = tour.walk(os.path.join(lab.TOP, "docs/tour.md"), "lab", lab.TOP, dict(os.environ))
        print(f"    {blocks} blocks")
    finally:
        lab.ansible("deploy.yml", quiet=True)  # the tour has taken the example away
    settled()


def test_the_second_run_changes_nothing():
    before = sorted(t["id"] for t in tasks())
    said = lab.ansible("site.yml", quiet=True, strategy="linear")  # as users run it
    recap = said[said.index("PLAY RECAP"):]
    assert recap.count("changed=0") == len(HOSTS), recap
    assert sorted(t["id"] for t in tasks()) == before


def test_restarting_every_unit_restarts_no_task():
    before = {t["id"]: t["startedAt"] for t in tasks()}
    pids = {m.name: ssh(m, "systemctl show -P MainPID croft-haproxy").stdout for m in MASTERS}
    for node in NODES:
        ssh(node, "systemctl restart croft-node croft-dns")
    for m in MASTERS:
        ssh(m, "systemctl restart croft-balancer croft-master")
    ssh(LOG, "systemctl restart croft-log")
    wait("all tasks are healthy", healthy)
    assert {t["id"]: t["startedAt"] for t in tasks()} == before
    assert {m.name: ssh(m, "systemctl show -P MainPID croft-haproxy").stdout for m in MASTERS} == pids


def test_a_native_task_outlives_its_agent():
    assert master("PUT", "/v2/apps/native", {"id": "/native", "cmd": "exec sleep 12345", "cpus": 0.1, "mem": 32})[0] == 201
    settled()
    try:
        task = tasks("/native")[0]
        node = HOSTS[task["host"]]
        pid = ssh(node, "pgrep -f '^sleep 12345'").stdout.split()[0]
        where = ssh(node, f"cat /proc/{pid}/cgroup").stdout
        assert "croft-tasks.service" in where and "croft-node.service" not in where, where
        ssh(node, "systemctl kill -s KILL croft-node; sleep 0.3; systemctl stop croft-node; systemctl restart croft-tasks; systemctl start croft-node")
        ssh(node, f"kill -0 {pid}")
        wait("the agent is back", lambda: reachable(node))
        assert [t["id"] for t in tasks("/native")] == [task["id"]]
    finally:
        master("DELETE", "/v2/apps/native?force=true")
        settled()
    wait("the task is gone with its app", lambda: ssh(node, f"kill -0 {pid}", check=False).returncode != 0)


def test_a_node_cut_off_and_healed_in_time_keeps_its_tasks():
    before = sorted(t["id"] for t in tasks())
    with Load(repeat=True) as load:
        machines.cut(NODES[2])
        try:
            time.sleep(3)  # less than any time-out for agents
        finally:
            machines.heal(NODES[2])
        wait("the node is heard again", lambda: reachable(NODES[2]), 30)
        wait("all tasks are healthy", healthy, 30)
        load.go_on(1)
    print(f"    {load.said()}")
    assert not load.failures, load.said()
    assert sorted(t["id"] for t in tasks()) == before


def test_a_node_cut_off_beyond_its_time_is_replaced_and_comes_back():
    """What it had is started elsewhere; back with all of it, what is too much goes."""
    native("beyond", "exec sleep 23456", instances=3)
    settled()
    away = HOSTS[tasks("/beyond")[0]["host"]]
    with Load(APP + "/1", "1", repeat=True) as load:  # of a number for which no instance asks another: those ask by names, which know the host until its time is over
        machines.cut(away)
        try:
            wait("three run elsewhere", lambda: sum(t["host"] != away.name and t["state"] == "TASK_RUNNING" for t in tasks("/beyond")) == 3, 60)
        finally:
            machines.heal(away)
        wait("the node is heard again", lambda: reachable(away), 30)
        wait("three and no more run", lambda: len(tasks("/beyond")) == 3 and all(t["state"] == "TASK_RUNNING" for t in tasks("/beyond")), 30)
        wait("all tasks are healthy", healthy, 30)
    print(f"    {load.said()}")
    assert not load.failures, load.said()
    master("DELETE", "/v2/apps/beyond?force=true")
    settled()
    wait("no process of it is left", lambda: all(not ssh(n, "pgrep -f '^sleep 23456'", check=False).stdout for n in NODES), 20)


def test_a_node_without_power_comes_back():
    victim = NODES[1]
    machines.kill(victim)
    assert not machines.running(victim)
    for m in MASTERS:
        wait(f"{m.name} goes on with the others", lambda m=m: call("GET", f"http://{m.address}:5000{APP}/1")[0] == 200, 30)
    lab.boot_all([victim], lab.base.path())
    wait("it is heard again", lambda: reachable(victim), 60)
    wait("three instances are healthy", healthy, 120)
    wait("nothing runs twice", lambda: len(tasks()) == 3, 60)
    for m in MASTERS:
        wait(f"610 from {m.name}", lambda m=m: call("GET", f"http://{m.address}:5000{APP}/15")[1] == 610, 30)


def test_a_drained_node_is_empty_and_no_request_fails():
    """The example has one instance a node and no place elsewhere: that one stays, another app's move."""
    assert master("PUT", "/v2/apps/mover", {"id": "/mover", "cmd": "exec sleep 10000", "cpus": 0.05, "mem": 16, "instances": 3})[0] in (200, 201)
    settled()
    node = tasks("/mover")[0]["host"]
    with Load() as load:
        croft("node", "drain", "--no-wait", node)
        wait("its tasks move", lambda: len(tasks("/mover")) == 3 and all(t["host"] != node for t in tasks("/mover")), 30)
        croft("node", "undrain", node)
        wait("all tasks are healthy", healthy, 30)
        load.go_on(20)
    master("DELETE", "/v2/apps/mover?force=true")
    settled()
    print(f"    {load.said()}")
    assert not load.failures, load.said()


def test_a_rolling_upgrade_loses_no_request():
    before = {t["id"]: t["startedAt"] for t in tasks()}
    os.utime(os.path.join(lab.TOP, "deploy/croft.toml"))
    lab.package()
    with Load() as load:
        lab.ansible("upgrade.yml", quiet=True)
    print(f"    {load.said()}")
    assert load.count > 100 and not load.failures, load.said()
    versions = {h.name: ssh(h, "dpkg-query -W -f='${Version}' croft").stdout for h in HOSTS.values()}
    assert len(set(versions.values())) == 1, versions
    wait("all tasks are healthy", healthy)
    assert {t["id"]: t["startedAt"] for t in tasks()} == before


def judge(name, test):
    begun = time.monotonic()
    try:
        test()
        print(f"ok    {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        return True
    except (Exception, SystemExit):  # every test is judged, also one whose playbook failed
        traceback.print_exc()
        print(f"FAIL  {name}", flush=True)
        return False


def impossible():
    """What of a machine's means for such hosts this one has not; "" where it has them all. Whatever else goes wrong is a failure."""
    lower = base.ensure(lab.say)
    probes = {
        "namespaces": "unshare --mount --net --pid --ipc --uts --fork true",
        "a bridge": "ip link add croft-probe type bridge && ip link del croft-probe",
        "overlays": f"unshare --mount sh -c 'mount -t tmpfs none /mnt && mkdir /mnt/up /mnt/work /mnt/on && mount -t overlay -o lowerdir={lower},upperdir=/mnt/up,workdir=/mnt/work none /mnt/on'",
        "cgroups": "grep -q cgroup /proc/mounts && test -w /sys/fs/cgroup",
        "systemd-nspawn": f"systemd-nspawn --quiet --read-only --register=no --keep-unit --private-network --capability=all --system-call-filter='@keyring bpf @mount @privileged @raw-io' --directory={lower} /bin/true",
    }
    for what, command in probes.items():
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            return f"{what}: {done.stderr.strip()[-300:]}"
    return ""


def run(wanted, keep, again, where_possible):
    every = [(name, f) for names in (globals(), *((vars(strangers),) if lab.AUTH != "none" else ()), vars(rolling), vars(faults), vars(stores), vars(lines)) for name, f in names.items() if name.startswith("test_")]
    tests = [(name, f) for name, f in every if not wanted or name in wanted]
    if wanted and len(tests) != len(wanted):
        sys.exit("unknown tests: " + " ".join(set(wanted) - {n for n, _ in tests}))
    there = all(machines.running(h) for h in HOSTS.values())
    failed, second, skipped = [], [], False
    began = time.monotonic()
    try:
        if not there and where_possible and (why := impossible()):
            print(f"SKIPPED, all of it: this machine cannot make the lab: {why}", flush=True)
            skipped = True
            tests = []
        elif not there:
            lab.up()
            print(f"      the lab is up after {(time.monotonic() - began):.0f} s", flush=True)
        failed = [name for name, test in tests if not judge(name, test)]
        if again and 0 < len(failed) <= AGAIN_MAX:
            print("once more: " + " ".join(failed), flush=True)
            second, failed = failed, [name for name, test in tests if name in failed and not judge(name, test)]
    finally:
        if not there and not keep:
            lab.down()
            left = machines.leftovers()
            print("\n".join(["FAIL  lab down left:"] + left) if left else "ok    lab down left nothing")
            failed += ["down"] if left else []
    print(f"after {(time.monotonic() - began) / 60:.1f} min: {len(tests) - len(failed)} of {len(tests)} passed" + (": " + " ".join(failed) + " did not" if failed else "") + ("; only at the second try: " + " ".join(set(second) - set(failed)) if set(second) - set(failed) else "") + ("; SKIPPED, all of it" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(run([w for w in words if not w.startswith("--")], "--keep" in words, "--again" in words, "--where-possible" in words))
