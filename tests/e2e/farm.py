"""A farm of its own for a test: croft dev in a network namespace of its own, so that every port is free and nothing is left behind."""
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request


def own_namespace():
    """Runs this program again inside a new network namespace with loopback up. Needs root."""
    if os.environ.get("CROFT_E2E_NETNS") == str(os.getppid()) or os.environ.get("CROFT_E2E_NETNS") == "1":
        for told in (signal.SIGTERM, signal.SIGHUP):  # what was started is taken down, also when we are told to end
            signal.signal(told, lambda number, _: sys.exit(128 + number))
        return
    if os.geteuid() != 0:
        sys.exit("the end-to-end tests need root, for namespaces and cgroups")
    env = dict(os.environ, CROFT_E2E_NETNS="1")
    script = 'ip link set lo up && exec "$0" "$@"'
    os.execvpe("unshare", ["unshare", "--net", "sh", "-c", script, sys.executable] + sys.argv, env)


def end_processes(processes):
    """Asked first, then made to; those that are stopped go on for it."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
    for process in processes:
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Farm:
    """croft dev. `options` are more words for its command line."""

    environment = None       # of the farm's processes; None: this program's own

    def __init__(self, bin_dir, settings="", options=()):
        self.options = list(options)
        self.bin = os.path.abspath(bin_dir)
        self.dir = tempfile.mkdtemp(prefix="croft-e2e-", dir="/var/tmp")
        os.chmod(self.dir, 0o755)
        self.data = os.path.join(self.dir, "farm")
        self.config = os.path.join(self.dir, "croft.toml")
        with open(self.config, "w") as f:
            f.write('instance = "croft-dev"\nauth = "none"\ndrain_ms = 3000\n' + settings)
        self.process = None

    def start(self):
        out = open(os.path.join(self.dir, "croft.log"), "a")
        self.process = subprocess.Popen([self.bin + "/croft", "dev", "--data", self.data, "--config", self.config, "--log-level", "info", *self.options],
                                        stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=self.environment)
        wait("the farm is up", lambda: any(h["reachable"] for h in self.get("/croft/v1/overview")["hosts"]), 10)

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(15)

    def down(self):
        subprocess.run([self.bin + "/croft", "down", "--data", self.data], timeout=60)
        if self.process:
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def secrets_folder(self):
        """Where the node keeps its tasks' secrets in memory."""
        hashed = 0xcbf29ce484222325
        for byte in os.path.join(self.data, "node").encode():
            hashed = (hashed ^ byte) * 0x100000001b3 % 2**64
        return f"/run/croft/secrets/{hashed:016x}"

    def log(self):
        with open(os.path.join(self.dir, "croft.log")) as f:
            return f.read()

    def clean(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def call(self, method, path, body=None, port=8080, headers=None, timeout=10):
        """(status, parsed body or text)"""
        data = body if isinstance(body, (bytes, type(None))) else (body if isinstance(body, str) else json.dumps(body)).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as e:
            status, text = e.code, e.read()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode(errors="replace")

    def get(self, path, port=8080):
        status, body = self.call("GET", path, port=port)
        if status != 200:
            raise AssertionError(f"GET {path}: {status} {body}")
        return body

    def app(self, app):
        return self.get("/v2/apps" + app)["app"]

    def cli(self, *words, check=True):
        done = subprocess.run([self.bin + "/croft", *words], capture_output=True, text=True, timeout=120)
        if check and done.returncode != 0:
            raise AssertionError(f"croft {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def deploy(self, app, wait_for=True):
        status, body = self.call("PUT", "/v2/apps" + app["id"], app)
        assert status in (200, 201), (status, body)
        if wait_for:
            self.settled()
        return body

    def settled(self, limit=60):
        wait("no deployment is under way", lambda: self.get("/v2/deployments") == [], limit)

    def fibonacci(self, instances=3, **more):
        with open(os.path.join(os.path.dirname(__file__), "../../examples/fibonacci/native.json")) as f:
            app = json.loads(f.read().replace("{{bin}}", self.bin))
        app.update(instances=instances, **more)
        return app

    def running(self, app):
        return [t for t in self.app(app)["tasks"] if t["state"] == "TASK_RUNNING" and not t.get("draining")]

    def task_pids(self):
        """pid of each task's init, by task"""
        pids = {}
        runs = os.path.join(self.data, "node", "runs")
        for task in os.listdir(runs):
            try:
                with open(os.path.join(runs, task, "started")) as f:
                    pids[task] = int(f.read().split("pid=")[1].split()[0])
            except (OSError, IndexError):
                pass
        return pids


def wait(what, true, limit=10.0, every=0.02):
    end = time.monotonic() + limit
    last = None
    while time.monotonic() < end:
        try:
            got = true()
            if got:
                return got
        except (OSError, AssertionError, KeyError, http.client.HTTPException) as e:
            last = e
        time.sleep(every)
    raise AssertionError(f"waited {limit} s for: {what}" + (f" ({last})" if last else ""))


def children(pid):
    out = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as f:
                for child in f.read().split():
                    out += [int(child)] + children(int(child))
    except OSError:
        pass
    return out


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def under_load(url, work, connections=4):
    """Runs `work` while wrk asks `url` without a pause. The number of answers, and what went wrong: "" when nothing did."""
    wrk = subprocess.Popen(["wrk", "-t", "2", "-c", str(connections), "-d", "600", "--timeout", "10s", url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(0.3)
    try:
        work()
    finally:
        time.sleep(0.3)
        wrk.send_signal(signal.SIGINT)
        out, _ = wrk.communicate(timeout=20)
    failures = "; ".join(line.strip() for line in out.splitlines() if "Non-2xx" in line or "Socket errors" in line)
    answers = next((int(line.split()[0]) for line in out.splitlines() if " requests in " in line), 0)
    return answers, failures


def run_suite(names, farm, wanted, always=()):
    """Runs the test_ functions of `names` in order against one farm, and takes it down whatever happens."""
    tests = [(name, f) for name, f in names.items() if name.startswith("test_")]
    failed = []
    try:
        farm.start()
        for name, test in tests:
            if wanted and name not in wanted and name not in always:
                continue
            begun = time.monotonic()
            try:
                test(farm)
                print(f"ok      {name} ({time.monotonic() - begun:.1f} s)", flush=True)
            except Exception as e:  # noqa: BLE001
                failed.append(name)
                where = traceback.extract_tb(e.__traceback__)[1]
                print(f"FAILED  {name} ({time.monotonic() - begun:.1f} s): line {where.lineno}: {where.line}: {type(e).__name__}: {e}", flush=True)
                if name == always[0] if always else False:
                    break
    finally:
        farm.down()
    if failed:
        print(farm.log()[-4000:])
        print(f"the farm's files are in {farm.dir}")
        sys.exit(f"{len(failed)} of the end-to-end tests failed: {', '.join(failed)}")
    farm.clean()
