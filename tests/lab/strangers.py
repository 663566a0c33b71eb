"""What strangers get of a farm that is installed as it comes: nothing. From a host outside, from a task, from a container. run.py runs them."""
import base64
import json
import os
import shlex
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import lab
from hosts import APP, LOG, MASTERS, NODES, api, call, get, master, remove, settled, tasks, wait
from machines import DIR, HOSTS, ssh

sys.path.insert(0, os.path.join(lab.TOP, "tests/e2e"))
from attacks import PATHS, inside  # noqa: E402

REGISTRY = 5002
REQUESTS = [(verb, path) for path in PATHS[::4] for verb in ("GET", "POST", "DELETE")]
# SSH; the front end that everybody shares; what apps serve, by HAProxy and by Docker. Their own business, and not asked here.
SPARED = "{22, 80, 5000} | set(range(10000, 20001)) | set(range(31000, 32001))"
EVERYBODY = [h.address for h in HOSTS.values()]
OWN = ["/etc/croft/*.toml", "/etc/croft/docker/*", "/etc/croft/cluster/*", "/var/lib/croft/*/*", "/run/croft/secrets/*", "/var/run/docker.sock", "/run/docker.sock", "/proc/1/environ", "/etc/shadow"]
PYTHON_IMAGE = """
set -e
at=$(mktemp -d); trap 'rm -rf "$at"' EXIT
mkdir -p "$at/usr/bin" "$at/usr/lib/python3.11" "$at/tmp"
cp /usr/bin/python3.11 "$at/usr/bin/"
tar -C /usr/lib/python3.11 --exclude=test --exclude=__pycache__ --exclude='config-*' -cf - . | tar -C "$at/usr/lib/python3.11" -xf -
for lib in $(ldd /usr/bin/python3.11 /usr/lib/python3.11/lib-dynload/*.so | grep -o '/[^ ]*' | grep -v ':$' | sort -u); do mkdir -p "$at$(dirname "$lib")"; cp -L "$lib" "$at$lib"; done
tar -C "$at" -cf - . | docker import - log1:5002/python:1 >/dev/null
DOCKER_CONFIG=/etc/croft/docker docker push -q log1:5002/python:1
"""


def a_viewer():
    """An Authorization header of one who may look at everything."""
    status, made = call("POST", api(MASTERS[0], "/croft/v1/tokens"), {"label": "found by a thief", "grants": ["viewer:/"]})
    assert status == 201, (status, made)
    for m in MASTERS:
        wait(f"{m.name} knows it", lambda m=m: call("GET", api(m, "/v2/info"), headers={"Authorization": "Bearer " + made["token"]})[0] == 200, 10)
    return ["Bearer " + made["token"]]


def judged(told, reading=()):
    """Nothing was got, but for names where they are for everybody: (host, port). What answers HTTP has answered nearly all of it: else it was not attacked."""
    told = json.loads(told)
    asked = 4 * len(REQUESTS)
    faint = {where: n for where, n in told["answered"].items() if n < 0.9 * asked}
    assert not faint, (asked, faint)
    got = [g for g in told["got"] if not (g[2] == "GET" and (g[0], g[1]) in reading)]
    assert got == [], got
    secret = [f for f in told["files"] if not f.endswith(("/ca.pem", "/node/seccomp"))]  # the filter that tasks stand behind is no secret
    assert secret == [], secret
    return told["ports"]


def told_by(app):
    """What an attacking task has written into its sandbox."""
    task = wait("it runs", lambda: tasks(app), 60)[0]
    file = f"/var/lib/croft/node/slaves/*/frameworks/*/executors/{task['id']}/runs/latest/got"
    return wait("it has tried all", lambda: ssh(HOSTS[task["host"]], f"cat {file}", check=False).stdout, 240, 1)


def test_zookeeper_answers_masters_only():
    for m in MASTERS:
        for port in (2181, 2888, 3888):
            with socket.socket() as s:
                s.settimeout(3)
                assert s.connect_ex((m.address, port)) != 0, f"{m.name}:{port} answers a stranger"
            for other in NODES[:1] + [LOG]:
                assert ssh(other, f"nc -z -w 2 {m.address} {port}", check=False).returncode != 0, f"{m.name}:{port} answers {other.name}"
    for m in MASTERS:
        assert ssh(MASTERS[0], f"printf ruok | nc -w 2 {m.address} 2181").stdout == "imok", m.name


def test_the_registry_asks_for_a_login():
    url, context = f"https://log1:{REGISTRY}/v2/", ssl.create_default_context(cafile=DIR + "/pki/ca.crt")
    wrong = {"Authorization": "Basic " + base64.b64encode(b"croft:croft").decode()}
    for method, path in (("GET", ""), ("GET", "_catalog"), ("GET", "fibonacci/tags/list"), ("POST", "fibonacci/blobs/uploads/"), ("PUT", "fibonacci/manifests/1"), ("DELETE", "fibonacci/manifests/1")):
        for headers in ({"X-No": "login"}, wrong):
            assert call(method, url + path, headers=headers, context=context)[0] == 401, (method, path)
    right = ssh(NODES[0], "python3 -c 'import json; print(json.load(open(\"/etc/croft/docker/config.json\"))[\"auths\"][\"log1:5002\"][\"auth\"])'").stdout.strip()
    assert call("GET", url + "_catalog", headers={"Authorization": "Basic " + right}, context=context)[0] == 200, "with the login it answers"


