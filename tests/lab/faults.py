"""Faults on the seven hosts, one after the other: each test leaves the farm as it found it. run.py runs them."""
import time

import machines
import rolling
from hosts import LOG, LONG, MASTERS, NODES, SLACK, Load, api, call, get, healthy, leader, master, native, reachable, remove, settled, started, tasks, wait
from machines import HOSTS, ssh


def new_task_runs(name, begun):
    """Deploys a native app through whichever master takes it, the next one being asked after 1 s; the seconds since `begun` at which it ran."""
    order = list(MASTERS)

    def ask(method, body=None):
        m = order[0]
        try:
            status, said = call(method, api(m, f"/v2/apps/{name}"), body, timeout=1)
        except OSError as e:
            status, said = 0, str(e)
        if status in (0, 502, 503, 504):  # whoever answered last is asked first
            order.append(order.pop(0))
        return status, said

    wait("it is taken", lambda: ask("PUT", {"id": "/" + name, "cmd": "exec sleep 10000", "cpus": 0.01, "mem": 16})[0] in (200, 201), 60, 0.01)
    wait("it runs", lambda: (lambda status, said: status == 200 and said["app"]["tasksRunning"] == 1)(*ask("GET")), 60, 0.01)
    return time.monotonic() - begun


def zookeeper_mode(m):
    said = ssh(m, "printf srvr | nc -q1 127.0.0.1 2181 | sed -n 's/^Mode: //p'").stdout.strip()
    return said or "silent"


def lead_with_zookeeper(mode):
    """Hands over until the leading master's host also has a ZooKeeper member of this mode."""
    for _ in range(12):
        m = leader()
        if zookeeper_mode(m) == mode:
            return m
        call("DELETE", api(m, "/v2/leader"))
        wait("another one leads", lambda m=m: leader() is not m, 20)
    raise AssertionError(f"no hand-over led to a {mode}")


def test_the_leaders_process_killed():
    before = started()
    victim = leader()
    with Load() as load, rolling.under_way():
        begun = time.monotonic()
        ssh(victim, "systemctl kill -s KILL croft-master")
        took = new_task_runs("after-kill", begun)
        load.go_on(50)
    print(f"    a new task ran after {took:.2f} s; {load.said()}")
    assert not load.failures, load.said()
    assert started() == before
    remove("after-kill")
    assert took < 1.5 * SLACK, took  # 1 s, and what SSH takes to get there


def frozen_or_cut(mode, limit, away, back):
    before = started()
    victim = lead_with_zookeeper(mode)
    with Load(repeat=True) as load, rolling.under_way(repeat=True):
        begun = time.monotonic()
        away(victim)
        try:
            took = new_task_runs("after-silence", begun)
            load.go_on(20)
        finally:
            back(victim)
        wait("the host is a master again", lambda: call("GET", api(victim, "/v2/leader"), timeout=3)[0] == 200, 60)
    print(f"    {victim.name} ({mode}): a new task ran after {took:.2f} s; {load.said()}")
    assert not load.failures, load.said()
    assert started() == before
    remove("after-silence")
    assert took < limit * SLACK, took


def test_the_leaders_host_cut_off_while_its_zookeeper_follows():
    frozen_or_cut("follower", 5, machines.cut, machines.heal)


def test_the_leaders_host_cut_off_while_its_zookeeper_leads():
    frozen_or_cut("leader", 8, machines.cut, machines.heal)


def test_the_leaders_host_frozen_while_its_zookeeper_follows():
    frozen_or_cut("follower", 5, lambda h: machines.freeze(h, True), lambda h: machines.freeze(h, False))


def test_the_leaders_host_frozen_while_its_zookeeper_leads():
    frozen_or_cut("leader", 8, lambda h: machines.freeze(h, True), lambda h: machines.freeze(h, False))


def test_the_leader_hands_over():
    before, old = started(), leader()
    with Load() as load:
        assert call("DELETE", api(old, "/v2/leader"))[0] == 200
        new = wait("another one leads", lambda: (lambda m: m is not old and m)(leader()), 20)
        load.go_on(50)
    print(f"    from {old.name} to {new.name}; {load.said()}")
    assert not load.failures, load.said()
    assert started() == before


def test_zookeeper_loses_members():
    before = started()
    followers = [m for m in MASTERS if zookeeper_mode(m) == "follower"]
    with Load() as load:
        ssh(followers[0], "systemctl stop zookeeper")
        assert master("PUT", "/v2/apps/one-less", {"id": "/one-less", "cmd": "exec sleep 10000", "cpus": 0.01, "mem": 16}, limit=20)[0] in (200, 201)
        settled()
        ssh(followers[1], "systemctl stop zookeeper")
        wait("changes are refused", lambda: master("PUT", "/v2/apps/two-less", {"id": "/two-less", "cmd": "exec sleep 10000", "cpus": 0.01, "mem": 16}, limit=0)[0] == 503, 30)
        load.go_on(100)
        for node in NODES:
            assert len(ssh(node, "dig +short fibonacci-service.marathon.mesos @127.0.0.1").stdout.split()) == 3
        for m in followers:
            ssh(m, "systemctl start zookeeper")
        wait("changes work again", lambda: master("PUT", "/v2/apps/two-less", {"id": "/two-less", "cmd": "exec sleep 10000", "cpus": 0.01, "mem": 16}, limit=0)[0] in (200, 201), 60)
    settled()
    print(f"    {load.said()}")
    assert not load.failures, load.said()
    wait("a leader that has just begun has heard all nodes", lambda: all(reachable(n) for n in NODES) and healthy(), 30)
    assert started() == before
    for app in ("one-less", "two-less"):
        remove(app)


