"""What the lab's tests share: requests, waiting, a client that goes on asking, and who leads."""
import base64
import contextlib
import functools
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
from machines import DIR, HOSTS, ssh  # noqa: E402

# Times are printed, and judged where nothing else runs; a test fails at ten times its bar. CROFT_LAB_SLACK=1 holds it to the bar itself.
SLACK = float(os.environ.get("CROFT_LAB_SLACK", "10"))
# Whether outages last as long as the text says, and not only as long as they need to be seen.
LONG = bool(os.environ.get("CROFT_LAB_LONG"))

APP = lab.APP
SERVICE = "_fibonacci-service._tcp.marathon.mesos."
MASTERS = [h for h in HOSTS.values() if h.kind == "master"]
NODES = [h for h in HOSTS.values() if h.kind == "node"]
LOG = HOSTS["log1"]
BUSYBOX = "/bin/busybox"


def api(host, path="", port=8080):
    """Where a face of the farm on this host is."""
    return f"{lab.SCHEME}://{host.address}:{port}{path}"


@functools.cache
def operator():
    """How the first operator's requests look: headers, and whose certificates count."""
    if lab.AUTH == "none":
        return {}, None
    return {"Authorization": "Bearer " + lab.token()}, ssl.create_default_context(cafile=lab.SECRETS + "/ca.pem")


def call(method, url, body=None, timeout=10, headers=None, context=None):
    """(status, parsed body or text). A face of the farm is asked as the first operator."""
    data = None if body is None else json.dumps(body).encode()
    if context is None and url.startswith("https:"):
        login, context = operator()
        headers = {**login, **(headers or {})}
    if data is not None:
        headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as e:
        status, text = e.code, e.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode(errors="replace")


def master(method, path, body=None, limit=10):
    """Through the masters in turn until one answers: those that do not lead pass on, or say that nobody leads."""
    end = time.monotonic() + limit
    while True:
        for m in MASTERS:
            try:
                status, text = call(method, api(m, path), body, timeout=3)
                if status not in (502, 503, 504) or time.monotonic() > end:
                    return status, text
            except OSError:
                if time.monotonic() > end:
                    raise
        time.sleep(0.05)


def get(path):
    status, body = master("GET", path)
    assert status == 200, f"GET {path}: {status} {body}"
    return body


def wait(what, true, limit=20.0, every=0.1):
    end, last = time.monotonic() + limit, None
    while time.monotonic() < end:
        try:
            got = true()
            if got:
                return got
        except (OSError, AssertionError, KeyError, ValueError) as e:
            last = e
        time.sleep(every)
    raise AssertionError(f"waited {limit} s for: {what}" + (f" ({last})" if last else ""))


def settled(limit=60):
    wait("no deployment is under way", lambda: get("/v2/deployments") == [], limit)


def tasks(app=APP):
    return get("/v2/apps" + app)["app"]["tasks"]


def reachable(node):
    return any(h["hostname"] == node.name and h["reachable"] for h in get("/croft/v1/overview")["hosts"])


CUT_OFF = (OSError, http.client.HTTPException, ValueError)  # no answer, half of one, or none that can be read


class Ledger:
    """Changes through all masters in turn, none sent twice, and what was answered to each. What was acknowledged must be in force afterwards, on every master; what
    got no answer may be. An app whose last change got none is left alone, since that one may still come."""

    PAUSE, APPS = 0.1, 12

    def __init__(self):
        self.may = {}  # app: the values that it may have; None: it is not there
        self.keys = [f"n{i}" for i in range(self.APPS)]
        self.acknowledged = self.refused = self.unknown = 0
        self.stopping, self.thread = False, None

    def _change(self, m, key, value):
        app = f"/ledger/{key}"
        try:
            if value is None:
                return call("DELETE", api(m, f"/v2/apps{app}?force=true"), timeout=5)[0]
            return call("PUT", api(m, f"/v2/apps{app}?force=true"), {"id": app, "cmd": "true", "instances": 0, "cpus": 0.01, "mem": 16, "portDefinitions": [], "labels": {"value": value}}, timeout=5)[0]
        except CUT_OFF:
            return 0

    def _run(self):
        made = 0
        while not self.stopping:
            at = made % len(self.keys)
            key = self.keys[at]
            value = None if made % 7 == 6 and None not in self.may.get(key, {None}) else f"v{made}"
            status = self._change(MASTERS[made % len(MASTERS)], key, value)
            if status in (200, 201):
                self.may[key] = {value}
                self.acknowledged += 1
            elif 400 <= status < 500:
                self.refused += 1
            else:
                self.may[key] = self.may.get(key, {None}) | {value}
                self.keys[at] = f"n{self.APPS + made}"
                self.unknown += 1
            made += 1
            time.sleep(self.PAUSE)

    def go(self):
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def hold(self):
        """Returns when no change is under way any more."""
        assert self.stopping or not self.thread or self.thread.is_alive(), "the ledger's thread has died"
        self.stopping = True
        if self.thread:
            self.thread.join(20)

    def go_on(self, changes):
        until = self.acknowledged + changes
        wait("changes are acknowledged", lambda: self.acknowledged >= until, 60)

    def judge(self):
        """What was acknowledged is there, whichever master is asked."""
        for m in MASTERS:
            def all_of_it(m=m):
                status, body = call("GET", api(m, "/v2/apps?id=/ledger/"), timeout=5)
                assert status == 200, (m.name, status, body)
                have = {app["id"].rsplit("/", 1)[1]: app["labels"].get("value") for app in body["apps"]}
                wrong = {key: (may, have.get(key)) for key, may in self.may.items() if have.get(key) not in may}
                assert not wrong, f"{m.name}: acknowledged, and not so: {wrong}"
                return True
            wait(f"{m.name} tells every acknowledged change", all_of_it, 30)

    def end(self):
        master("DELETE", "/v2/groups/ledger?force=true", limit=30)

    def said(self):
        return f"{self.acknowledged} changes acknowledged" + (f", {self.refused} refused" if self.refused else "") + (f", {self.unknown} without an answer" if self.unknown else "")


