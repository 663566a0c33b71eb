"""What secure.py and the lab attack a farm with: paths and verbs, and programs that run as tasks or beside the farm."""
import re

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "MKCOL")
PATHS = ("/", "/v2/apps", "/v2/apps/service/fibonacci", "/v2/apps/other/app", "/v2/apps/other/app/restart", "/v2/apps/other/app/tasks", "/v2/apps/service/fibonacci/versions", "/v2/tasks", "/v2/tasks/delete", "/v2/groups",
         "/v2/groups/other", "/v2/deployments", "/v2/queue", "/v2/queue/other/app/delay", "/v2/leader", "/v2/info", "/metrics", "/state", "/master/state", "/slave(1)/state", "/files/read?path=/etc/passwd", "/files/download?path=/etc/shadow",
         "/files/browse?path=/", "/monitor/statistics", "/api/services", "/api/services/other/app", "/api/state", "/_search", "/_bulk", "/_cat/indices", "/logstash-2026.01.01", "/logstash-2026.01.01/_doc/1", "/x/_doc", "/_all",
         "/croft/v1/users", "/croft/v1/users/olga", "/croft/v1/tokens", "/croft/v1/join-tokens", "/croft/v1/secrets", "/croft/v1/secrets/other/x", "/croft/v1/ca/rotation", "/croft/v1/audit", "/croft/v1/overview",
         "/croft/v1/nodes/n1", "/croft/v1/rules/other/app", "/croft/v1/agents", "/croft/v1/agents/x/reports", "/croft/v1/catalog", "/croft/v1/catalog/confirmations", "/croft/v1/access", "/croft/v1/certificates", "/croft/v1/explain/other/app",
         "/croft/v1/exec", "/croft/v1/exec/0123456789abcdef", "/croft/v1/agents/x/exec/0123456789abcdef", "/croft/v1/refusals", "/croft/v1/login", "/croft/v1/password", "/croft/v1/join", "/v2/groups/versions", "/_msearch",
         "/_search/scroll", "/x/_pit")
# What only looks, for a viewer; and what says no to nobody: a name that is no user's.
VIEWERS = ("/_search", "/_msearch", "/_search/scroll", "/v2/tasks/delete")

POWERS = """
grep -E "^(Uid|Gid|CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status | tr -s "\\t" " "
try() { "$@" >/dev/null 2>&1 && echo "could: $*" || echo "cannot: $*"; }
try mount -t tmpfs none /mnt
try unshare -Ur true
try chroot / true
try dmesg
try cat /etc/shadow
try cat /proc/1/environ
try cat MASTER/master.cluster/host.key
try touch /etc/croft-was-here
try ls "${MESOS_SANDBOX%/slaves/*}/slaves"
try cat OTHER/stderr
echo mine > "$MESOS_SANDBOX/own" && cat "$MESOS_SANDBOX/own"
try sh -c "echo 1 > /sys/fs/cgroup/memory/croft-dev/memory.limit_in_bytes"
/usr/bin/python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for name, call, flags in (("clone into a user namespace", 56, 0x10000000 | 17), ("clone3", 435, 0), ("fsopen", 430, 0), ("io_uring_setup", 425, 0), ("keyctl", 250, 0), ("bpf", 321, 0)):
    r = libc.syscall(call, flags, 0, 0, 0, 0)
    if r == 0: os._exit(0)
    print("could:" if r > 0 else "cannot:", name, ctypes.get_errno())
import threading
t = threading.Thread(target=lambda: print("threads start"))
t.start(); t.join()
'
echo all tried
exec sleep 1000
"""

KEEPER = """
echo "core limit $(ulimit -c)"
while :; do
  echo "$PW $(cat conf/key)" > seen.new && mv seen.new seen
  sleep 0.1
done
"""

THIEF = """
sleep 0.5
for p in FOLDER FOLDER/* /run/croft/secrets "${MESOS_SANDBOX%/slaves/*}/slaves/.secrets/"*; do ls "$p" 2>&1; cat "$p"/files/own/* "$p"/env 2>&1; done
cat /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n" | grep PW=
echo all tried
exec sleep 1000
"""