def test_nginx_follows_the_clusters_cas():
    workers = lambda: ssh(LOG, "pgrep -f 'nginx: worker'").stdout.split()  # noqa: E731
    before = workers()
    ssh(LOG, "cp -a /etc/croft/cluster/ca.pem /etc/croft/cluster/ca.new && mv /etc/croft/cluster/ca.new /etc/croft/cluster/ca.pem")
    wait("it has read them again", lambda: workers() and not set(workers()) & set(before))


def test_an_attack_from_a_host_outside():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", inside(EVERYBODY, REQUESTS, [], folder + "/got", SPARED, a_viewer())], check=True, timeout=400, cwd="/")
        with open(folder + "/got") as f:
            ports = judged(f.read())
    open_there = {h.name: sorted(p for host, p in ports if host == h.address) for h in HOSTS.values()}
    print(f"    {sum(len(p) for p in open_there.values())} ports of seven hosts; master1 {[p for p in open_there['master1'] if p < 10000]}, node1 {[p for p in open_there['node1'] if p < 10000]}, log1 {open_there['log1']}")
    assert {8080, 5050, 8000} <= set(open_there["master1"]) and {5051, 8123} <= set(open_there["node1"]) and {9200, 5601} <= set(open_there["log1"]), open_there
    assert not {2181, 2888, 3888, 5959} & {p for _, p in ports}, open_there


def test_an_attack_from_a_task():
    script = inside(["127.0.0.1", "172.17.42.1"] + EVERYBODY, REQUESTS, OWN, "$MESOS_SANDBOX/got", SPARED, a_viewer())
    app = {"id": "/attacker", "cmd": "/usr/bin/python3 -c " + shlex.quote(script) + "; exec sleep 1000", "cpus": 0.5, "mem": 128, "portDefinitions": []}
    assert master("PUT", "/v2/apps/attacker", app)[0] == 201
    try:
        node = HOSTS[wait("it runs", lambda: tasks("/attacker"), 60)[0]["host"]]
        ports = judged(told_by("/attacker"), {("127.0.0.1", 8123), ("172.17.42.1", 8123)})
        print(f"    {len(ports)} ports from {node.name}")
        assert [node.address, 5051] in ports and [MASTERS[0].address, 8080] in ports, ports
    finally:
        remove("attacker")


def test_an_attack_from_a_container():
    ssh(NODES[0], PYTHON_IMAGE, timeout=180)
    script = inside(["127.0.0.1", "172.17.42.1"] + EVERYBODY, REQUESTS, OWN[:-2], "$MESOS_SANDBOX/got", SPARED, a_viewer())
    app = {"id": "/attacker", "args": ["/usr/bin/python3.11", "-c", script + "\nimport time\ntime.sleep(1000)"], "cpus": 0.5, "mem": 256, "container": {"type": "DOCKER", "docker": {"image": "log1:5002/python:1", "network": "BRIDGE"}}}
    status, body = master("PUT", "/v2/apps/attacker", app)
    assert status == 201, (status, body)
    try:
        ports = judged(told_by("/attacker"), {("172.17.42.1", 8123)})
        print(f"    {len(ports)} ports")
        assert ["172.17.42.1", 8123] in ports and [MASTERS[0].address, 8080] in ports, ports
    finally:
        remove("attacker")


def test_old_clients_with_a_password_and_the_old_exploit():
    """A client of Marathon's that knows Basic works over TLS; what gives a host away is refused to an operator, and the attempt is in the audit log."""
    assert call("POST", api(MASTERS[0], "/croft/v1/users"), {"name": "olga", "password": "a long password", "grants": ["operator:/shop"]})[0] in (201, 409)
    olga = {"Authorization": "Basic " + base64.b64encode(b"olga:a long password").decode()}
    try:
        for m in MASTERS:
            wait(f"{m.name} knows her", lambda m=m: call("GET", api(m, "/v2/apps"), headers=olga)[0] == 200, 10)
        assert call("GET", api(MASTERS[1], "/v2/apps"), headers=olga)[1] == {"apps": []}, "others' apps are none of hers"
        assert call("GET", api(MASTERS[1], "/v2/apps" + APP), headers=olga)[0] in (403, 404)
        shell = {"id": "/shop/shell", "cmd": "chroot /host sh", "cpus": 0.1, "mem": 32,
                 "container": {"type": "DOCKER", "docker": {"image": "log1:5002/box:1"}, "volumes": [{"containerPath": "/host", "hostPath": "/", "mode": "RW"}]}}
        status, body = call("POST", api(MASTERS[0], "/v2/apps"), shell, headers=olga)
        assert status in (403, 422), (status, body)
        since = time.time()
        status, body = call("PUT", api(MASTERS[0], "/v2/apps" + APP), {"instances": 0}, headers=olga)
        assert status == 403, (status, body)
        wait("the attempt is in the audit log", lambda: any("olga" in r["who"] and not r.get("done", True) for r in call("GET", api(MASTERS[0], "/croft/v1/audit?last=1"))[1]["records"]), 10)
        assert time.time() - since < 12
        assert call("POST", api(MASTERS[0], "/v2/apps"), {"id": "/shop/web", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 16, "portDefinitions": []}, headers=olga)[0] == 201
        settled()
        assert [a["id"] for a in call("GET", api(MASTERS[2], "/v2/apps"), headers=olga)[1]["apps"]] == ["/shop/web"]
    finally:
        remove("shop/web")
        call("DELETE", api(MASTERS[0], "/croft/v1/users/olga"))
    assert get("/v2/deployments") == []