def test_every_master_down():
    """Tasks serve, HAProxy ejects what dies, names are answered, logs are kept; then nothing was restarted that lived."""
    line = "exec sh -c 'i=0; while true; do echo line $i; i=$((i+1)); sleep 0.05; done'"
    assert master("PUT", "/v2/apps/talker", {"id": "/talker", "cmd": line, "cpus": 0.01, "mem": 16})[0] in (200, 201)
    settled()
    before = started()
    dead = tasks()[0]
    with Load() as load:
        for m in MASTERS:
            ssh(m, "systemctl stop croft-master croft-balancer")
        node = HOSTS[dead["host"]]
        ssh(node, "docker kill $(docker ps -q -f ancestor=" + get_image(node) + ")")
        load.go_on(200)
        for n in NODES:
            assert ssh(n, "dig +short fibonacci-service.marathon.mesos").stdout.split(), n.name
        time.sleep(110 if LONG else 5)
        for m in MASTERS:
            ssh(m, "systemctl start croft-master croft-balancer")
        wait("three are healthy", healthy, 60)
        load.go_on(50)
    print(f"    {load.said()}")
    assert not load.failures, load.said()
    after = started()
    assert {t: s for t, s in before.items() if t != dead["id"]}.items() <= after.items(), (before, after)
    status, found = call("GET", api(LOG, "/logstash-*/_search?size=10000&q=app:%22/talker%22", port=9200))
    assert status == 200, found
    numbers = sorted(int(h["_source"]["message"].split()[1]) for h in found["hits"]["hits"] if h["_source"]["message"].startswith("line "))
    assert numbers == list(range(len(numbers))) and len(numbers) > 100, (len(numbers), numbers[:5], numbers[-5:])
    remove("talker")


def get_image(node):
    return ssh(node, "docker ps --format '{{.Image}}' | grep fibonacci | head -1").stdout.strip()


def test_a_docker_engine_restarts():
    before = started()
    with Load() as load:
        ssh(NODES[0], "systemctl restart docker", timeout=90)
        load.go_on(50)
    print(f"    {load.said()}")
    wait("all tasks are healthy", healthy, 60)
    assert started() == before
    assert not load.failures, load.said()


def test_an_agent_killed_in_the_middle_of_launches_and_of_kills():
    """Every task is there once and no more, and those that were to go have gone."""
    before, node = started(), NODES[0]
    here = {"constraints": [["hostname", "CLUSTER", node.name]]}
    stubborn = "exec sh -c 'trap \"\" TERM; while :; do sleep 0.5; done' zigzag"  # TERM takes its whole grace
    there = lambda: int(ssh(node, "pgrep -fc '[z]igzag'", check=False).stdout or 0)  # noqa: E731
    with Load() as load:
        for instances in (4, 8, 3, 6, 1):  # up: in the midst of launches; down: of kills
            native("midway", stubborn, instances=instances, **here)
            time.sleep(0.05 * instances)
            ssh(node, "systemctl kill -s KILL croft-node")
            wait("it is heard again", lambda: reachable(node), 30)
            settled()
            wait(f"{instances} run", lambda n=instances: len(tasks("/midway")) == n and all(t["state"] == "TASK_RUNNING" for t in tasks("/midway")), 30)
            wait(f"there are {instances} processes", lambda n=instances: there() == n, 20)
    print(f"    {load.said()}")
    assert not load.failures, load.said()
    assert started() == before
    remove("midway")
    wait("nothing is left", lambda: there() == 0, 20)


def test_each_role_dies_of_a_fault():
    before = started()
    roles = [(leader(), "croft-master"), (MASTERS[1], "croft-balancer"), (NODES[0], "croft-node"), (NODES[1], "croft-dns"), (LOG, "croft-log")]
    units = "croft-master croft-balancer croft-node croft-dns croft-log croft-haproxy croft-tasks"
    with Load() as load:
        for host, unit in roles:
            pids = lambda host=host: dict(zip(units.split(), ssh(host, f"systemctl show -P MainPID {units}").stdout.split()))  # noqa: E731
            old = pids()
            ssh(host, f"systemctl kill -s SEGV {unit}")
            new = wait(f"{unit} is there again", lambda old=old, pids=pids, unit=unit: (lambda p: p[unit] not in ("0", old[unit]) and p)(pids()), 20)
            assert {u: p for u, p in new.items() if u != unit} == {u: p for u, p in old.items() if u != unit}, (old, new)
            load.go_on(20)
    print(f"    {load.said()}")
    assert not load.failures, load.said()
    wait("all nodes are heard", lambda: all(reachable(n) for n in NODES), 30)
    assert started() == before
