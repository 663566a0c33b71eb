#!/usr/bin/env python3
"""End-to-end tests of a farm with logins and TLS: every role a process with a certificate of its own.   usage: secure.py BIN_DIR [TEST...]"""
import base64
import glob
import http.client
import json
import os
import resource
import shlex
import socket
import ssl
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attacks import KEEPER, NOBODYS, PATHS, POWERS, REFUSED, SLOW, THIEF, VERBS, harm, inside  # noqa: E402
from farm import own_namespace, run_suite, wait  # noqa: E402
from secure_farm import APP, HOSTS, PASSWORD, PORTS, SecureFarm, basic, ids, sleeper  # noqa: E402

def test_the_way_through(farm):
    """Old clients' ways, over TLS: Basic, bearer, the command line, the balancer, names, lines of the logs."""
    farm.deploy(farm.fibonacci(2))
    status, body = farm.call("POST", "/api/services", {"id": APP, "acl": "path_beg -i " + APP}, port=8000, who=basic("olga"))
    assert status == 200, (status, body)

    def through():
        connection = http.client.HTTPConnection("127.0.0.1", 5000, timeout=3)
        connection.request("GET", APP + "/15")
        return connection.getresponse().read() == b"610"

    wait("the balancer routes", through, 15)
    connection = http.client.HTTPConnection("127.0.0.1", 8123, timeout=3)
    connection.request("GET", "/v1/services/_fibonacci.service._tcp.marathon.mesos", headers={"Accept": "application/json"})
    assert connection.getresponse().status == 200, "names are read without a login on loopback"
    wait("lines arrive", lambda: farm.get("/logstash-*/_count", port=9200)["count"] > 0, 20)
    assert farm.get("/logstash-*/_count?q=_exists_:original.host", port=9200)["count"] == 0, "shippers name their own host"
    assert "croft_" in farm.call("GET", "/metrics")[1]
    assert APP in farm.run("app", "list").stdout
    farm.deploy(sleeper("/other/app"))


def test_a_stranger_gets_nothing(farm):
    for name, port in PORTS.items():
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            for path in ("/", "/v2/apps", "/v2/apps/x", "/metrics", "/state", "/files/read?path=/etc/passwd", "/api/services", "/_search", "/_bulk", "/x/_doc", "/croft/v1/users", "/croft/v1/overview",
                         "/croft/v1/agents", "/croft/v1/catalog", "/croft/v1/access", "/croft/v1/logs", "/nothing"):
                status, headers, text = farm.answer(method, path, "{}" if method in ("POST", "PUT", "PATCH") else None, port=port, who="")
                assert status in (401, 403), (name, method, path, status, text[:200])
                assert status != 401 or headers["WWW-Authenticate"].startswith("Basic realm="), (name, path)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"speaks HTTPS" in s.recv(4096), (name, "who speaks plain HTTP is told so, and gets nothing")
    for port, path in ((8080, "/ping"), (5050, "/health"), (5051, "/health"), (8000, "/status")):
        assert farm.answer("GET", path, port=port, who="")[0] == 200, path
    assert farm.answer("POST", "/v2/apps", "x" * 100_000, who="")[0] == 413, "a stranger's body is not even read"


def test_rights_by_group(farm):
    vic, olga, adam = basic("vic"), basic("olga"), basic("adam")
    assert set(ids(farm.get("/v2/apps"))) == {APP, "/other/app"}
    for who in (vic, olga):
        assert ids(farm.call("GET", "/v2/apps", who=who)[1]) == [APP]
        assert {t["appId"] for t in farm.call("GET", "/v2/tasks", who=who)[1]["tasks"]} == {APP}
        assert "/other" not in farm.answer("GET", "/v2/groups", who=who)[2]
        overview = farm.call("GET", "/croft/v1/overview", who=who)[1]
        assert [a["id"] for a in overview["apps"]] == [APP] and overview["hosts"] == []
        assert "/other" not in farm.answer("GET", "/api/state", port=8000, who=who)[2]
        for port, path in ((8080, "/v2/apps/other/app"), (5050, "/state"), (5051, "/state"), (8080, "/metrics"), (8080, "/croft/v1/users"), (8080, "/v2/groups/other/apps"), (9200, "/_cat/indices")):
            status, body = farm.call("GET", path, port=port, who=who)
            assert status == 403, (path, status, body)
    assert set(ids(farm.call("GET", "/v2/apps", who=adam)[1])) == {APP, "/other/app"}
    assert farm.call("GET", "/state", port=5050, who=adam)[0] == 200
    scale = {"instances": 1}
    status, body = farm.call("PUT", "/v2/apps" + APP, scale, who=vic)
    assert status == 403 and body["message"] == "Not Authorized to perform this action!", (status, body)
    assert farm.call("PUT", "/v2/apps" + APP, scale, who=olga)[0] == 200
    farm.settled()
    for method, path, body in (("PUT", "/v2/apps/other/app", scale), ("DELETE", "/v2/apps/other/app", None), ("POST", "/v2/apps", sleeper("/other/new")), ("PUT", "/v2/apps", [sleeper("/other/new")]),
                               ("PUT", "/v2/groups", {"id": "/", "apps": [sleeper("/new")]}), ("PUT", "/v2/groups/other", {"apps": []}), ("PUT", "/v2/groups/?dryRun=true", {"id": "/other/app", "apps": []}), ("DELETE", "/v2/groups/other", None), ("DELETE", "/v2/groups", None),
                               ("POST", "/v2/apps/other/app/restart", None), ("DELETE", "/v2/apps/other/app/tasks", None), ("DELETE", "/v2/leader", None), ("POST", "/croft/v1/nodes/n1", {"mode": "draining"}),
                               ("PUT", "/croft/v1/rules/other/app", {"acl": "path_beg /"}), ("POST", "/croft/v1/users", {"name": "eve", "password": PASSWORD, "grants": ["admin"]}),
                               ("POST", "/croft/v1/tokens", {"label": "x", "grants": ["admin"]}), ("POST", "/croft/v1/join-tokens", {"roles": ["master"]}), ("DELETE", "/v2/queue/other/app/delay", None)):
        status, said = farm.call(method, path, body, who=olga)
        assert status == 403, (method, path, status, said)
    status, body = farm.call("POST", "/api/services", {"id": "/other/app", "acl": "path_beg /"}, port=8000, who=olga)
    assert status == 403 and "olga" in str(body), (status, body)
    other = farm.app("/other/app")["tasks"][0]["id"]
    farm.call("POST", "/v2/tasks/delete", {"ids": [other]}, who=olga)
    assert farm.app("/other/app")["tasks"][0]["id"] == other, "a task that he may not see is none to him"
    status, body = farm.call("POST", "/v2/tasks/delete", {"ids": [farm.app(APP)["tasks"][0]["id"]]}, who=vic)
    assert status == 403, (status, body)
    assert set(ids(farm.get("/v2/apps"))) == {APP, "/other/app"}, "nothing of it happened"


