#!/usr/bin/env python3
"""Clocks that jump, by a library under croft: the time of day goes, the time that passes does not.   usage: clocks.py BIN_DIR [TEST...]"""
import os
import ssl
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, alive, own_namespace, run_suite, wait  # noqa: E402
from secure_farm import HOSTS, SecureFarm, sleeper  # noqa: E402

APP = "/service/fibonacci"
UNPROVED = ssl._create_unverified_context()  # this program's own clock stays, and knows of no certificate of next year


DAY = 86400


class Clock:
    """What the programs of `environment` take for the time of day: this machine's, and an offset that may change under them."""

    def __init__(self, folder):
        self.file, library = os.path.join(folder, "clock"), os.path.join(folder, "shifted_clock.so")
        self.set(0)
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, os.path.join(os.path.dirname(os.path.abspath(__file__)), "shifted_clock.c"), "-ldl"], check=True)
        self.environment = dict(os.environ, LD_PRELOAD=library, CLOCK_OFFSET=self.file)

    def set(self, days):
        with open(self.file, "r+b" if os.path.exists(self.file) else "wb") as f:  # in place: it is mapped
            f.write(struct.pack("=q", int(days * DAY)))


class Plain(Farm):
    def __init__(self, bin_dir):
        super().__init__(bin_dir, options=["--no-docker"])
        self.clock = Clock(self.dir)
        self.environment = self.clock.environment


class Secure(SecureFarm):
    def __init__(self, bin_dir):
        super().__init__(bin_dir)
        self.clock = Clock(self.dir)
        self.environment = self.clock.environment

    def certificates(self):
        return {role: open(f"{self.dir}/{role}.cluster/host.pem").read() for role in ("master", *HOSTS)}


def told_days(farm):
    """How far ahead the farm is, by the time that its API gives to a new version."""
    stamp = farm.call("PUT", "/v2/apps/clock", {"id": "/clock", "instances": 0, "cmd": "true", "labels": {"n": str(time.monotonic())}})[1]["version"]
    return (time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) - time.mktime(time.gmtime())) / DAY


def test_a_day_ahead_and_a_day_back(farm):
    """No task is restarted, versions go on in order, updates roll, lines arrive, whatever the clock says."""
    farm.deploy(farm.fibonacci())
    farm.call("POST", "/api/services", {"id": APP, "acl": f"path_beg -i {APP}"}, port=8000)
    wait("it is routed", lambda: farm.call("GET", APP + "/10", port=5000)[1] == 55)
    pids = farm.task_pids()
    versions = []
    for days in (1, -1, 0):
        farm.clock.set(days)
        if days > 0:
            assert abs(told_days(farm) - days) < 0.1, told_days(farm)
        for _ in range(20):
            assert farm.call("GET", APP + "/10", port=5000) == (200, 55)
        assert {t: p for t, p in farm.task_pids().items() if t in pids} == pids and all(alive(p) for p in pids.values()), days
        assert farm.app(APP)["tasksHealthy"] == 3, farm.app(APP)
        farm.kill9()
        farm.start()
        wait("all are healthy again", lambda: farm.app(APP)["tasksHealthy"] == 3, 20)
        assert {t: p for t, p in farm.task_pids().items() if t in pids} == pids, days
        versions.append(farm.deploy(farm.fibonacci(env=dict(farm.fibonacci()["env"], DAY=str(days))))["version"])
        pids = farm.task_pids()
        assert len(farm.running(APP)) == 3 and all(t["version"] == versions[-1] for t in farm.running(APP)), farm.running(APP)
        n = len(versions)
        farm.deploy({"id": f"/printer{n}", "cmd": f"echo printed {n}; exec sleep 1000", "cpus": 0.1, "mem": 32, "portDefinitions": []})
        wait("its line is found", lambda: f"printed {n}" in farm.cli("logs", f"/printer{n}").stdout, 10)
    assert versions == sorted(versions) and len(set(versions)) == 3, versions
    assert sorted(farm.get(f"/v2/apps{APP}/versions")["versions"])[-1] == versions[-1]
    print(f"    versions {versions[0]} {versions[1]} {versions[2]}")


