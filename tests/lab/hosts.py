"""What the lab's tests share: requests, waiting, a client that goes on asking, and who leads."""
import base64
import json
import os
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
from machines import DIR, HOSTS  # noqa: E402

APP = lab.APP
SERVICE = "_fibonacci-service._tcp.marathon.mesos."
MASTERS = [h for h in HOSTS.values() if h.kind == "master"]
NODES = [h for h in HOSTS.values() if h.kind == "node"]
LOG = HOSTS["log1"]
BUSYBOX = "/bin/busybox"


def call(method, url, body=None, timeout=10, headers=None, context=None):
    """(status, parsed body or text)"""
    data = None if body is None else json.dumps(body).encode()
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
                status, text = call(method, f"http://{m.address}:8080{path}", body, timeout=3)
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


class Load:
    """A client that asks without a pause, a new connection each time, through the HAProxies in turn. Without `repeat` it never asks twice; with it,
    as a client would where a host may die, on the next master after 1 s: lost is then what no master answered."""

    def __init__(self, path=APP + "/3", want="2", repeat=False):
        self.path, self.want, self.repeat = path, want, repeat
        self.count, self.repeated, self.failures, self.slowest, self.stopping = 0, 0, [], 0.0, False

    def _ask(self, m, timeout):
        try:
            with urllib.request.urlopen(f"http://{m.address}:5000{self.path}", timeout=timeout) as answer:
                text = answer.read().decode()
            return None if text == self.want else text[:80]
        except OSError as e:
            return str(e)

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
        self.go_on(20)
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join(40)

    def go_on(self, requests):
        """Returns when so many more were answered."""
        until = self.count + requests
        wait("requests are answered", lambda: self.count >= until, 60)

    def said(self):
        return (f"{self.count} requests, slowest {self.slowest * 1000:.0f} ms, " + (f"{self.repeated} repeated, " if self.repeat else "") +
                ("; ".join(self.failures[:5]) + f" ({len(self.failures)} failed)" if self.failures else "none failed"))


def leader():
    """The master that leads, as the masters themselves say."""
    def ask():
        for m in MASTERS:
            try:
                status, body = call("GET", f"http://{m.address}:8080/v2/leader", timeout=2)
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
    headers = {"Authorization": "Basic " + base64.b64encode(b"croft:farm").decode()} if login else {}
    return call("GET", f"https://{LOG.address}:5601{path}", headers=headers, context=context)