def standing(farm):
    """All that a change would show in."""
    apps = sorted((a["id"], a["version"], a["instances"]) for a in farm.get("/v2/apps")["apps"])
    tasks = sorted(t["id"] for t in farm.get("/v2/tasks")["tasks"])
    return [apps, tasks, farm.get("/api/services", port=8000), farm.get("/croft/v1/users"), farm.get("/croft/v1/tokens"), farm.get("/croft/v1/secrets"), farm.get("/v2/deployments"),
            sorted(i["index"] for i in farm.get("/_cat/indices?format=json", port=9200)), [h["hostname"] for h in farm.get("/croft/v1/overview")["hosts"]]]


def test_a_viewer_changes_nothing(farm):
    """Every port, every verb, with a viewer's login and a body that means harm, where there is one, a body that would be taken from an admin (rights.py asks route by route): nothing is other than before, nothing of another group is told."""
    before, asked, own = standing(farm), 0, ("/v2/leader",)
    bodies = ('{"id": "/other/evil", "cmd": "id", "instances": 0, "name": "eve", "grants": ["admin"], "password": "correct horse battery", "value": "x", "mode": "down", "acl": "path /", "roles": ["master"], "hours": 0}', "[]", "{")
    for name, port in PORTS.items():
        for path in (p for p in PATHS if p != "/croft/v1/login"):  # a token of his own he may have
            for verb in VERBS:
                body = None if verb in ("GET", "HEAD", "OPTIONS", "TRACE") else harm(verb, path, bodies[asked % 3])
                status, _, text = farm.answer(verb, path, body, port=port, who=basic("vic"))
                asked += 1
                assert status < 500 or status == 501, (name, verb, path, status, text[:200])
                assert "/other/app" not in text or "/other/app" in path, (name, verb, path, status, text[:300])
                if verb in ("PUT", "PATCH", "DELETE", "MKCOL", "PROPFIND") or (verb == "POST" and not path.startswith(("/_search", "/v2/tasks/delete"))):
                    assert status >= 400, (name, verb, path, status, text[:200])
    after = standing(farm)
    assert after == before, [(a, b) for a, b in zip(before, after) if a != b]
    print(f"    {asked} requests")


def test_an_attack_from_inside_a_task(farm):
    """Every port that is open on the host, without, with made-up and with a viewer's credentials, and the files and sockets of croft's own."""
    picked = [(v, p) for p in PATHS[::3] for v in ("GET", "POST", "DELETE")]
    files = [farm.dir + "/first.token", farm.dir + "/*.cluster/*.key", farm.dir + "/*.cluster/*.json", farm.data + "/master/*", farm.data + "/node/runs/*/*", farm.data + "/node/agent.json", farm.data + "/*/access.json",
             farm.data + "/balancer/*", farm.data + "/log/*", "/run/croft/secrets/*", "/run/docker.sock", "/proc/1/environ", "/proc/1/root/etc/shadow", "/etc/shadow"]
    script = inside(["127.0.0.1"], picked, files, "$MESOS_SANDBOX/got", viewer=["Bearer " + farm.run("token", "create", "--grant", "viewer:/service", "--label", "found by a thief").stdout.strip()])
    farm.deploy(dict(sleeper("/service/attacker"), mem=128, cmd="/usr/bin/python3 -c " + shlex.quote(script) + "; exec sleep 1000"))
    task = farm.app("/service/attacker")["tasks"][0]["id"]
    told = json.loads(wait("it has tried all", lambda: sandbox_file(farm, task, "got"), 120))
    reading = {(8123, "GET")}  # names are for everybody nearby
    assert [g for g in told["got"] if (g[1], g[2]) not in reading] == [], told["got"]
    assert set(PORTS.values()) <= {p for _, p in told["ports"]}, told["ports"]
    assert [f for f in told["files"] if not f.endswith(("ca.pem", "host.pem"))] == [], told["files"]
    assert all(told["answered"].get(f"127.0.0.1:{p}", 0) > 3.9 * len(picked) for p in PORTS.values()), told["answered"]
    print(f"    {len(told['ports'])} ports, {sum(told['answered'].values())} answers")
    farm.call("DELETE", "/v2/apps/service/attacker?force=true")
    farm.settled()


