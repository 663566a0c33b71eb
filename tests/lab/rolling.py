"""A rolling update under way while something happens to the farm's masters. run.py runs the tests here; faults.py has updates under its own."""
import contextlib
import subprocess
import threading
import time

from hosts import APP, MASTERS, NODES, Load, api, call, get, leader, master, reachable, remove, settled, started, wait
from machines import ssh

SERVICE_PORT = 10_010


class Records:
    """What a name server has of an app, looked at without a pause: how many instances at least, and whether one that was gone came back."""

    def __init__(self, app):
        self.name = f"_{app}._tcp.marathon.mesos"
        self.least, self.back, self.looks, self.stopping = None, set(), 0, False
        self.seen, self.gone = set(), set()

    def look(self):
        """Nothing where nobody answered, which says nothing of the app."""
        done = subprocess.run(["dig", "+short", "+tries=1", "+time=2", "SRV", self.name, "@" + NODES[0].address], capture_output=True, text=True, timeout=10)
        return {line.split()[3] for line in done.stdout.split("\n") if len(line.split()) == 4} if done.returncode == 0 else None

    def _run(self):
        while not self.stopping:
            there = self.look()
            if there is None:
                continue
            self.looks += 1
            self.least = len(there) if self.least is None else min(self.least, len(there))
            self.back |= there & self.gone
            self.gone |= self.seen - there
            self.seen |= there
            time.sleep(0.05)

    def __enter__(self):
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join(20)


def roller(value):
    """The example's image as an app of its own, on a port of its own in every HAProxy."""
    app = get("/v2/apps" + APP)["app"]
    docker = app["container"]["docker"]
    mapping = {"containerPort": 8099, "hostPort": 0, "servicePort": SERVICE_PORT, "protocol": "tcp"}
    parameters = [p for p in docker["parameters"] if not p["value"].startswith("ROLL=")]
    return {"id": "/roller", "instances": 4, "cpus": 0.05, "mem": 32, "env": {"ROLL": value}, "healthChecks": app["healthChecks"],
            "upgradeStrategy": {"minimumHealthCapacity": 0.75, "maximumOverCapacity": 0.25},
            "container": {"type": "DOCKER", "docker": {"image": docker["image"], "network": "BRIDGE", "parameters": parameters, "portMappings": [mapping]}}}


def in_rotation(m):
    """Addresses that this master's HAProxy sends the example's requests to."""
    said = ssh(m, "echo 'show servers state' | nc -U -q1 /var/lib/croft/balancer/haproxy.sock").stdout
    rows = [line.split() for line in said.split("\n") if not line.startswith("#")]
    return {r[4] for r in rows if len(r) > 6 and r[1].startswith("service_fibonacci") and r[5] == "2"}  # name of the backend, address, state: it runs


@contextlib.contextmanager
def under_way(repeat=False):
    """A rolling update of four instances that has begun, and at the end: it is done by whoever leads, three served at any moment, none that had left came back, no request was lost."""
    try:
        status, said = master("PUT", "/v2/apps/roller", roller("old"), limit=30)
        assert status in (200, 201), (status, said)
        settled()
        old = set(started("/roller"))
        load = Load(APP + "/3", repeat=repeat, port=SERVICE_PORT, ledger=False)  # the test has one
        wait("it is asked through every HAProxy", lambda: all(call("GET", f"http://{m.address}:{SERVICE_PORT}{APP}/3", timeout=3)[1] == 2 for m in MASTERS))
        wait("all four have names", lambda: len(Records("roller").look() or ()) == 4)
        with load, Records("roller") as records:
            status, said = master("PUT", "/v2/apps/roller", roller("new"))
            assert status == 200, (status, said)
            wait("the first of the old ones has left", lambda: records.gone, 30, 0.02)
            assert any("/roller" in d["affectedApps"] for d in get("/v2/deployments")), "it is over before anything has happened"
            yield
            settled()
            wait("four new ones serve", lambda: (lambda app: app["tasksHealthy"] == 4 and not {t["id"] for t in app["tasks"]} & old)(get("/v2/apps/roller")["app"]), 60)
        print(f"    a rolling update under way: at least {records.least} of 4 in {records.looks} looks; {load.said()}")
        assert records.least >= 3, records.least
        assert not records.back, records.back
        assert not load.failures, load.said()
    finally:
        remove("roller")


def test_no_end_point_disappears_while_a_leader_is_new_and_an_agent_silent():
    """The new leader has not heard the third node: what runs there keeps its names and its place in HAProxy."""
    before, silent = started(), NODES[2]
    wait("three have names", lambda: len(Records("fibonacci-service").look() or ()) == 3)
    with Load() as load, Records("fibonacci-service") as records:
        ssh(silent, "systemctl kill -s STOP croft-node")
        try:
            victim = leader()
            ssh(victim, "systemctl kill -s KILL croft-master")
            wait("somebody leads", lambda: call("GET", api(leader(), "/v2/apps"), timeout=2)[0] == 200, 20)
            end = time.monotonic() + 5  # within the time that absent agents have
            while time.monotonic() < end:
                for m in MASTERS:
                    assert silent.address in in_rotation(m), (m.name, in_rotation(m))
                load.go_on(20)
        finally:
            ssh(silent, "systemctl kill -s CONT croft-node")
        wait("it is heard again", lambda: reachable(silent), 30)
    print(f"    never fewer than {records.least} of 3 in {records.looks} looks; {load.said()}")
    assert records.least == 3, records.least
    assert not load.failures, load.said()
    assert started() == before
