"""What secure.py and the lab attack a farm with: paths and verbs, and programs that run as tasks or beside the farm."""
import json
import re
import subprocess
import sys

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

# Bodies that mean harm and would be taken from one who may: by verb and path, or by path for all verbs. What is not here is asked with "{}".
EVIL = {"cmd": "exec sleep 1000", "cpus": 0.01, "mem": 16, "instances": 0, "portDefinitions": []}
HARM = {path: json.dumps(body) for path, body in {
    "/v2/apps": dict(EVIL, id="/service/evil"), "PUT /v2/apps": [dict(EVIL, id="/service/evil")], "PATCH /v2/apps": [{"id": "/service/fibonacci", "instances": 5}],
    "/v2/apps/service/fibonacci": {"instances": 5}, "/v2/apps/other/app": {"instances": 5}, "/v2/groups": {"id": "/service/evils", "apps": [dict(EVIL, id="a")]}, "/v2/groups/other": {"apps": [dict(EVIL, id="evil")]},
    "/api/services": {"id": "/service/fibonacci", "acl": "path_beg /evil"}, "/api/services/other/app": {"id": "/other/app", "acl": "path_beg /evil"}, "/logstash-2026.01.01/_doc/1": {"message": "evil"}, "/x/_doc": {"message": "evil"},
    "/croft/v1/users": {"name": "eve", "password": "correct horse battery", "grants": ["admin"]}, "/croft/v1/users/olga": {"grants": ["admin"]}, "/croft/v1/tokens": {"label": "evil", "grants": ["admin"]},
    "/croft/v1/join-tokens": {"roles": ["master"], "hours": 1}, "/croft/v1/secrets/other/x": {"value": "evil"}, "/croft/v1/ca/rotation": {"hours": 2160}, "/croft/v1/nodes/n1": {"mode": "draining"}, "/croft/v1/rules/other/app": {"acl": "path_beg /evil"},
    "/croft/v1/refusals": {"who": "user olga", "from": "127.0.0.1", "what": "GET /evil", "reason": "evil"}, "/croft/v1/catalog/confirmations": {"balancer": {"id": "evil", "host": "b1", "ip": "127.0.0.1"}, "epoch": 0, "n": 0, "open": {}},
    "/croft/v1/agents": {"info": {"hostname": "evil", "ip": "127.0.0.1", "port": 5051, "ports": "[]", "total": {}}, "id": "", "cluster_id": "", "tasks": []}, "/croft/v1/exec": {"task": "service_fibonacci.x", "command": ["id"]}}.items()}
HARM["/_bulk"] = '{"index":{"_index":"evil"}}\n{"message":"evil"}\n'


def harm(verb, path, otherwise="{}"):
    return HARM.get(f"{verb} {path}", HARM.get(path, otherwise))


# What one who operates /service is refused: port, method, path, body; the host's word before it in the audit log, the apps that it names, and what it would have taken.
REFUSED = ((8080, "PUT", "/v2/apps/other/app", {"instances": 5}, "", ["/other/app"], "changing app /other/app needs operator"), (8080, "DELETE", "/v2/groups/other", None, "", ["/other"], "changing app /other needs operator"),
           (8080, "POST", "/v2/apps", dict(EVIL, id="/other/new"), "", ["/other/new"], "changing app /other/new needs operator"), (8080, "PUT", "/v2/groups", {"id": "/", "apps": [dict(EVIL, id="/new")]}, "", ["/new"], "changing app /new needs operator"),
           (8080, "PUT", "/croft/v1/secrets/service/pw", {"value": "never to be read"}, "", ["/service/pw"], "changing secret /service/pw needs admin"), (8080, "POST", "/croft/v1/users", {"name": "eve", "password": "correct horse battery", "grants": ["admin"]}, "", [], "administering users and tokens needs admin"),
           (8080, "POST", "/croft/v1/nodes/n1", {"mode": "down"}, "", [], "administering the farm needs admin"), (8080, "GET", "/v2/apps/other/app", None, "", ["/other/app"], "seeing app /other/app needs viewer"), (5050, "GET", "/state", None, "", [], "seeing the farm needs viewer"),
           (8000, "PUT", "/croft/v1/rules/other/app", {"id": "/other/app", "acl": "path_beg /"}, "", ["/other/app"], "changing app /other/app needs operator"), (9200, "DELETE", "/logstash-2026.01.01", None, "l1: ", [], "administering the farm needs admin"),
           (5051, "GET", "/monitor/statistics", None, "n1: ", [], "seeing the farm needs viewer"))