def test_lines_and_events_by_group(farm):
    vic = basic("vic")

    def apps_in(who, body=None):
        status, found = farm.call("POST", "/logstash-*/_search", body or {"size": 200}, port=9200, who=who)
        assert status == 200, (status, found)
        return {h["_source"].get("app") for h in found["hits"]["hits"]}

    wait("the other app has lines", lambda: "/other/app" in apps_in(None, {"size": 200, "query": {"term": {"app.keyword": "/other/app"}}}), 20)
    farm.deploy(sleeper("/service/talks"))
    wait("so has ours", lambda: "/service/talks" in apps_in(None, {"size": 200, "query": {"term": {"app.keyword": "/service/talks"}}}), 20)
    assert apps_in(vic) and all(a.startswith("/service/") for a in apps_in(vic)), apps_in(vic)
    for query in ({"bool": {"should": [{"match_all": {}}]}}, {"term": {"app.keyword": "/other/app"}}, {"query_string": {"query": "app:*other* OR *"}}):
        assert "/other/app" not in apps_in(vic, {"size": 200, "query": query}), query
    counted = farm.call("POST", "/logstash-*/_search", {"size": 0, "aggs": {"a": {"terms": {"field": "app.keyword"}}}}, port=9200, who=vic)[1]
    assert all(b["key"].startswith("/service/") for b in counted["aggregations"]["a"]["buckets"]), counted
    assert farm.call("POST", "/logstash-*/_search", {"size": 0, "aggs": {"a": {"global": {}, "aggs": {"b": {"terms": {"field": "app.keyword"}}}}}}, port=9200, who=vic)[0] == 403
    assert farm.call("GET", "/logstash-*/_count?q=app:%22%2Fother%2Fapp%22", port=9200, who=vic)[1]["count"] == 0
    assert "/other/app" not in farm.answer("GET", "/croft/v1/logs?q=other", who=vic)[2]
    assert farm.call("POST", "/_bulk", '{"index":{"_index":"logstash-x"}}\n{"app":"/service/x"}\n', port=9200, who=vic)[0] == 403
    task = farm.app("/other/app")["tasks"][0]["id"]
    path = f"/frameworks/{farm.get('/v2/info')['frameworkId']}/executors/{task}/runs/latest/stdout"
    assert farm.call("GET", "/files/read?offset=0&path=" + path, port=5051)[0] == 200
    assert farm.call("GET", "/files/read?offset=0&path=" + path, port=5051, who=vic)[0] == 403
    mine = farm.app("/service/talks")["tasks"][0]["id"]
    assert farm.call("GET", "/files/read?offset=0&path=" + path.replace(task, mine), port=5051, who=vic)[0] == 200
    assert farm.call("GET", "/files/read?offset=0&path=" + path.replace(f"{task}/runs/latest", f"{mine}/runs/latest/../../../{task}/runs/latest"), port=5051, who=vic)[0] == 403
    connection = http.client.HTTPSConnection("127.0.0.1", 8080, timeout=15, context=farm.tls)
    connection.request("GET", "/v2/events", headers={"Authorization": vic, "Accept": "text/event-stream"})
    stream = connection.getresponse()
    assert stream.status == 200
    farm.deploy(sleeper("/other/app", env={"A": "b"}))
    farm.deploy(sleeper("/service/talks", env={"A": "b"}))
    text = ""
    while "deployment_success" not in text:
        text += stream.readline().decode()
    connection.close()
    assert "/service/talks" in text and "/other/app" not in text, text


def test_hosts_speak_for_themselves_only(farm):
    registration = {"info": {"hostname": "m1", "ip": "127.0.0.1", "port": 5051, "ports": "[]", "total": {}}, "agent": "", "cluster_id": "", "tasks": []}
    node = farm.as_host("node")
    for host in ("m1", "n2", ""):
        status, body = farm.call("POST", "/croft/v1/agents", dict(registration, info=dict(registration["info"], hostname=host)), who="", tls=node)
        assert status in (403, 422), (host, status, body)
        if host:
            assert "must not speak for" in str(body), body
    for role in ("balancer", "dns", "log"):
        status, body = farm.call("POST", "/croft/v1/agents", registration, who="", tls=farm.as_host(role))
        assert status == 403 and "must not be an agent" in str(body), (role, status, body)
    agent = farm.get("/slaves", port=5050)["slaves"][0]["id"]
    token = farm.run("token", "join", "--role", "node", "--host", "n2").stdout.strip()
    farm.run("join", "https://127.0.0.1:8080", token, "--folder", f"{farm.dir}/forged.cluster")
    forged = farm.as_host("forged")
    status, body = farm.call("POST", "/croft/v1/agents", dict(registration, id=agent, info=dict(registration["info"], hostname="n2")), who="", tls=forged)
    assert status in (403, 422) and "must not speak for n1" in str(body), (status, body)
    status, body = farm.call("POST", f"/croft/v1/agents/{agent}/reports", {"agent": agent, "subscription": "x"}, who="", tls=forged)
    assert status in (403, 422) and "must not speak for n1" in str(body), (status, body)
    assert farm.call("GET", "/v2/apps", who="", tls=node)[0] == 403, "a host's certificate is no person's login"
    assert farm.get("/croft/v1/overview")["hosts"][0]["reachable"]
    again = farm.run("join", "https://127.0.0.1:8080", token, "--folder", f"{farm.dir}/again.cluster", check=False)
    assert again.returncode != 0 and "used already" in again.stderr, again.stderr
    group = farm.run("token", "join", "--role", "node").stdout.strip()
    for taken in ("n1", "m1"):
        stolen = farm.run("join", "https://127.0.0.1:8080", group, "--host", taken, "--folder", f"{farm.dir}/again.cluster", check=False)
        assert stolen.returncode != 0 and "is there already" in stolen.stderr, stolen.stderr
    more = farm.run("join", "https://127.0.0.1:8080", group, "--host", "n3", "--role", "master", "--folder", f"{farm.dir}/again.cluster", check=False)
    assert more.returncode != 0 and "does not give the role" in more.stderr, more.stderr
    assert not os.path.exists(f"{farm.dir}/again.cluster")


