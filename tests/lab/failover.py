#!/usr/bin/env python3
"""How long until a new leader acts: the leading master's process killed, its host cut off while its ZooKeeper member follows, and while it leads the ensemble; its host frozen.
usage: failover.py [N] [--timeline] [process|follower|leader|frozen ...]   Each N times (20), on the lab that is up; prints the median and the worst of each.
--timeline: what all hosts logged meanwhile, in order."""
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import faults  # noqa: E402
import machines  # noqa: E402
from hosts import APP, MASTERS, NODES, api, call, get, leader, reachable, settled, tasks, wait  # noqa: E402
from machines import HOSTS, ssh  # noqa: E402


NAMES = {"process": "the leading master's process killed", "follower": "its host cut off, its ZooKeeper member following", "leader": "its host cut off, its ZooKeeper member leading",
         "frozen": "its host frozen, its ZooKeeper member following"}


def at_rest():
    """Every ZooKeeper member and every master answers, and every node is heard."""
    wait("the ensemble is whole", lambda: sorted(faults.zookeeper_mode(m) for m in MASTERS) == ["follower", "follower", "leader"], 60)
    for m in MASTERS:
        wait(f"the master on {m.name} answers", lambda m=m: call("GET", api(m, "/v2/apps"), timeout=3)[0] == 200, 60)
    wait("all nodes are heard", lambda: all(reachable(n) for n in NODES), 30)
    time.sleep(2)


def once(kind):
    """Seconds until a task that was deployed after the fault runs; and when the fault was."""
    victim = leader() if kind == "process" else faults.lead_with_zookeeper("leader" if kind == "leader" else "follower")
    at_rest()
    at = time.time()
    begun = time.monotonic()
    if kind == "process":
        ssh(victim, "systemctl kill -s KILL croft-master")
    elif kind == "frozen":
        machines.freeze(victim, True)
    else:
        machines.cut(victim)
    try:
        took = faults.new_task_runs("failover", begun)
    finally:
        if kind == "frozen":
            machines.freeze(victim, False)
        elif kind != "process":
            machines.heal(victim)
    at_rest()
    faults.remove("failover")
    return took, at, victim


def timeline(at, took, victim):
    lines = []
    for h in HOSTS.values():
        if h.kind == "log":
            continue
        for line in ssh(h, f"journalctl -u croft-master -u zookeeper -u croft-node -o short-unix --since @{at - 1:.0f} --until @{at + took + 1:.0f} --no-pager", check=False).stdout.split("\n"):
            stamp, _, rest = line.partition(" ")
            try:
                lines.append((float(stamp) - at, h.name + (" (away)" if h is victim else ""), rest.split(": ", 1)[-1][:230]))
            except ValueError:
                pass
    for when, name, text in sorted(lines):
        if -0.1 < when < took + 0.5:
            print(f"      {when:6.2f}  {name:15} {text}")


def main(words):
    count = next((int(w) for w in words if w.isdigit()), 20)
    kinds = [w for w in words if w in NAMES] or list(NAMES)
    if not all(machines.running(h) for h in HOSTS.values()):
        sys.exit("the lab is not up: ./dev lab up")
    before = {t["id"]: t["startedAt"] for t in tasks()}
    for kind in kinds:
        times = []
        for _ in range(count):
            took, at, victim = once(kind)
            times.append(took)
            print(f"    {NAMES[kind]}: {took:.2f} s", flush=True)
            if "--timeline" in words:
                timeline(at, took, victim)
        print(f"{NAMES[kind]}, to a newly deployed task running: median {statistics.median(times):.2f} s, worst {max(times):.2f} s of {len(times)}", flush=True)
    assert {t["id"]: t["startedAt"] for t in tasks()} == before, f"tasks of {APP} were restarted"
    settled()
    assert get("/v2/deployments") == []


if __name__ == "__main__":
    main(sys.argv[1:])
