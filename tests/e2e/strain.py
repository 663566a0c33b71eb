#!/usr/bin/env python3
"""A farm under strain: a disk that takes half a second for each sync, two thousand tasks on one node.   usage: strain.py BIN_DIR [TEST...]"""
import os
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, own_namespace, run_suite, under_load, wait  # noqa: E402

APP = "/service/fibonacci"
SLOW = 500  # ms
MANY = 2000
TEN_TIMES = 10  # times are printed; a test fails at ten times what is expected


class Strained(Farm):
    def __init__(self, bin_dir):
        super().__init__(bin_dir, settings="cpus = 64.0\n", options=["--no-docker"])
        self.sync, library = os.path.join(self.dir, "sync"), os.path.join(self.dir, "slow_sync.so")
        self.syncs_take(0)
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, os.path.join(os.path.dirname(os.path.abspath(__file__)), "slow_sync.c"), "-ldl"], check=True)
        self.environment = dict(os.environ, LD_PRELOAD=library, SYNC_DELAY=self.sync)

    def syncs_take(self, milliseconds):
        with open(self.sync, "r+b" if os.path.exists(self.sync) else "wb") as f:  # in place: it is mapped
            f.write(struct.pack("=q", milliseconds))


def timed(work):
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def test_a_disk_that_takes_long(farm):
    """Changes take as long as their disk, and an update loses nobody. Reads may wait for a sync or two: here one process has all roles, and an agent records goals before anything else."""
    farm.deploy(farm.fibonacci())
    farm.call("POST", "/api/services", {"id": APP, "acl": f"path_beg -i {APP}"}, port=8000)
    wait("it is routed", lambda: farm.call("GET", APP + "/10", port=5000)[1] == 55)
    before = farm.task_pids()
    farm.syncs_take(SLOW)
    try:
        change = timed(lambda: farm.deploy({"id": "/other", "cmd": "true", "instances": 0}, wait_for=False))
        assert change > SLOW / 1000 * 0.9, f"{change:.2f} s: it was not on the disk when it was acknowledged"
        slowest = []

        def update():
            farm.deploy(farm.fibonacci(labels={"v": "2"}, env={"DISCOVERY_SERVICE": "fibonacci-service", "V": "2"}), wait_for=False)
            while farm.get("/v2/deployments"):
                slowest.append(timed(lambda: farm.get("/v2/apps")))
                time.sleep(0.02)
        answers, failures = under_load(f"http://127.0.0.1:5000{APP}/5", update)
        took = max(slowest)
        print(f"    a change {change:.2f} s; while an update went on: {answers} requests, {failures or 'none failed'}; the slowest of {len(slowest)} reads {took * 1000:.0f} ms")
        assert not failures, failures
        assert took < SLOW / 1000 * TEN_TIMES, took
        assert not set(before.values()) & set(farm.task_pids().values()), "all were replaced"
        again = farm.task_pids()
        farm.kill9()
        farm.start()
        assert farm.task_pids() == again, "nothing is restarted on a slow disk either"
    finally:
        farm.syncs_take(0)
    for n in "12":  # the first may still wait for a sync that has begun
        took = timed(lambda n=n: farm.deploy({"id": "/other", "cmd": "true", "instances": 0, "labels": {"n": n}}, wait_for=False))
    assert took < 0.05 * TEN_TIMES, f"as quick as before: {took:.2f} s"
    for app in (APP, "/other"):
        farm.call("DELETE", f"/v2/apps{app}?force=true")
    farm.settled()


def test_two_thousand_tasks_on_one_node(farm):
    begun = time.monotonic()
    farm.deploy({"id": "/many", "cmd": "exec sleep 100000", "cpus": 0.01, "mem": 4, "instances": MANY, "portDefinitions": [], "backoffSeconds": 1}, wait_for=False)
    farm.settled(300)
    up = time.monotonic() - begun
    pids = farm.task_pids()
    assert len(pids) == MANY, len(pids)
    read = timed(lambda: farm.get("/v2/apps/many"))
    farm.kill9()
    back = timed(farm.start)
    heard = timed(lambda: wait("all are heard", lambda: len(farm.running("/many")) == MANY, 60))
    assert farm.task_pids() == pids, "nothing was restarted"
    gone = timed(lambda: (farm.call("DELETE", "/v2/apps/many?force=true"), farm.settled(300)))
    wait("every process has gone", lambda: not farm.task_pids(), 60)
    print(f"    {MANY} tasks run after {up:.1f} s; all of them read in {read * 1000:.0f} ms; after a kill -9 the farm answers in {back:.2f} s and has all in {back + heard:.2f} s; gone in {gone:.1f} s")
    assert up < 30 * TEN_TIMES and back + heard < 5 * TEN_TIMES, (up, back, heard)


def main():
    own_namespace()
    run_suite(globals(), Strained(sys.argv[1]), sys.argv[2:])


if __name__ == "__main__":
    main()