def test_a_certificate_is_renewed_by_its_host_only(farm):
    key = f"{farm.dir}/node.cluster/host.key"
    request = subprocess.run(["openssl", "req", "-new", "-key", key, "-subj", "/CN=n1"], capture_output=True, text=True, check=True).stdout
    status, body = farm.call("POST", "/croft/v1/certificates", {"names": ["127.0.0.1"], "request": request}, who="", tls=farm.as_host("node"))
    assert status == 200 and "croft://" in subprocess.run(["openssl", "x509", "-noout", "-text"], input=body["certificate"], capture_output=True, text=True, check=True).stdout, (status, body)
    status, body = farm.call("POST", "/croft/v1/certificates", {"names": ["l1"], "request": request}, who="", tls=farm.as_host("node"))
    assert status == 403 and "is a name of l1" in str(body), (status, body)
    assert farm.call("POST", "/croft/v1/certificates", {"names": [], "request": request}, who="")[0] == 403


def test_the_old_exploit(farm):
    """What Metasploit's dcos_marathon.rb posts: a container that mounts the host's root, and its cousins."""
    def container(volumes=(), **docker):
        return {"id": "/service/evil", "cmd": "cat /host/etc/shadow", "cpus": 0.1, "mem": 32, "instances": 1,
                "container": {"type": "DOCKER", "docker": dict({"image": "python:3-slim", "network": "HOST"}, **docker), "volumes": list(volumes)}}

    def volume(path):
        return {"containerPath": "/host", "hostPath": path, "mode": "RW"}

    evils = [container([volume("/")]), container([volume("/etc")]), container([volume("/var/run/docker.sock")]), container([volume("/srv/../etc")]), container(privileged=True)]
    evils += [container(parameters=[{"key": k, "value": v}]) for k, v in (("privileged", "true"), ("volume", "/:/host"), ("pid", "host"), ("cap-add", "ALL"), ("device", "/dev/sda"), ("security-opt", "seccomp=unconfined"))]
    for evil in evils:
        assert farm.call("POST", "/v2/apps", evil, who="")[0] == 401
        assert farm.call("POST", "/v2/apps", evil, who=basic("vic"))[0] in (403, 422)
        for who in (basic("olga"), basic("adam"), basic("root"), None):
            status, body = farm.call("POST", "/v2/apps", evil, who=who)
            assert status == 422, (status, body, evil)
    assert "/service/evil" not in ids(farm.get("/v2/apps"))


def test_a_native_task_has_no_powers(farm):
    """S12: nobody's, no capabilities, no new privileges, behind a filter; another user of the host only where policy names him."""
    other = glob.glob(f"{farm.data}/node/slaves/*/frameworks/*/executors/service_fibonacci.*/runs/latest")[0]
    farm.deploy({"id": "/service/powers", "cmd": POWERS.replace("MASTER", farm.dir).replace("OTHER", os.path.realpath(other)), "cpus": 0.1, "mem": 64, "instances": 1, "portDefinitions": []})
    path = f"/frameworks/{farm.get('/v2/info')['frameworkId']}/executors/{farm.app('/service/powers')['tasks'][0]['id']}/runs/latest/stdout"

    def said():
        return farm.get("/files/read?offset=0&length=60000&path=" + path, port=5051)["data"]

    wait("it has tried all", lambda: "all tried" in said())
    lines = said().splitlines()
    nobody = "65534 65534 65534 65534"
    for fact in (f"Uid: {nobody}", f"Gid: {nobody}", "CapEff: 0000000000000000", "CapPrm: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2", "threads start", "cannot: clone3 38", "mine"):
        assert fact in lines, (fact, lines)
    assert not [line for line in lines if line.startswith("could")] and len([line for line in lines if line.startswith("cannot")]) == 17, lines
    assert {line.split()[1] for line in lines if line.startswith("filtered: ")} == set(NOBODYS), "each by the filter's own fault: without it the kernel finds another with what is asked"
    status, body = farm.call("POST", "/v2/apps", dict(sleeper("/service/thief"), fetch=[{"uri": f"file://{farm.dir}/master.cluster/host.key"}]), who=basic("olga"))
    assert status == 201, (status, body)
    failure = wait("it is refused on the node", lambda: farm.app("/service/thief").get("lastTaskFailure"), 10)
    assert "allow_fetch_paths" in failure["message"], failure
    farm.call("DELETE", "/v2/apps/service/thief?force=true")
    farm.settled()
    for who in (basic("olga"), basic("adam"), None):
        status, body = farm.call("POST", "/v2/apps", dict(sleeper("/service/rooted"), user="root"), who=who)
        assert status == 422 and "/user" in str(body) and "allow_users" in str(body), (status, body)
    assert farm.call("POST", "/v2/apps", dict(sleeper("/service/rooted"), user="root"), who=basic("vic"))[0] in (403, 422)
    farm.call("DELETE", "/v2/apps/service/powers")
    farm.settled()