def test_four_hundred_days(farm):
    """A farm with certificates of 90 days goes through 420: each host renews its own, nothing is restarted, no role, no task."""
    farm.deploy(sleeper("/service/old"))
    pids, roles = farm.task_pids(), {role: p.pid for role, p in farm.roles.items()}
    longest = 0.0
    for step in range(1, 8):
        before = farm.certificates()
        farm.clock.set(60 * step)
        begun = time.monotonic()
        wait(f"all hosts have renewed, {60 * step} days on", lambda: all(new != before[role] for role, new in farm.certificates().items()), 30)
        longest = max(longest, time.monotonic() - begun)
        wait("the farm is one", lambda: all(h["reachable"] for h in farm.call("GET", "/croft/v1/overview", tls=UNPROVED)[1]["hosts"]), 20)
        assert farm.call("PUT", "/v2/apps/service/next", sleeper("/service/next", env={"STEP": str(step)}), tls=UNPROVED)[0] in (200, 201)
        wait("an update rolls", lambda: farm.call("GET", "/v2/deployments", tls=UNPROVED)[1] == [], 30)
    assert {t: p for t, p in farm.task_pids().items() if t in pids} == pids and all(alive(p) for p in pids.values())
    assert {role: p.pid for role, p in farm.roles.items() if p.poll() is None} == roles
    print(f"    420 days in seven steps; renewed within {longest:.1f} s of each")


def test_certificates_that_ended_stop_no_task(farm):
    """Every process dies, and 200 days later, when all certificates have ended, starts again: nobody believes anybody. Tasks run on; when the clock is right again so is the farm.
    (Where connections live on, a host renews over one of them what ended meanwhile: a TLS peer is judged when it connects.)"""
    pids = farm.task_pids()
    days = 420
    begun = time.monotonic()
    farm.roles["master"].terminate()  # it leads, and every host waits for news of users and CAs at it
    farm.roles["master"].wait(20)
    print(f"    told to stop, the master was gone after {time.monotonic() - begun:.2f} s")
    for process in farm.roles.values():
        process.kill()
        process.wait()
    farm.clock.set(days + 200)
    ended, read = farm.certificates(), os.path.getsize(f"{farm.dir}/node.log")
    for role in ("master", *HOSTS):
        farm.start_role(role)
    wait("the node asks and is refused", lambda: "certificate" in open(f"{farm.dir}/node.log").read()[read:], 20)
    time.sleep(4)
    renewed = [role for role, now in farm.certificates().items() if now != ended[role]]
    assert renewed == [], renewed  # a host proves itself by what has ended
    assert all(p.poll() is None for p in farm.roles.values()), "a role has ended"
    assert {t: p for t, p in farm.task_pids().items() if t in pids} == pids and all(alive(p) for p in pids.values())
    farm.clock.set(days)
    wait("the farm is one again", lambda: all(h["reachable"] for h in farm.call("GET", "/croft/v1/overview", tls=UNPROVED)[1]["hosts"]), 40)
    assert {t: p for t, p in farm.task_pids().items() if t in pids} == pids and all(alive(p) for p in pids.values())
    assert all(t["state"] == "TASK_RUNNING" for t in farm.call("GET", "/v2/apps/service/old", tls=UNPROVED)[1]["app"]["tasks"])


def main(words):
    for kind, tests in ((Plain, (test_a_day_ahead_and_a_day_back,)), (Secure, (test_four_hundred_days, test_certificates_that_ended_stop_no_task))):
        names = {t.__name__: t for t in tests}
        if not words[1:] or set(words[1:]) & set(names):
            run_suite(names, kind(words[0]), words[1:])


if __name__ == "__main__":
    own_namespace()
    main(sys.argv[1:])
