#!/usr/bin/env python3
"""./dev up, its second run, its run after kill -9, docs/tour.md and ./dev down, without and with Docker.   usage: dev.py PRESET [native|docker|words...]

A farm of its own: in a network namespace of its own, with folders of its own, so that a farm that is up on this machine is not touched."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tour  # noqa: E402
from farm import alive, own_namespace, wait  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
APP = "/service/fibonacci"


class Ground:
    """./dev with folders of the test's own."""

    def __init__(self, preset):
        self.dir = tempfile.mkdtemp(prefix="croft-e2e-", dir="/var/tmp")
        os.chmod(self.dir, 0o755)
        self.state = self.dir + "/state"
        self.run_dir = tempfile.mktemp(prefix="croft-e2e-", dir="/run")
        # An Engine that is there already has its bridge outside of our network: it is not asked.
        self.env = dict(os.environ, CROFT_DEV_STATE=self.state, CROFT_DEV_RUN=self.run_dir, CROFT_DEV_PRESET=preset, DOCKER_HOST=f"unix://{self.dir}/no-engine-here", HOME=self.dir)

    def dev(self, *words, code=0, limit=600):
        done = subprocess.run([TOP + "/dev", *words], capture_output=True, text=True, timeout=limit, env=self.env, stdin=subprocess.DEVNULL)
        assert done.returncode == code, (words, done.returncode, done.stdout[-2000:], done.stderr[-4000:])
        return done.stdout, done.stderr

    def get(self, path, port=8080):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    def picture(self):
        """All that a second ./dev up must not change."""
        app = self.get("/v2/apps" + APP)["app"]
        pids = {}
        for started in glob.glob(f"{self.state}/farm/node/runs/*/started"):
            with open(started) as f:
                pids[started.split("/")[-2]] = re.search(r"pid=(\d+)", f.read()).group(1)
        return {"version": app["version"], "tasks": sorted((t["id"], t["startedAt"]) for t in app["tasks"]), "pids": pids, "rules": self.get("/api/services", 8000),
                "haproxy": roots_of("haproxy"), "croft": self.croft(), "engine": pids_of("dockerd"), "registry": pids_of("docker-registry"), "deployments": self.get("/v2/deployments")}

    def croft(self):
        with open(self.state + "/farm/croft.pid") as f:
            return int(f.read())


def here():
    """The processes in this network namespace, but for this test and those above it."""
    own, mine, above = os.stat("/proc/self/ns/net").st_ino, {}, set()
    pid = os.getpid()
    while pid > 1:
        above.add(pid)
        with open(f"/proc/{pid}/stat") as f:
            pid = int(f.read().rsplit(")", 1)[1].split()[1])
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and int(name) not in above and os.stat(f"/proc/{name}/ns/net").st_ino == own:
                with open(f"/proc/{name}/comm") as f:
                    mine[int(name)] = f.read().strip()
        except OSError:
            pass
    return mine


def pids_of(comm):
    return sorted(pid for pid, name in here().items() if name == comm)


def roots_of(comm):
    """Without the children of the same name: HAProxy's master, not the worker that a reload replaces."""
    pids = pids_of(comm)
    parents = {}
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            parents[pid] = int(f.read().rsplit(")", 1)[1].split()[1])
    return [pid for pid in pids if parents[pid] not in pids]


def leftovers(ground, namespaces):
    """What ./dev down should have taken away."""
    found = [f"process {pid} {name}" for pid, name in here().items()]
    for name in os.listdir("/proc"):  # containers and tasks are in namespaces of their own; their files and command lines give them away
        try:
            with open(f"/proc/{name}/cmdline", "rb") as f:
                line = f.read().decode(errors="replace")
            if name.isdigit() and int(name) != os.getpid() and (ground.state in line or ground.run_dir in line):
                found.append(f"process {name} {line[:100]}")
        except OSError:
            pass
    with open("/proc/self/mounts") as f:
        found += [f"mount {line.split()[1]}" for line in f if line.split()[1].startswith((ground.state, ground.run_dir))]
    found += [f"cgroup {path}" for path in glob.glob("/sys/fs/cgroup/croft-dev") + glob.glob("/sys/fs/cgroup/*/croft-dev")]
    found += [f"namespace {ns}" for ns in namespaces if os.path.exists(ns)]
    found += [f"link {link}" for link in os.listdir("/proc/sys/net/ipv4/conf") if link.startswith(("veth", "docker"))]
    found += [f"folder {path}" for path in (ground.state, ground.run_dir) if os.path.exists(path)]
    return found