def test_secrets_are_seen_by_their_task_only(farm):
    """S13: in no answer, no file on a disk, no line and no command line; files in running tasks follow a change."""
    password, key, newer = (f"{what}-{os.urandom(8).hex()}" for what in ("password", "key", "newer"))
    app = dict(sleeper("/service/keeper"), cmd=KEEPER, env={"PW": {"secret": "pw"}}, secrets={"pw": {"source": "service/pw"}, "key": {"source": "/service/key"}},
               container={"type": "MESOS", "volumes": [{"containerPath": "conf/key", "secret": "key"}]})
    status, body = farm.call("POST", "/v2/apps", app, who=basic("olga"))
    assert status == 422 and "there is no secret /service/key" in str(body), (status, body)
    assert "version 1" in farm.run("secret", "set", "/service/pw", stdin=password + "\n").stdout
    with open(farm.dir + "/key.file", "w") as f:
        f.write(key)
    farm.run("secret", "set", "/service/key", "--file", farm.dir + "/key.file")
    os.remove(farm.dir + "/key.file")
    for who, path, code in (("olga", "/service/pw", 403), ("vic", "/service/pw", 403), ("adam", "/other/x", 403), ("adam", "/service/of-adam", 201)):
        assert farm.call("PUT", "/croft/v1/secrets" + path, {"value": "x"}, who=basic(who))[0] == code, (who, path)
    assert farm.call("DELETE", "/croft/v1/secrets/service/of-adam", who=basic("adam"))[0] == 200
    for bad, code in (({}, 422), ({"value": ""}, 422), ({"value": 5}, 422), ({"base64": "%"}, 422), ({"value": "x", "base64": "eA=="}, 422), ({"value": "x", "more": 1}, 422), ({"value": "x" * 70000}, 413)):
        assert farm.call("PUT", "/croft/v1/secrets/service/bad", bad)[0] == code, (str(bad)[:60], code)
    assert farm.call("PUT", "/croft/v1/secrets/service/a%20b", {"value": "x"})[0] in (400, 403, 422)
    assert farm.call("GET", "/croft/v1/secrets", who=basic("vic"))[1] == {"secrets": []}
    assert [s["name"] for s in farm.call("GET", "/croft/v1/secrets", who=basic("olga"))[1]["secrets"]] == ["/service/key", "/service/pw"]
    farm.deploy(app)

    def task():
        return farm.app("/service/keeper")["tasks"][0]["id"]

    def seen():
        try:
            with open(glob.glob(f"{farm.data}/node/slaves/*/frameworks/*/executors/{task()}/runs/latest/seen")[0]) as f:
                return f.read().strip()
        except (OSError, IndexError):
            return None

    wait("the task sees both", lambda: seen() == f"{password} {key}", 10)
    assert farm.call("DELETE", "/croft/v1/secrets/service/pw")[0] == 409
    # Nothing of it anywhere else.
    answers = [farm.get(path) for path in ("/v2/apps", "/v2/tasks", "/v2/apps/service/keeper", "/v2/apps/service/keeper/versions", "/croft/v1/secrets", "/croft/v1/secrets/service/pw", "/croft/v1/audit?last=1000", "/croft/v1/overview")]
    answers += [farm.get("/state", port=5050), farm.get("/state", port=5051), farm.get("/logstash-*/_search?size=1000", port=9200)]
    encoded = [base64.b64encode(value.encode()).decode().rstrip("=") for value in (password, key)]
    for needle in (password, key, *encoded):
        assert needle not in json.dumps(answers), "a secret is in an answer"
        files = subprocess.run(["grep", "-rlaF", "--exclude=seen", "--exclude=seen.new", needle, farm.dir], capture_output=True, text=True).stdout
        assert not files, files
        for line in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(line, "rb") as f:
                    assert needle.encode() not in f.read(), line
            except OSError:
                pass
    with open("/proc/mounts") as f:
        assert f"ramfs {farm.secrets_folder()} ramfs" in f.read(), "memory that is never swapped out"
    assert "core limit 0" in sandbox_file(farm, task(), "stdout")
    # Another task, the same user.
    farm.deploy(dict(sleeper("/service/thief"), cmd=THIEF.replace("FOLDER", farm.secrets_folder())))
    thief = farm.app("/service/thief")["tasks"][0]["id"]
    wait("it has tried all", lambda: "all tried" in (sandbox_file(farm, thief, "stdout") or ""), 10)
    told = sandbox_file(farm, thief, "stdout") + sandbox_file(farm, thief, "stderr")
    assert password not in told and key not in told and "ermission denied" in told, told
    farm.call("DELETE", "/v2/apps/service/thief?force=true")
    farm.settled()
    # A file follows without a restart, also over a death of the node; a variable stays until the app is restarted.
    before, begun = task(), time.monotonic()
    farm.run("secret", "set", "/service/key", stdin=newer)
    wait("the file follows", lambda: seen() == f"{password} {newer}", 10)
    print(f"    the task saw the new value after {time.monotonic() - begun:.2f} s")
    farm.roles["node"].kill()
    farm.roles["node"].wait()
    farm.run("secret", "set", "/service/key", stdin=key)
    farm.run("secret", "set", "/service/pw", stdin=newer)
    farm.start_role("node")
    wait("it follows once the node is back", lambda: seen() == f"{password} {key}", 15)
    assert task() == before
    farm.call("POST", "/v2/apps/service/keeper/restart")
    farm.settled()
    wait("the variable is the new one", lambda: seen() == f"{newer} {key}", 10)
    records = farm.call("GET", "/croft/v1/audit?last=1000&path=/service/pw")[1]["records"]
    assert [r["what"] for r in records] == ["secret /service/pw set"] * 2 and records[0]["paths"] == ["/service/pw"], records
    # Several files, all changed while the node was down: each follows for itself.
    for name in "abc":
        assert farm.call("PUT", "/croft/v1/secrets/service/" + name, {"value": "v0"})[0] == 201
    several = dict(sleeper("/service/several"), cmd="while :; do echo $(cat a) $(cat b) $(cat c) > seen.new && mv seen.new seen; sleep 0.1; done", secrets={n: {"source": "/service/" + n} for n in "abc"},
                   container={"type": "MESOS", "volumes": [{"containerPath": n, "secret": n} for n in "abc"]})
    farm.deploy(several)
    of_several = farm.app("/service/several")["tasks"][0]["id"]
    wait("it has three files", lambda: (sandbox_file(farm, of_several, "seen") or "").strip() == "v0 v0 v0", 10)
    farm.roles["node"].kill()
    farm.roles["node"].wait()
    for name in "abc":
        assert farm.call("PUT", "/croft/v1/secrets/service/" + name, {"value": "v1"})[0] == 200
    farm.start_role("node")
    wait("all three follow", lambda: sandbox_file(farm, of_several, "seen").strip() == "v1 v1 v1", 15)
    # What runs, or may be rolled back to, keeps its secrets.
    status, body = farm.call("PUT", "/v2/apps/service/several?partialUpdate=false", dict(sleeper("/service/several"), constraints=[["hostname", "LIKE", "nowhere"]]))
    assert status == 200, body
    assert farm.call("DELETE", "/croft/v1/secrets/service/a")[0] == 409
    farm.call("DELETE", "/v2/deployments/" + body["deploymentId"])
    farm.settled()
    wait("it runs as before", lambda: (sandbox_file(farm, farm.app("/service/several")["tasks"][0]["id"], "seen") or "").strip() == "v1 v1 v1", 10)
    farm.call("DELETE", "/v2/apps/service/several")
    farm.call("DELETE", "/v2/apps/service/keeper")
    farm.settled()
    wait("its values are gone from the node", lambda: os.listdir(farm.secrets_folder()) == [], 5)
    for name in ("pw", "key", "a", "b", "c"):
        farm.run("secret", "remove", "/service/" + name)
    assert farm.call("GET", "/croft/v1/secrets/service/pw")[0] == 404


