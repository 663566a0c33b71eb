#!/usr/bin/env python3
"""Benchmarks beside their yardsticks, in one run.   usage: bench.py BIN_DIR [--once] [NAME...]

Each figure is the median of five (--once: of one). A bar that is missed makes the run fail. Needs root, for namespaces and cgroups."""
import atexit
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../e2e"))
from engine import Engine  # noqa: E402
from farm import Farm, children, own_namespace, wait  # noqa: E402

ROUNDS = 5
results = []


def say(what, value, unit, bar=None, beside=None, low_is_good=True):
    """One line of the table. `beside`: [(name, value)] of yardsticks in the same unit."""
    met = bar is None or (value <= bar if low_is_good else value >= bar)
    results.append({"what": what, "value": value, "unit": unit, "bar": bar, "beside": beside or [], "met": met})
    number = lambda v: f"{v:,.0f}" if abs(v) >= 100 else f"{v:.3g}"  # noqa: E731
    others = "; ".join(f"{name} {number(v)}" for name, v in beside or [])
    limit = "" if bar is None else f"{'at most' if low_is_good else 'at least'} {number(bar)}"
    print(f"{what:58} {number(value):>12} {unit:16} {limit:18} {'' if met else 'MISSED':7} {others}", flush=True)


def median(run, rounds=None):
    return statistics.median(run() for _ in range(rounds or ROUNDS))


def program(name, *words, **more):
    done = subprocess.run([os.path.join(BIN, name), *words], capture_output=True, text=True, timeout=600, **more)
    if done.returncode != 0:
        raise AssertionError(f"{name}: {done.stdout}{done.stderr}")
    return done.stdout


# --- pure parts ---

def bench_placement():
    runs = [json.loads(program("croft_cluster_bench")) for _ in range(ROUNDS)]
    one = runs[0]
    say("placements, 10,000 agents, 1,000 shapes, to 80 % full", statistics.median(r["placements_per_second"] for r in runs), "a second", 200_000,
        [("a full scan", one["full_scan_per_second"])], low_is_good=False)
    say("  what stays free on the chosen agent, beside a full scan", 100 * (one["leftover"] / one["full_scan_leftover"] - 1), "% more", 2)
    say("  instances until nothing fits, beside a full scan", 100 * (1 - one["until_full"] / one["full_scan_until_full"]), "% fewer", 2)


def bench_strand():
    runs = [json.loads(program("croft_orchestrator_bench")) for _ in range(ROUNDS)]
    mid = lambda key: statistics.median(r[key] for r in runs)  # noqa: E731
    say("a health change at 100,000 tasks, /state read in a loop", mid("us_per_change_median"), "us", None, [("p99", mid("us_per_change_p99"))])
    say("  longest hold of the leader's strand", mid("strand_hold_max_ms"), "ms", 2, [("longest pause of an empty loop", mid("machine_gap_ms"))])
    say("  holds over 1.6 ms", mid("longer_percent"), "% of holds")
    say(f"  /state of {runs[0]['state_megabytes']:.0f} MB", mid("state_ms"), "ms")


def bench_logs():
    runs = [json.loads(program("croft_logs_bench")) for _ in range(ROUNDS)]
    sqlite = sqlite_fts(100_000)
    say("log events through _bulk", statistics.median(r["events_per_cpu_second"] for r in runs), "a CPU second", 200_000, [("SQLite FTS5", sqlite[0])], low_is_good=False)
    say("  on disk", statistics.median(r["disk_percent_of_raw"] for r in runs), "% of raw", None, [("SQLite FTS5", sqlite[1])])


def sqlite_fts(count):
    """Events a CPU second into a full-text table, and its size beside the raw text."""
    import random
    import sqlite3
    folder = tempfile.mkdtemp()
    db = sqlite3.connect(folder + "/x.db")
    db.execute("pragma journal_mode=wal")
    db.execute("create virtual table t using fts5(message)")
    dice = random.Random(1)
    rows = [(json.dumps({"app": f"/service/app{dice.randrange(20)}", "level": "INFO", "took_ms": dice.random() * 1000,
                         "message": f"request {dice.getrandbits(64):016x} from 10.0.{dice.randrange(256)}.{dice.randrange(256)} asked /api/users and got 200"}),) for _ in range(count)]
    begun = time.process_time()
    for at in range(0, count, 2000):
        with db:
            db.executemany("insert into t values(?)", rows[at:at + 2000])
    spent = time.process_time() - begun
    db.close()
    size = os.path.getsize(folder + "/x.db")
    shutil.rmtree(folder)
    return count / spent, 100 * size / sum(len(r[0]) for r in rows)