def test_up(ground, form):
    words = ["up"] + (["--docker"] if form == "docker" else [])
    begun = time.monotonic()
    out, err = ground.dev(*words)
    print(f"    up after {time.monotonic() - begun:.1f} s")
    lines = out.strip().splitlines()
    assert lines[-1] == "610", out
    assert sum(1 for line in lines if re.fullmatch(r"\d+ \d+ \d+ fibonacci-service-.*mesos\.", line)) == 3, out
    assert re.search(r"asked [\d.]+:\d+ for \d+, took [\d.]+ ms", out), "which host was called, and how long it took"
    for address in ("8080/v2/apps", "5050/state", "5051/state", "8000/api/services", "127.0.0.1:5000", "8123/v1/enumerate", "127.0.0.1:8053", "127.0.0.1:9200", "127.0.0.1:5959", "127.0.0.1:5601"):
        assert address in out, address
    for command in ("cmake --build", "croft dev", "app deploy", "curl", "dig"):
        assert re.search(rf"\+ .*{command}", err), f"{command} is not told"
    picture = ground.picture()
    assert len(picture["pids"]) == 3 and len(picture["tasks"]) == 3, picture
    begun = time.monotonic()
    out, _ = ground.dev(*words)
    assert out.strip().endswith("610")
    after = ground.picture()
    assert after == picture, ("a second run changes nothing", picture, after)
    print(f"    a second run changed nothing, after {time.monotonic() - begun:.1f} s")
    croft = TOP + "/build/" + ground.env["CROFT_DEV_PRESET"] + "/bin/croft"
    for instances in (2, 3):
        subprocess.run([croft, "app", "scale", APP, str(instances)], check=True, capture_output=True, timeout=60)
        if instances == 2:
            ground.dev(*words)
            assert len(ground.picture()["tasks"]) == 2, "what a user has scaled is let be"
    picture = ground.picture()
    os.kill(picture["croft"], signal.SIGKILL)
    wait("croft is dead", lambda: not alive(picture["croft"]))
    assert subprocess.run(["curl", "-fsS", f"http://127.0.0.1:5000{APP}/10"], capture_output=True, text=True).stdout == "55", "the tasks and HAProxy go on"
    begun = time.monotonic()
    out, _ = ground.dev(*words)
    assert out.strip().endswith("610")
    after = ground.picture()
    assert after["croft"] != picture["croft"]
    assert dict(after, croft=0) == dict(picture, croft=0), ("after kill -9 it finds everything", picture, after)
    print(f"    after kill -9 it found its tasks, after {time.monotonic() - begun:.1f} s")


def test_status_and_env(ground, form):
    out, _ = ground.dev("status")
    assert "localhost" in out and APP in out, out
    out, _ = ground.dev("env")
    env = dict(line.split("=", 1) for line in out.splitlines())
    assert all(re.fullmatch(r"[A-Z_]+=\S+", line) for line in out.splitlines()), out
    for name in ("CROFT_URL", "CROFT_MESOS_URL", "CROFT_AGENT_URL", "CROFT_BAMBOO_URL", "CROFT_DISCOVERY_URL", "CROFT_LOGS_URL", "CROFT_CONSOLE_URL"):
        with urllib.request.urlopen(env[name] + "/metrics", timeout=10) as answer:
            assert b"croft_" in answer.read(), name
    assert ("CROFT_REGISTRY" in env) == (form == "docker"), env
    with open(os.path.join(TOP, "README.md")) as f:
        assert "./dev env" in f.read()


def test_the_tour(ground, form):
    begun = time.monotonic()
    env = {name: value for name, value in ground.env.items() if name != "DOCKER_HOST"}
    blocks = tour.walk(TOP + "/docs/tour.md", form, TOP, env if form == "docker" else ground.env)
    print(f"    {blocks} blocks in {time.monotonic() - begun:.1f} s")


def test_down(ground, form):
    namespaces = set()
    for pid in [c for p in glob.glob(f"{ground.state}/farm/node/runs/*/started") for c in re.findall(r"pid=(\d+)", open(p).read())]:
        namespaces |= {f"/proc/{pid}/ns/pid"}
    begun = time.monotonic()
    ground.dev("down")
    print(f"    down after {time.monotonic() - begun:.1f} s")
    wait("nothing is left", lambda: not leftovers(ground, namespaces) or print("   ", leftovers(ground, namespaces)), 5, 1)
    ground.dev("down")
    _, err = ground.dev("status", code=1)
    assert "no farm is running" in err, err


def test_words(ground, _):
    """What ./dev does with words that it does not know: its usage, and nothing else."""
    for words, hint in ((("nonsense",), "'nonsense' is not known"), (("up", "--dokker"), "'--dokker' is not known"), (("up", "--docker", "more"), "'more'"), (("down", "now"), "'now'"), (("test", "--al"), "'--al'"),
                        (("setup", "everything"), "'everything' is not known"), (("build", "debug"), "'debug' is not a preset"), (("env", "x"), "'x'"), (("status", "x"), "'x'")):
        out, err = ground.dev(*words, code=2)
        assert not out and hint in err and "./dev up [--docker]" in err, (words, out, err)
    out, _ = ground.dev("help")
    for word in ("setup", "build", "test", "up", "down", "status", "env", "bench", "sim", "lint", "fmt"):
        assert f"./dev {word}" in out, word
    begun = time.monotonic()
    _, err = ground.dev("setup", "up")
    took = time.monotonic() - begun
    assert not err and took < 5, ("nothing is missing: nothing is done, and quickly", took, err)