def sandbox_file(farm, task, name):
    found = glob.glob(f"{farm.data}/node/slaves/*/frameworks/*/executors/{task}/runs/latest/{name}")
    if not found:
        return None
    with open(found[0]) as f:
        return f.read()


def test_checks_of_others_ports(farm):
    """S10: a check is no way to ask what listens on a node."""
    def probing(port):
        return dict(sleeper("/service/probing"), healthChecks=[{"protocol": "TCP", "port": port}], portDefinitions=[{"port": 8099}])

    status, body = farm.call("POST", "/v2/apps", probing(5050), who=basic("olga"))
    assert status == 422 and "/healthChecks(0)/port" in str(body) and "allow_check_ports" in str(body), (status, body)
    assert farm.call("POST", "/v2/apps", probing(8099), who=basic("olga"))[0] == 201
    assert farm.call("DELETE", "/v2/apps/service/probing?force=true", who=basic("olga"))[0] == 200
    farm.settled()


def test_a_browser_of_somebody_elses(farm):
    olga = basic("olga")
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Cookie": "a=b", "Content-Type": "text/plain"}, {"Origin": "https://127.0.0.1:8080", "Content-Type": "application/x-www-form-urlencoded"}):
        status, body = farm.call("PUT", "/v2/apps" + APP, {"instances": 2}, who=olga, headers=headers)
        assert status in (403, 415), (headers, status, body)
    assert farm.call("GET", "/v2/apps", who=olga, headers={"Host": "evil.example:8080"})[0] == 403
    assert farm.call("PUT", "/v2/apps" + APP, {"instances": 1}, who=olga, headers={"Origin": "https://127.0.0.1:8080"})[0] == 200
    farm.settled()
    page = farm.answer("GET", "/")
    assert page[0] == 200 and "unsafe-inline" not in page[1]["Content-Security-Policy"] and page[1]["X-Frame-Options"] == "DENY"


def test_users_and_tokens(farm):
    run = farm.run
    assert run("user", "add", "eva", "--grant", "viewer:/other", stdin=PASSWORD + "\n").returncode == 0
    assert "eva" in run("user", "list").stdout and PASSWORD not in run("user", "list", "--json").stdout
    assert ids(farm.call("GET", "/v2/apps", who=basic("eva"))[1]) == ["/other/app"]
    run("login", "--user", "eva", stdin=PASSWORD + "\n", token=False)
    kept = farm.dir + "/config/croft/login.json"
    assert os.stat(kept).st_mode & 0o777 == 0o600
    assert "user" not in run("whoami", token=False).stdout.split()[0] and "login of eva" in run("whoami", token=False).stdout
    assert "/other/app" in run("app", "list", token=False).stdout and APP not in run("app", "list", token=False).stdout
    refused = run("app", "scale", "/other/app", "2", token=False, check=False)
    assert refused.returncode == 1 and "viewer" in refused.stderr, refused.stderr
    run("user", "passwd", "eva", stdin="another password\n")
    assert farm.call("GET", "/v2/apps", who=basic("eva"))[0] == 401
    assert run("app", "list", token=False, check=False).returncode == 1, "what she logged in with has gone, too"
    made = run("token", "create", "--label", "ci", "--grant", "operator:/service", "--hours", "1").stdout.strip()
    assert ids(farm.call("GET", "/v2/apps", who="Bearer " + made)[1]) == [APP, "/service/talks"]
    identity = made.split("_")[1]
    wait("the log host knows it", lambda: farm.call("GET", "/logstash-*/_count", port=9200, who="Bearer " + made)[0] == 200, 5)
    run("token", "revoke", identity)
    assert farm.call("GET", "/v2/apps", who="Bearer " + made)[0] == 401
    wait("the log host knows that it has gone", lambda: farm.call("GET", "/logstash-*/_count", port=9200, who="Bearer " + made)[0] == 401, 5)
    run("user", "remove", "eva")
    run("logout", token=False)
    for body, field in (({"name": "a:b", "password": PASSWORD, "grants": []}, "user"), ({"name": "x", "password": "short", "grants": []}, "password"), ({"name": "x", "password": PASSWORD, "grants": ["king"]}, "grant"),
                        ({"name": "x", "password": PASSWORD, "grants": [], "more": 1}, "more")):
        status, said = farm.call("POST", "/croft/v1/users", body)
        assert status == 422 and field in said["message"], (body, status, said)
    status, said = farm.call("DELETE", "/croft/v1/users/root")
    assert status == 200
    first = farm.admin.split("_")[1]
    status, said = farm.call("DELETE", "/croft/v1/tokens/" + first)
    assert status == 409 and "nobody would be admin" in said["message"], (status, said)