def bench_dns():
    names = tempfile.NamedTemporaryFile("w", suffix=".txt")
    for n in range(300):
        names.write(f"app{n}-group.marathon.mesos A\n_app{n}-group._tcp.marathon.mesos SRV\n")
    names.flush()

    def ask(port):
        subprocess.run(["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", names.name, "-l", "4", "-c", "8", "-Q", "200000"], capture_output=True, check=True)

    def ours():
        server = subprocess.Popen([BIN + "/croft_discovery_bench", "serve", "5399"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
        ask(5399)
        return float(server.communicate(timeout=20)[0].split(", ")[-1].split()[0])

    say("DNS queries", median(ours), "a CPU second", None, [("Knot DNS", knot(names.name, ask))], low_is_good=False)


def knot(questions, ask):
    """The same zone served by Knot DNS, the fastest server in Debian."""
    folder = tempfile.mkdtemp(prefix="knot", dir="/var/tmp")
    with open(folder + "/zone", "w") as f:
        f.write("$ORIGIN mesos.\n$TTL 1\n@ SOA ns1.mesos. root.ns1.mesos. 1 60 600 86400 1\n@ NS ns1\nns1 A 127.0.0.1\n")
        for n in range(300):
            for i in range(3):
                f.write(f"app{n}-group.marathon A 10.1.{n % 250}.{i}\nt{n}-{i}.marathon A 10.1.{n % 250}.{i}\n_app{n}-group._tcp.marathon SRV 0 1 3100{i} t{n}-{i}.marathon\n")
    with open(folder + "/conf", "w") as f:
        f.write(f"server:\n  listen: 127.0.0.1@5398\n  rundir: {folder}\n  udp-workers: 1\ndatabase:\n  storage: {folder}\nzone:\n  - domain: mesos\n    file: {folder}/zone\n")
    server = subprocess.Popen(["knotd", "-c", folder + "/conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    before = cpu_of(server.pid)
    out = subprocess.run(["dnsperf", "-s", "127.0.0.1", "-p", "5398", "-d", questions, "-l", "4", "-c", "8", "-Q", "200000"], capture_output=True, text=True).stdout
    spent = cpu_of(server.pid) - before
    server.terminate()
    server.wait()
    shutil.rmtree(folder)
    done = next((int(line.split()[2]) for line in out.splitlines() if "Queries completed" in line), 0)
    return done / spent if spent else 0


# --- a whole farm ---

def cpu_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_of(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def processes(name, words=""):
    out = subprocess.run(["pgrep", "-f", f"{name}.*{words}"], capture_output=True, text=True).stdout.split()
    return [int(p) for p in out if open(f"/proc/{p}/comm").read().strip() == name[:15]]


def haproxy_servers(farm, backend=None):
    """Servers that HAProxy sends requests to."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(farm.data + "/balancer/haproxy.sock")
        s.sendall(b"show servers state\n")
        text = b""
        while data := s.recv(65536):
            text += data
    up = 0
    for line in text.decode().splitlines()[2:]:
        f = line.split()
        # s1, s2, …; their twins for the last resort have other names.
        if len(f) > 6 and f[3].startswith("s") and f[5] == "2" and f[4] != "0.0.0.0" and (int(f[6]) & 0x3b) == 0:  # running, with an address, not in maintenance or drain; 4 only says that it began disabled
            up += 1
    return up


class Running(Farm):
    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.down()
        # Thrown away at the very end, see bench_deploy: it would cost the next run a fifth of its time.
        atexit.register(self.clean)


def deploy_all(farm, apps):
    """Seconds from the POST until all is running in the API, in DNS and in HAProxy."""
    begun = time.monotonic()
    for app in apps:
        status, body = farm.call("POST", "/v2/apps", app)
        assert status == 201, body
    total = sum(a["instances"] for a in apps)
    checked = "healthChecks" in apps[0]
    # Counts alone, not too often and over one connection: the asking is not what is measured.
    count = "tasksHealthy" if checked else "tasksRunning"
    api = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)

    def ready():
        api.request("GET", "/v2/apps?embed=apps.counts")
        return sum(a[count] for a in json.load(api.getresponse())["apps"]) == total

    wait("running in the API", ready, 60, 0.01)
    api.close()
    in_api = time.monotonic() - begun
    names = ["_" + ".".join(reversed(a["id"].strip("/").split("/"))) + "._tcp.marathon.mesos" for a in apps]
    wait("running in DNS", lambda: sum(len(farm.get("/v1/services/" + n, port=8123)) for n in names) == total, 60, 0.005)
    in_dns = time.monotonic() - begun
    wait("running in HAProxy", lambda: haproxy_servers(farm) == total, 60, 0.005)
    return time.monotonic() - begun, in_api, in_dns


def bench_deploy():
    # It listens, or HAProxy's own check would find nothing there. Without a shell in between, as Swarm starts its image's program.
    listener = BIN + "/bench_listener"
    subprocess.run(["cc", "-O2", "-static", "-o", listener, os.path.join(HERE, "listener.c")], check=True)
    plain = {"id": "/hundred", "args": [listener], "cpus": 0.001, "mem": 8, "instances": 100, "portDefinitions": [{"port": 0, "protocol": "tcp"}]}
    check = {"protocol": "HTTP", "path": "/1", "portIndex": 0, "gracePeriodSeconds": 60, "intervalSeconds": 5}

    def one():
        with Running(BIN) as farm:
            return deploy_all(farm, [plain])

    def three():
        with Running(BIN) as farm:
            apps = [{"id": f"/third{n}", "args": [listener], "cpus": 0.001, "mem": 16, "instances": count, "healthChecks": [check],
                     "portDefinitions": [{"port": 0, "protocol": "tcp"}]} for n, count in enumerate((34, 33, 33))]
            return deploy_all(farm, apps)

    bare = median(lambda: float(program("croft_bare_loop", "100")))
    runs, checked = [one() for _ in range(ROUNDS)], [three() for _ in range(ROUNDS)]
    # Last, because it throws thousands of files away, and ext4 looks at every inode freed within the last six minutes before it takes one.
    swarm = swarm_hundred()
    say("100 native tasks, POST to API, DNS and HAProxy", statistics.median(r[0] for r in runs), "s", 1,
        [("Docker Swarm", swarm), ("bare loop of the kernel's part", bare), ("in the API alone", statistics.median(r[1] for r in runs))])
    say("100 native tasks of three apps with health checks", statistics.median(r[0] for r in checked), "s", 1, [("in the API alone", statistics.median(r[1] for r in checked))])


def swarm_hundred():
    folder = tempfile.mkdtemp(prefix="croft-bench-", dir="/var/tmp")
    engine = Engine(folder)
    engine.live_restore = False  # Swarm refuses it
    times = []
    try:
        engine.start()
        engine.build("box:1", {"busybox": "/bin/busybox"}, ["COPY busybox /bin/busybox", "STOPSIGNAL KILL", 'ENTRYPOINT ["/bin/busybox", "httpd", "-f"]'])
        engine.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
        for _ in range(min(ROUNDS, 3)):
            begun = time.monotonic()
            engine.docker("service", "create", "--quiet", "--name", "hundred", "--replicas", "100", "box:1")
            times.append(time.monotonic() - begun)
            engine.docker("service", "rm", "hundred")
            wait("its containers are gone", lambda: not engine.containers("com.docker.swarm.service.name=hundred"), 120, 0.5)
    finally:
        engine.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return statistics.median(times)


def bench_replacement():
    app = {"id": "/one", "cmd": "exec sleep 100000", "cpus": 0.1, "mem": 16, "instances": 1, "backoffSeconds": 0, "portDefinitions": []}
    times = []
    with Running(BIN) as farm:
        farm.deploy(app)
        for _ in range(max(ROUNDS, 5)):
            victim = farm.running("/one")[0]["id"]
            pid = children(farm.task_pids()[victim])[0]
            time.sleep(0.3)
            begun = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            wait("its replacement runs", lambda: [t for t in farm.running("/one") if t["id"] != victim], 10, 0.001)
            times.append((time.monotonic() - begun) * 1000)
    say("kill -9 of a task to its replacement running", statistics.median(times), "ms", 50)


def bench_idle():
    with Running(BIN) as farm:
        time.sleep(3)
        pid = farm.process.pid
        balancer = processes("haproxy", farm.data)
        cpu, beside = cpu_of(pid), sum(cpu_of(p) for p in balancer)
        time.sleep(10)
        say("croft dev with nothing deployed: PSS", pss_of(pid) / 1024, "MiB", 48, [("HAProxy beside it", sum(pss_of(p) for p in balancer) / 1024), ("dockerd and containerd", engine_pss())])
        say("  idle CPU", (cpu_of(pid) - cpu) * 10, "%", 1, [("HAProxy beside it", (sum(cpu_of(p) for p in balancer) - beside) * 10)])
        farm.deploy({"id": "/ten", "cmd": "exec sleep 100000", "cpus": 0.01, "mem": 8, "instances": 10})
        time.sleep(0.5)
        holders = [p for p in processes("croft-executor", farm.data)]
        say("an executor and its task's init (one memory), with 10 tasks: PSS", statistics.mean(pss_of(p) for p in holders), "KiB", 300)
    bench_roles()


def bench_logins():
    """The locks under load, by the end-to-end tests that make it: of the worse of two runs."""
    wrong, slow, rate = [], [], []
    for _ in range(2):
        # A farm for each: what the one has left behind, 10,000 closing connections among it, is not the other's business.
        for test in ("test_wrong_passwords_leave_others_alone", "test_ten_thousand_slow_connections"):
            done = subprocess.run([sys.executable, os.path.join(HERE, "../e2e/secure.py"), BIN, test], capture_output=True, text=True, timeout=300, env={k: v for k, v in os.environ.items() if k != "CROFT_E2E_NETNS"})
            if done.returncode != 0:
                raise AssertionError(done.stdout[-3000:])
            p99 = float(re.search(r"/v2/apps.*?p99 ([0-9.]+) ms", done.stdout).group(1))
            if "wrong" in test:
                wrong.append(p99)
                rate.append(float(re.search(r"([0-9]+) wrong logins a second", done.stdout).group(1)))
            else:
                slow.append(p99)
    say("wrong logins answered beside those who are logged in", min(rate), "a second", 200, low_is_good=False)
    say("  /v2/apps of those who are, p99", max(wrong), "ms", 50)
    say("/v2/apps beside 10,000 slow connections, p99", max(slow), "ms", 20)


def bench_roles():
    """The roles as processes of their own, as on a farm of several hosts."""
    folder = tempfile.mkdtemp(prefix="croft-bench-", dir="/var/tmp")
    config = folder + "/croft.toml"
    with open(config, "w") as f:
        f.write(f'data = "{folder}/data"\nauth = "none"\ninstance = "croft-dev"\ndocker = false\nhostname = "localhost"\ndns_port = 8053\n')
    started = {role: subprocess.Popen([BIN + "/croft", "serve", "--role", role, "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for role in ("master", "node", "balancer", "dns", "log")}
    try:
        time.sleep(3)
        figures = [(role, pss_of(p.pid) / 1024) for role, p in started.items()]
        say("the five roles as processes: PSS", sum(v for _, v in figures), "MiB", None, figures)
    finally:
        for p in started.values():
            p.terminate()
        for p in started.values():
            p.wait(20)
        subprocess.run([BIN + "/croft", "down", "--data", folder + "/data"], stdout=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


def engine_pss():
    folder = tempfile.mkdtemp(prefix="croft-bench-", dir="/var/tmp")
    engine = Engine(folder)
    try:
        engine.start()
        time.sleep(2)
        return sum(pss_of(p) for p in [engine.process.pid, *children(engine.process.pid)]) / 1024
    finally:
        engine.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    global BIN, ROUNDS
    own_namespace()
    words = [w for w in sys.argv[1:] if w != "--once"]
    if "--once" in sys.argv:
        ROUNDS = 1
    if not words:
        sys.exit(__doc__)
    BIN = os.path.abspath(words[0])
    benches = {name[6:]: f for name, f in globals().items() if name.startswith("bench_") and name != "bench_roles"}
    wanted = words[1:] or list(benches)
    unknown = [w for w in wanted if w not in benches]
    if unknown:
        sys.exit(f"bench: not known: {', '.join(unknown)}; there are {', '.join(benches)}")
    for name in wanted:
        benches[name]()
    missed = [r["what"].strip() for r in results if not r["met"]]
    if missed:
        sys.exit("bars missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