# As a task, or from a host outside: every port of TARGETS but SPARED, without, with made-up credentials and with a viewer's, who may look; then files and sockets.
# What it got is written to OUT, and how often each port answered: one that did not was not attacked.
INSIDE = """
import glob, http.client, json, os, socket, ssl, threading
open_to_all = {(8080, "/ping"), (5050, "/health"), (5051, "/health"), (8000, "/status"), (8080, "/croft/v1/ca"), (5002, "/")}  # the registry says on / that it lives
context = ssl._create_unverified_context()
got, ports, answered = [], [], {}
def look(host):
    for port in range(1, 65536):
        with socket.socket() as s:
            s.settimeout(2)
            if s.connect_ex((host, port)) == 0:
                ports.append([host, port])
looks = [threading.Thread(target=look, args=(host,)) for host in TARGETS]
for t in looks: t.start()
for t in looks: t.join()
for host, port in sorted(ports):
    if port in SPARED:
        continue
    mute = 0  # what does not speak HTTP says nothing
    for secret in ("", "Bearer croft_0123456789abcdef_x", "Basic YWRtaW46YWRtaW4=") + VIEWER:
        for verb, path in VERBS_AND_PATHS:
            for kind in (http.client.HTTPSConnection, http.client.HTTPConnection):
                if mute > 3:
                    continue
                more = {"context": context} if kind is http.client.HTTPSConnection else {}
                c = kind(host, port, timeout=1, **more)
                try:
                    c.request(verb, path, body=None if verb == "GET" else "{}", headers={"Authorization": secret, "Content-Type": "application/json"} if secret else {})
                    r = c.getresponse()
                    r.read()
                    answered[f"{host}:{port}"] = answered.get(f"{host}:{port}", 0) + 1
                    looks_only = secret in VIEWER and (verb in ("GET", "HEAD", "OPTIONS") or path in LOOKS)
                    if r.status < 400 and (port, path) not in open_to_all and not looks_only:
                        got.append([host, port, verb, path, r.status])
                    break
                except TimeoutError:
                    mute += 1
                except Exception:
                    continue
                finally:
                    c.close()
files = []
for pattern in FILES:
    for name in glob.glob(pattern) or [pattern]:
        try:
            with open(name, "rb") as f:
                f.read(1)
            files.append(name)
        except OSError:
            pass
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(name)
            files.append("connected to " + name)
        except (OSError, ValueError):
            pass
        try:
            with open(name, "ab"):
                files.append("may write " + name)
        except OSError:
            pass
out = os.path.expandvars(OUT)
with open(out + ".new", "w") as f:
    json.dump({"ports": ports, "got": got, "files": files, "answered": answered}, f)
os.rename(out + ".new", out)
"""


def inside(targets, requests, files, out, spared="()", viewer=()):
    """INSIDE for these: addresses; (verb, path) each; patterns of files that must not be reached; ports that are left alone, as an expression; Authorization headers of viewers."""
    words = {"VIEWER": repr(tuple(viewer)), "LOOKS": repr(VIEWERS), "TARGETS": repr(list(targets)), "SPARED": "(" + spared + ")", "VERBS_AND_PATHS": repr(requests), "FILES": repr(files), "OUT": repr(out)}
    return re.sub("|".join(words), lambda m: words[m.group()], INSIDE)


SLOW = """
import select, socket, sys, time
hello = bytes.fromhex("1603010200010001fc0303")
held, waiting, opened = {}, select.epoll(), 0
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for _ in range(400):
        if len(held) >= 10000:
            break
        s = socket.socket()
        s.settimeout(5)
        try:
            s.connect(("127.0.0.1", 8080))
            if opened % 2:
                s.sendall(hello)  # a handshake that begins and goes no further
        except OSError:
            s.close()
            continue
        opened += 1
        held[s.fileno()] = s
        waiting.register(s.fileno(), select.EPOLLIN | select.EPOLLHUP)
    for fd, _ in waiting.poll(0.05):
        waiting.unregister(fd)
        held.pop(fd).close()
    if len(held) >= 10000 and opened < 20000:
        print("held", flush=True)
print(opened, flush=True)
"""