def refusals_are_written_down(farm):
    """Each once, with who, from where, what and why, and nothing else of hers; what changes is what was done."""
    assert farm.call("POST", "/croft/v1/users", {"name": "nora", "password": PASSWORD, "grants": ["operator:/service"]})[0] == 201
    for port, method, path, body, *_ in REFUSED:
        assert farm.answer(method, "/api/services" if port == 8000 else path, body, port=port, who=basic("nora"))[0] == 403, (port, method, path)
    assert farm.answer("DELETE", f"/v2/apps{APP}/tasks", who=basic("nora"))[0] == 200
    expected = sorted((f"{host}{method} {path}{f' on {port}' if host else ''}", paths, False, why) for port, method, path, _, host, paths, why in REFUSED) + [(f"DELETE /v2/apps{APP}/tasks", [APP], True, "")]
    hers = lambda: farm.call("GET", "/croft/v1/audit?last=1000&who=user%20nora")[1]["records"]  # noqa: E731
    wait("all that hosts tell is there", lambda: len(hers()) >= len(expected), 10)
    told = sorted(((r["what"], r["paths"], r["done"], r.get("reason", "").split("; ")[-1]) for r in hers()), key=lambda r: (r[2], r))
    assert told == expected, [(a, b) for a, b in zip(told, expected) if a != b] or (told, expected)
    assert all(r["who"] == "user nora" and r["from"] == "127.0.0.1" and "never to be read" not in str(r) for r in hers()), hers()
    assert farm.call("DELETE", "/croft/v1/users/nora")[0] == 200
    farm.settled()


def test_the_audit_log(farm):
    records = farm.call("GET", "/croft/v1/audit?last=1000")[1]["records"]
    by = [(r["who"], r["what"], r["done"]) for r in records]
    assert ("user olga", f"PUT /v2/apps{APP}", True) in by, by[-20:]
    refusals_are_written_down(farm)
    assert any(r["who"].startswith("join token") and "n2" in r["what"] for r in records)
    assert all(r["from"] == "127.0.0.1" for r in records if r["who"].startswith("user ")), [r for r in records if r["who"].startswith("user ")][:3]
    text = json.dumps(records)
    assert PASSWORD not in text and farm.admin.split("_", 2)[2] not in text
    assert farm.call("GET", "/croft/v1/audit", who=basic("vic"))[1]["records"] == []
    of_service = farm.call("GET", "/croft/v1/audit?last=1000", who=basic("adam"))[1]["records"]
    assert of_service and all(p.startswith("/service") for r in of_service for p in r["paths"])
    follower = subprocess.Popen([farm.bin + "/croft", "audit", "log", "-f", "-n", "0", "--who", "olga"], stdout=subprocess.PIPE, text=True,
                                env=dict(os.environ, CROFT_URL="https://127.0.0.1:8080", CROFT_CA=farm.ca, CROFT_TOKEN=farm.admin.split()[1], XDG_CONFIG_HOME=farm.dir + "/config"))
    try:
        time.sleep(0.5)
        farm.call("PUT", "/v2/apps" + APP, {"instances": 2}, who=basic("olga"))
        assert f"PUT /v2/apps{APP}" in follower.stdout.readline()
    finally:
        follower.kill()
        follower.wait()
    farm.settled()


def test_the_ca_is_followed(farm):
    """S21: a new CA; every host has a certificate of it within seconds, nothing restarts, and the old one is trusted meanwhile."""
    tasks = sorted(t["id"] for t in farm.app(APP)["tasks"])
    for who, code in (("olga", 403), ("adam", 403)):
        assert farm.call("POST", "/croft/v1/ca/rotation", {"hours": 0}, who=basic(who))[0] == code
    for bad in (-1, "0", 1.5, True, [0]):
        assert farm.call("POST", "/croft/v1/ca/rotation", {"hours": bad})[0] == 422, bad
    assert farm.call("POST", "/croft/v1/join-tokens", {"roles": ["node"], "host": 5})[0] == 422, "it would be a token for any host"
    begun = time.monotonic()
    table = farm.run("ca", "rotate", "--hours", "0").stdout
    assert "trusted" in table and "signs" in table, table
    pems = farm.run("ca", "show", "--pem").stdout.split("-----END CERTIFICATE-----\n")[:-1]
    assert len(pems) == 2
    newest = farm.dir + "/newest.pem"
    with open(newest, "w") as f:
        f.write(pems[1] + "-----END CERTIFICATE-----\n")

    def renewed(role):
        return subprocess.run(["openssl", "verify", "-CAfile", newest, f"{farm.dir}/{role}.cluster/host.pem"], capture_output=True).returncode == 0

    for role in ("master", *HOSTS):
        wait(f"{role} has a certificate of the new CA", lambda: renewed(role), 30)
    print(f"    every host had a certificate of the new CA after {time.monotonic() - begun:.1f} s")
    farm.tls = ssl.create_default_context(cafile=farm.ca)
    wait("the node is there", lambda: any(h["reachable"] for h in farm.get("/croft/v1/overview")["hosts"]), 10)
    assert sorted(t["id"] for t in farm.app(APP)["tasks"]) == tasks
    for face in ("mesos", "agent", "bamboo", "logs", "console"):
        assert farm.answer("GET", "/metrics" if face != "bamboo" else "/status", port=PORTS[face])[0] == 200, face
    only_new = ssl.create_default_context(cafile=newest)
    wait("the master shows it", lambda: farm.answer("GET", "/v2/info", tls=only_new)[0] == 200, 10)
    token = farm.run("token", "join", "--role", "node", "--host", "n9").stdout.strip()
    farm.run("join", "https://127.0.0.1:8080", token, "--folder", f"{farm.dir}/n9.cluster")
    assert farm.call("POST", "/croft/v1/ca/rotation", {"hours": 24})[0] == 200
    assert farm.call("POST", "/croft/v1/ca/rotation", {"hours": 24})[0] == 409, "one at a time"
    states = [ca["state"] for ca in farm.get("/croft/v1/ca/rotation")["cas"]]
    assert states == ["trusted", "signs", "announced"], states