# Every call that the filter of native tasks denies, and the arguments with which the kernel, asked by root, has another fault to find: without the filter the answer is never its EPERM (clone3: ENOSYS). x86-64.
CALLS = {"mount": (165, 0, 0, 0, 0, 0), "umount2": (166, 0, -1), "pivot_root": (155, 0, 0), "chroot": (161, 0), "swapon": (167, 0, -1), "swapoff": (168, 0), "reboot": (169, 0, 0, 0, 0), "kexec_load": (246, 0, 9999, 0, 0),
         "kexec_file_load": (320, -1, -1, 0, 0, -1), "init_module": (175, 0, 0, 0), "finit_module": (313, -1, 0, -1), "delete_module": (176, 0, 0), "iopl": (172, 99), "ioperm": (173, -1, 1, 0), "ptrace": (101, 2, 0x7fffffff, 0, 0),
         "process_vm_readv": (310, 0, 0, 0, 0, 0, 1), "process_vm_writev": (311, 0, 0, 0, 0, 0, 1), "add_key": (248, 0, 0, 0, 0, 0), "request_key": (249, 0, 0, 0, 0), "keyctl": (250, 9999, 0, 0, 0, 0), "bpf": (321, 0, 0, 1 << 20),
         "perf_event_open": (298, 0, 0, 0, 0, -1), "settimeofday": (164, 1, 0), "clock_settime": (227, 9999, 0), "clock_adjtime": (305, 9999, 0), "adjtimex": (159, 0), "acct": (163, 1), "quotactl": (179, -1, 0, 0, 0), "setns": (308, -1, 0),
         "unshare": (272, 1), "userfaultfd": (323, 1025), "open_by_handle_at": (304, -1, 0, 0), "name_to_handle_at": (303, -1, 0, 0, 0, -1), "syslog": (103, 3, 0, -1), "sethostname": (170, 0, -1), "setdomainname": (171, 0, -1),
         "fsopen": (430, 0, -1), "fsconfig": (431, -1, 99, 0, 0, 0), "fsmount": (432, -1, -1, -1), "fspick": (433, -1, 0, -1), "move_mount": (429, -1, 0, -1, 0, -1), "open_tree": (428, -1, 0, -1), "mount_setattr": (442, -1, 0, -1, 0, 0),
         "io_uring_setup": (425, 0, 0), "pidfd_getfd": (438, -1, -1, 1), "kcmp": (312, 0x7fffffff, 0x7fffffff, 0, 0, 0), "process_madvise": (440, -1, 0, 0, 0, 1), "clone": (56, 0x10000211, 0, 0, 0, 0), "clone3": (435, 0, 0)}
# Of nobody the kernel refuses these with EPERM before it looks at what is asked: only as root, by filtered(), is it seen that the filter has them.
ROOTS_ALONE = {"pivot_root", "swapoff", "reboot", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "acct", "syslog", "sethostname", "setdomainname", "fsopen", "fsmount", "fspick", "move_mount"}
NOBODYS = {name: call for name, call in CALLS.items() if name not in ROOTS_ALONE}

TRY_CALLS = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
def fault(call):
    ctypes.set_errno(0)
    got = libc.syscall(*[ctypes.c_long(n) for n in call])
    if got == 0 and call[0] == 56: os._exit(0)
    return errno.errorcode[ctypes.get_errno()] if got < 0 else "nothing"
"""


def filtered(program):
    """The fault of each of CALLS to root, behind a filter's program from a file, or behind none."""
    script = TRY_CALLS + """
import sys
if len(sys.argv) > 2:
    with open(sys.argv[2], "rb") as f: code = f.read()
    class Program(ctypes.Structure): _fields_ = [("n", ctypes.c_ushort), ("code", ctypes.c_char_p)]
    if libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code)), 0, 0) != 0: sys.exit("the filter is not taken")
print(json.dumps({name: fault(call) for name, call in json.loads(sys.argv[1]).items()}))
"""
    return json.loads(subprocess.run([sys.executable, "-c", script, json.dumps(CALLS), *([program] if program else [])], capture_output=True, text=True, check=True).stdout)


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
TRY_CALLS
for name, call in CALLS.items():
    print("filtered:" if fault(call) == ("ENOSYS" if name == "clone3" else "EPERM") else "could, but for its arguments:", name, fault(call))
import threading
t = threading.Thread(target=lambda: print("threads start"))
t.start(); t.join()
'
echo all tried
exec sleep 1000
""".replace("TRY_CALLS", TRY_CALLS).replace("CALLS", json.dumps(NOBODYS))

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
                    c.request(verb, path, body=None if verb == "GET" else HARM.get(verb + " " + path, HARM.get(path, "{}")), headers={"Authorization": secret, "Content-Type": "application/json"} if secret else {})
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
    words = {"HARM": repr(HARM), "VIEWER": repr(tuple(viewer)), "LOOKS": repr(VIEWERS), "TARGETS": repr(list(targets)), "SPARED": "(" + spared + ")", "VERBS_AND_PATHS": repr(requests), "FILES": repr(files), "OUT": repr(out)}
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