def test_what_is_missing_is_installed(ground, _):
    """With an apt-get of the test's own: what is missing is asked for, by sudo where we are not root, and no service may start meanwhile."""
    tools = ground.dir + "/tools"
    os.makedirs(tools)
    policy = "/usr/sbin/policy-rc.d"
    before = open(policy).read() if os.path.exists(policy) else None
    for name, text in {"dpkg-query": 'shift 2; for p in "$@"; do [ "$p" = haproxy ] || [ "$p" = mold ] || echo "$p:install ok installed"; done; exit 1',
                       "apt-get": f'echo "$(test -x {policy} && sh {policy}; echo $?) $*" >>{tools}/log; [ ! -e {tools}/fail ]', "sudo": f'echo "sudo $1" >>{tools}/log; exec "$@"', "id": "echo ${FAKE_UID:-0}"}.items():
        with open(f"{tools}/{name}", "w") as f:
            f.write(f"#!/bin/sh\n{text}\n")
        os.chmod(f"{tools}/{name}", 0o755)
    plain = ground.env
    for uid in ("0", "1000"):
        ground.env = dict(plain, PATH=tools + ":" + plain["PATH"], FAKE_UID=uid)
        _, err = ground.dev("setup", "up")
        with open(tools + "/log") as f:
            log = f.read().splitlines()
        os.remove(tools + "/log")
        asked = [line for line in log if "install" in line]
        assert asked == ["101 install -y -qq --no-install-recommends mold haproxy"], log
        assert ("sudo env" in log) == (uid == "1000") and "apt-get install" in err, (log, err)
        assert (open(policy).read() if os.path.exists(policy) else None) == before, "the policy is as it was"
    open(tools + "/fail", "w").close()
    ground.env["FAKE_UID"] = "0"
    ground.dev("setup", "up", code=1)
    assert (open(policy).read() if os.path.exists(policy) else None) == before, "also when the installation fails"
    ground.env = plain


def test_without_privileges(ground, _):
    """./dev up as a user who has sudo for the packages only: the farm is that user's own."""
    for name in ("croft", "croft-executor", "fibonacci"):
        shutil.copy(f"{TOP}/build/{ground.env['CROFT_DEV_PRESET']}/bin/{name}", ground.dir)
    home = ground.dir + "/nobody"
    os.makedirs(home)
    shutil.chown(home, "nobody", "nogroup")
    as_nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    croft = ground.dir + "/croft"
    with open(ground.dir + "/nobody.log", "w") as log:
        farm = subprocess.Popen([*as_nobody, croft, "dev", "--data", home + "/farm", "--no-docker"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait("the farm is up", lambda: any(h["reachable"] for h in ground.get("/croft/v1/overview")["hosts"]))
        done = subprocess.run([croft, "app", "deploy", TOP + "/examples/fibonacci/native.json", "--set", "bin=" + ground.dir, "--timeout", "30"], capture_output=True, text=True)
        assert done.returncode == 0, done
        pids = [int(re.search(r"pid=(\d+)", open(f).read()).group(1)) for f in glob.glob(home + "/farm/node/runs/*/started")]
        assert len(pids) == 3 and all(os.stat(f"/proc/{pid}").st_uid != 0 for pid in pids), pids
    finally:
        subprocess.run([*as_nobody, croft, "down", "--data", home + "/farm"], timeout=60)
        farm.wait(20)
    assert not any(alive(pid) for pid in pids), "no process outlives its farm, also without privileges"


def test_a_stranger_on_our_port(ground, _):
    answers = "import http.server\nclass H(http.server.BaseHTTPRequestHandler):\n def do_GET(s):\n  s.send_response(200); s.end_headers()\nhttp.server.HTTPServer(('127.0.0.1', %d), H).serve_forever()"
    for port, words in ((8080, ("up",)), (5002, ("up", "--docker"))):
        server = subprocess.Popen([sys.executable, "-c", answers % port], stderr=subprocess.DEVNULL)
        try:
            wait("it answers", lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2).status == 200)
            _, err = ground.dev(*words, code=1)
            assert f"something else answers on 127.0.0.1:{port}" in err, err
        finally:
            server.kill()
            server.wait()


def main():
    preset, wanted = sys.argv[1], sys.argv[2:] or ["words", "native", "docker"]
    stories = {"words": (test_words, test_what_is_missing_is_installed, test_without_privileges, test_a_stranger_on_our_port), "native": (test_up, test_status_and_env, test_the_tour, test_down), "docker": (test_up, test_status_and_env, test_the_tour, test_down)}
    for form in wanted:
        ground = Ground(preset)
        try:
            for test in stories[form]:
                begun = time.monotonic()
                test(ground, form)
                print(f"ok      {form}: {test.__name__} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Exception as e:  # noqa: BLE001
            print(f"FAILED  {form}: {test.__name__}: {type(e).__name__}: {e}", flush=True)
            log = ground.state + "/croft.log"
            if os.path.exists(log):
                print(subprocess.run(["tail", "-40", log], capture_output=True, text=True).stdout)
            sys.exit(1)
        finally:
            subprocess.run([TOP + "/dev", "down"], capture_output=True, env=ground.env)
            shutil.rmtree(ground.dir, ignore_errors=True)


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main()