def test_logins_without_a_master(farm):
    """Users and tokens are known where they are needed, and after a restart of a role."""
    farm.roles["master"].kill()
    farm.roles["master"].wait()
    assert farm.call("GET", "/logstash-*/_count", port=9200, who=basic("vic"))[0] == 200
    farm.roles["log"].kill()
    farm.roles["log"].wait()
    farm.start_role("log")
    wait("the log host answers from its copy", lambda: farm.call("GET", "/logstash-*/_count", port=9200, who=basic("vic"))[0] == 200, 15)
    assert farm.call("GET", "/logstash-*/_count", port=9200, who=basic("vic", "wrong password"))[0] == 401
    farm.start_role("master")
    wait("the master is back with its users", lambda: farm.call("GET", "/v2/apps", who=basic("vic"))[0] == 200, 15)
    wait("the node as well", lambda: any(h["reachable"] for h in farm.get("/croft/v1/overview")["hosts"]), 15)
    assert farm.call("GET", "/croft/v1/audit?last=1000")[1]["records"], "the audit log is in the store"


def test_wrong_passwords_leave_others_alone(farm):
    """200 wrong logins a second; whoever is logged in goes on."""
    end = time.monotonic() + 6
    answers, times = [], []

    def attack(n):
        count = 0
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                answers.append(farm.answer("GET", "/v2/apps", who=basic(f"user{n}-{count}", f"guess {count}"), timeout=30)[0])
            except OSError:
                answers.append(0)
            count += 1
            time.sleep(max(0, 0.04 - (time.monotonic() - began)))

    assert farm.call("GET", "/v2/apps", who=basic("olga"))[0] == 200
    threads = [threading.Thread(target=attack, args=(n,)) for n in range(12)]
    for t in threads:
        t.start()
    connection = http.client.HTTPSConnection("127.0.0.1", 8080, timeout=15, context=farm.tls)
    while time.monotonic() < end:
        for who in (farm.admin, basic("olga")):
            began = time.monotonic()
            connection.request("GET", "/v2/apps", headers={"Authorization": who})
            got = connection.getresponse()
            got.read()
            assert got.status == 200, got.status
            times.append(time.monotonic() - began)
        time.sleep(0.01)
    for t in threads:
        t.join()
    times.sort()
    p99 = times[int(len(times) * 0.99)]
    print(f"    {len(answers) / 6:.0f} wrong logins a second; /v2/apps of those who are logged in: p50 {times[len(times) // 2] * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms of {len(times)}")
    assert set(answers) <= {401, 429, 503}, set(answers)
    assert p99 < 0.5, "ten times the bar of 50 ms"


def test_ten_thousand_slow_connections(farm):
    """S17: they begin a handshake, or say nothing; each that is cut off is followed by another."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 11_000, "descriptors"
    attacker = subprocess.Popen([sys.executable, "-c", SLOW, "14"], stdout=subprocess.PIPE, text=True,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2))
    try:
        assert attacker.stdout.readline().strip() == "held", "10,000 at once"
        kept, fresh = [], []
        connection = http.client.HTTPSConnection("127.0.0.1", 8080, timeout=15, context=farm.tls)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            began = time.monotonic()
            connection.request("GET", "/v2/apps", headers={"Authorization": farm.admin})
            assert connection.getresponse().read()
            kept.append(time.monotonic() - began)
            if len(kept) % 10 == 0:
                began = time.monotonic()
                assert farm.call("GET", "/v2/info")[0] == 200
                fresh.append(time.monotonic() - began)
            time.sleep(0.005)
    finally:
        attacker.kill()
        attacker.wait()
    kept.sort(), fresh.sort()
    p99 = kept[int(len(kept) * 0.99)]
    print(f"    beside 10,000 slow connections: /v2/apps p50 {kept[len(kept) // 2] * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms of {len(kept)}; with a connection of its own p50 {fresh[len(fresh) // 2] * 1e3:.1f} ms, worst {fresh[-1] * 1e3:.1f} ms of {len(fresh)}")
    assert p99 < 0.2, "ten times the bar of 20 ms"


def test_what_serve_refuses(farm):
    def serve(role, folder, text=""):
        file = os.path.join(farm.dir, "bad.toml")
        with open(file, "w") as f:
            f.write(f'data = "{farm.dir}/bad"\n{text}[tls]\ncluster = "{folder}"\n')
        done = subprocess.run([farm.bin + "/croft", "serve", "--role", role, "--config", file], capture_output=True, text=True, timeout=20)
        return done.returncode, done.stderr

    code, said = serve("node", farm.dir + "/nowhere")
    assert code == 2 and "croft join" in said and "auth" in said, (code, said)
    code, said = serve("master", farm.dir + "/node.cluster")
    assert code == 1 and "does not name the role master" in said, (code, said)
    os.chmod(farm.dir + "/forged.cluster/host.key", 0o644)
    code, said = serve("node", farm.dir + "/forged.cluster")
    assert code == 2 and "others may read" in said, (code, said)
    code, said = serve("node", farm.dir, 'auth = "open"\n')
    assert code == 2 and "auth" in said, (code, said)


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), SecureFarm(sys.argv[1]), sys.argv[2:], always=("test_the_way_through",))