class Load:
    """A client that asks without a pause, a new connection each time, through the HAProxies in turn. Without `repeat` it never asks twice; with it,
    as a client would where a host may die, on the next master after 1 s: lost is then what no master answered. Beside it a ledger of changes, judged at the end."""

    def __init__(self, path=APP + "/3", want="2", repeat=False, port=5000, ledger=True):
        self.path, self.want, self.repeat, self.port, self.ledger = path, want, repeat, port, Ledger() if ledger else None
        self.count, self.repeated, self.failures, self.slowest, self.stopping = 0, 0, [], 0.0, False

    def _ask(self, m, timeout):
        try:
            with urllib.request.urlopen(f"http://{m.address}:{self.port}{self.path}", timeout=timeout) as answer:
                text = answer.read().decode()
            return None if text == self.want else text[:80]
        except CUT_OFF as e:
            return f"{type(e).__name__}: {e}"

    def _run(self):
        while not self.stopping:
            begun = time.monotonic()
            for turn in range(len(MASTERS) if self.repeat else 1):
                m = MASTERS[(self.count + turn) % len(MASTERS)]
                wrong = self._ask(m, 1 if self.repeat and turn < len(MASTERS) - 1 else 10)
                if not wrong:
                    break
                self.repeated += 1
            if wrong:
                self.failures.append(f"{time.strftime('%H:%M:%S')} {m.name}: {wrong}")
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.count += 1
            time.sleep(0.02)

    def __enter__(self):
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        if self.ledger:
            self.ledger.go()
        self.go_on(20)
        return self

    def __exit__(self, kind, *_):
        assert self.thread.is_alive(), "the client has died: " + self.said()
        self.stopping = True
        if self.ledger:
            self.ledger.hold()
        self.thread.join(40)
        if not self.ledger:
            return
        if kind is None:
            self.ledger.judge()
            assert self.ledger.acknowledged, self.ledger.said()
        self.ledger.end()

    def go_on(self, requests):
        """Returns when so many more were answered."""
        until = self.count + requests
        wait("requests are answered", lambda: self.count >= until, 60)

    def said(self):
        return (f"{self.count} requests, slowest {self.slowest * 1000:.0f} ms, " + (f"{self.repeated} repeated, " if self.repeat else "") +
                ("; ".join(self.failures[:5]) + f" ({len(self.failures)} failed)" if self.failures else "none failed") + ("; " + self.ledger.said() if self.ledger else ""))


def leader():
    """The master that leads, as the masters themselves say."""
    def ask():
        for m in MASTERS:
            try:
                status, body = call("GET", api(m, "/v2/leader"), timeout=2)
            except OSError:
                continue
            if status == 200:
                return next((h for h in MASTERS if body["leader"].split(":")[0] in (h.address, h.name)), None)
        return None

    return wait("somebody leads", ask, 30)


def healthy(instances=3):
    return get("/v2/apps" + APP)["app"]["tasksHealthy"] == instances


def console(path, login=True):
    context = ssl.create_default_context(cafile=DIR + "/pki/ca.crt")
    headers = {"Authorization": "Basic " + base64.b64encode(f"{lab.CONSOLE_USER}:{lab.CONSOLE_PASSWORD}".encode()).decode()} if login else {}
    return call("GET", f"https://{LOG.address}:5601{path}", headers=headers, context=context)


def started(app=APP):
    return {t["id"]: t["startedAt"] for t in tasks(app)}


def processes():
    """The first processes of every container and every native task, by node: what must be the same when nothing was restarted."""
    return {node.name: sorted(ssh(node, "docker ps -q | xargs -r docker inspect -f '{{.State.Pid}}'; cat /var/lib/croft/node/runs/*/started 2>/dev/null | grep -o 'pid=[0-9]*'").stdout.split()) for node in NODES}


def remove(name):
    master("DELETE", f"/v2/apps/{name}?force=true")
    settled()


def native(name, command="exec sleep 10000", **more):
    """An app without an image that needs next to nothing, deployed."""
    status, body = master("PUT", f"/v2/apps/{name}?force=true", {"id": "/" + name, "cmd": command, "cpus": 0.01, "mem": 32, "portDefinitions": [], **more}, limit=30)
    assert status in (200, 201), (status, body)


def croft(*words, check=True):
    done = subprocess.run([lab.BUILD + "/bin/croft", "--url", api(MASTERS[0]), "--logs-url", api(LOG, port=9200), *words], capture_output=True, text=True, timeout=60, env=lab.environment())
    assert not check or done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def journal(host, unit, since):
    """What a unit has logged since then, by this machine's clock, which is every host's."""
    return ssh(host, f"journalctl -u {unit} --since @{since:.0f} -o cat --no-pager").stdout


@contextlib.contextmanager
def setting(hosts, units, line):
    """A line more in the hosts' croft.toml, with the units restarted by it, and away again."""
    for h in hosts:
        ssh(h, f"sed -i '1i {line}  # of a test' /etc/croft/croft.toml && systemctl restart {units}")
    try:
        yield
    finally:
        for h in hosts:
            ssh(h, f"sed -i '/# of a test$/d' /etc/croft/croft.toml && systemctl restart {units}")
