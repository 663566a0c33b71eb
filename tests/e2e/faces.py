#!/usr/bin/env python3
"""End-to-end tests of what other people's clients use: Bamboo's API with the real HAProxy, Mesos's reading side, DNS.   usage: faces.py BIN_DIR [TEST...]"""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, alive, own_namespace, run_suite, under_load, wait  # noqa: E402

APP = "/service/fibonacci"
RULE = {"id": APP, "acl": "path_beg -i " + APP}
ECHO = "import os,socketserver\nclass H(socketserver.StreamRequestHandler):\n  def handle(self):\n    self.wfile.write(b'hello ' + self.rfile.readline())\nclass S(socketserver.ThreadingTCPServer):\n  allow_reuse_address = True\nS(('127.0.0.1', int(os.environ['PORT0'])), H).serve_forever()"


def metric(farm, name, port=8000):
    status, text = farm.call("GET", "/metrics", port=port)
    assert status == 200
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


def haproxy_pid(farm):
    with open(os.path.join(farm.data, "balancer", "haproxy.pid")) as f:
        text = f.read()
    assert text.strip(), "it is being written"
    return int(text.split()[0])


def scale(farm, n):
    assert farm.call("PUT", "/v2/apps" + APP, {"instances": n})[0] == 200
    farm.settled()


def ask(farm, n=10, port=5000):
    return farm.call("GET", f"{APP}/{n}", port=port)


def service_port(farm, app):
    return farm.app(app)["ports"][0]


def dig(*words):
    return subprocess.run(["dig", "@127.0.0.1", "-p", "8053", "+time=2", "+tries=1", *words], capture_output=True, text=True).stdout


def tcp_hello(port):
    with socket.create_connection(("127.0.0.1", port), timeout=3) as s:
        s.sendall(b"you\n")
        return s.recv(100)


def test_the_way_in(farm):
    farm.deploy(farm.fibonacci(3))
    assert farm.call("POST", "/api/services", RULE, port=8000)[0] == 200
    wait("the rule is in force", lambda: ask(farm) == (200, 55))


RAW = """import os,socket,threading
def serve(c):
    c.settimeout(0.5)
    got = b''
    try:
        while chunk := c.recv(65536): got += chunk
    except OSError: pass
    body = got.hex().encode()
    c.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body)
    c.close()
s = socket.create_server(('127.0.0.1', int(os.environ['PORT0'])))
while True: threading.Thread(target=serve, args=(s.accept()[0],)).start()"""
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def test_no_request_is_smuggled(farm):
    """What two readers could read in two ways does not come through HAProxy in both: it is refused, or arrives with one length."""
    farm.deploy({"id": "/raw", "args": ["/usr/bin/python3", "-c", RAW], "instances": 1, "cpus": 0.1, "mem": 64})
    assert farm.call("POST", "/api/services", {"id": "/raw", "acl": "path_beg /raw"}, port=8000)[0] == 200
    wait("the rule is in force", lambda: farm.call("GET", "/raw", port=5000)[0] == 200)
    chunk = b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n"
    heads = (b"Content-Length: 6\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 6", b"Content-Length: 0\r\nContent-Length: %d" % len(chunk), b"Content-Length: +0", b"Content-Length: ",
             b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding : chunked", b" Transfer-Encoding: chunked\r\nContent-Length: 0", b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 0",
             b": empty\r\nContent-Length: 0", b"Content-Length: 0\rTransfer-Encoding: chunked", b"Transfer-Encoding:chunked\nContent-Length: 0")
    for head in heads:
        with socket.create_connection(("127.0.0.1", 5000), timeout=5) as s:
            s.sendall(b"POST /raw HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + chunk)
            s.shutdown(socket.SHUT_WR)
            answer = b""
            while more := s.recv(65536):
                answer += more
        first, _, rest = answer.partition(b"\r\n")
        if b" 200 " not in first:
            assert any(b" %d " % code in first for code in (400, 413, 422, 501, 503)), (head, answer[:200])
            continue
        got = bytes.fromhex(rest.split(b"\r\n\r\n")[1].split(b"HTTP/1.1")[0].decode())
        fields = got.partition(b"\r\n\r\n")[0].lower()
        lengths = fields.count(b"\r\ncontent-length:") + fields.count(b"\r\ntransfer-encoding:")
        body = got.partition(b"\r\n\r\n")[2]
        assert lengths <= 1 and not (b"transfer-encoding" not in fields and SMUGGLED in body and b"content-length: %d" % len(body) not in fields), (head, got)
    farm.call("DELETE", "/api/services//raw", port=8000)
    farm.call("DELETE", "/v2/apps/raw?force=true")


def test_bamboo(farm):
    rules = lambda: farm.get("/api/services", port=8000)  # noqa: E731
    assert rules()[APP] == {"Id": APP, "Acl": RULE["acl"], "Config": {"Acl": RULE["acl"]}}, rules()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "nonsense"):
        acl = f"path_beg -i /{kind[:4]}x"
        status, body = farm.call("POST", "/api/services", {"ID": "a/b", "ACL": acl}, port=8000, headers={"Content-Type": kind})
        assert status == 200 and body == {"Id": "/a/b", "Acl": acl, "Config": None}, (status, body)
        assert rules()["/a/b"]["Acl"] == acl, "who writes reads it at once"
    status, body = farm.call("PUT", "/api/services/%2Fsomething%2Felse", {"id": "/a/b", "config": {"Acl": "hdr(host) -i ab.example.com"}}, port=8000)
    assert status == 200 and body["Config"] == {"Acl": "hdr(host) -i ab.example.com"}, body
    assert rules()["/a/b"]["Acl"] == "hdr(host) -i ab.example.com" and "/something/else" not in rules()
    for i in range(2):  # while the app is there, an answer means that HAProxy routes by it
        assert farm.call("POST", "/api/services", {"id": APP, "acl": f"path_beg -i {APP} || path_beg /turn{i}/"}, port=8000)[0] == 200
        assert farm.call("GET", f"/turn{i}/1", port=5000)[0] != 503, i
        assert farm.call("POST", "/api/services", RULE, port=8000)[0] == 200
        assert farm.call("GET", f"/turn{i}/1", port=5000)[0] == 503, i
    for spelling in ("/api/services//a/b", "/api/services/%2Fa%2Fb", "/api/services/a/b"):
        assert farm.call("DELETE", spelling, port=8000) == (200, None), spelling
        assert "/a/b" not in rules()
        assert farm.call("DELETE", spelling, port=8000) == (400, "zk: node does not exist\n")
        assert farm.call("POST", "/api/services", {"id": "/a/b", "acl": "path /ab"}, port=8000)[0] == 200
    farm.call("DELETE", "/api/services/a/b", port=8000)
    assert farm.call("POST", "/api/services", '{"id":', port=8000) == (400, "Unable to decode JSON request\n")
    assert farm.call("POST", "/api/services", {"acl": "path /x"}, port=8000)[0] == 400
    assert farm.call("POST", "/api/services", {"id": "/x", "acl": "path /x\n  bind *:9999"}, port=8000)[0] == 400
    assert farm.call("DELETE", "/api/services/", port=8000) == (400, "can not use empty ID\n")
    assert farm.call("GET", "/api/services/a", port=8000)[0] == 404
    assert farm.call("GET", "/status", port=8000) == (200, "OK")
    state = farm.get("/api/state", port=8000)
    app = next(a for a in state["Apps"] if a["Id"] == APP)
    assert app["EscapedId"] == "::service::fibonacci" and app["MesosDnsId"] == "fibonacci-service" and len(app["Tasks"]) == 3, app
    assert all(t["Alive"] and t["Ready"] and t["Port"] for t in app["Tasks"]) and state["Services"] == rules()


def test_instances_come_and_go_without_a_reload(farm):
    before = metric(farm, "croft_balancer_reloads_total")
    for n in (6, 2, 3):
        scale(farm, n)
        assert ask(farm) == (200, 55)
    assert metric(farm, "croft_balancer_reloads_total") == before


def test_restart_adopts_haproxy_without_a_reload(farm):
    pid = haproxy_pid(farm)
    farm.kill9()
    trials = [os.path.join(farm.data, "balancer", f"check.{i}.cfg") for i in ("17", "18")]
    for trial in trials:  # as it is left when it was being tried
        open(trial, "w").close()
    assert ask(farm) == (200, 55), "HAProxy and the tasks go on"
    farm.start()
    wait("it is adopted", lambda: "is adopted" in farm.log() and metric(farm, "croft_balancer_apply_seconds_count") > 0)
    assert not [t for t in trials if os.path.exists(t)], "what was being tried by the one before is nobody's any more"
    scale(farm, 4)
    assert haproxy_pid(farm) == pid
    assert metric(farm, "croft_balancer_reloads_total") == 0, farm.log()[-3000:]
    assert ask(farm) == (200, 55)
    scale(farm, 3)


def test_haproxy_killed_while_instances_change(farm):
    pid = haproxy_pid(farm)
    farm.call("PUT", "/v2/apps" + APP, {"instances": 5})
    os.kill(pid, signal.SIGKILL)
    wait("another one serves", lambda: haproxy_pid(farm) != pid and ask(farm) == (200, 55), 15)
    farm.settled()
    scale(farm, 3)
    assert ask(farm) == (200, 55)


def test_a_rule_waits_for_its_app_and_outlives_it(farm):
    assert farm.call("POST", "/api/services", {"id": "/later", "acl": "path_beg /service/later"}, port=8000)[0] == 200
    assert farm.call("GET", "/service/later/10", port=5000)[0] == 503
    later = dict(farm.fibonacci(1), id="/later")
    for _ in range(2):
        farm.deploy(later)
        wait("the way is there", lambda: farm.call("GET", "/service/later/1", port=5000)[0] == 200)
        assert farm.call("DELETE", "/v2/apps/later")[0] == 200
        farm.settled()
        wait("the way is gone", lambda: farm.call("GET", "/service/later/1", port=5000)[0] == 503)
        assert "/later" in farm.get("/api/services", port=8000)
    farm.call("DELETE", "/api/services/later", port=8000)


def test_front_ends_of_service_ports(farm):
    assert farm.call("GET", f"{APP}/10", port=service_port(farm, APP)) == (200, 55)
    farm.deploy({"id": "/echo", "cmd": f'exec {sys.executable} -c "{ECHO}"', "cpus": 0.1, "mem": 64, "user": "root", "instances": 2, "portDefinitions": [{"port": 0}]})
    port = service_port(farm, "/echo")
    wait("plain TCP goes through", lambda: tcp_hello(port) == b"hello you\n")
    fixed = dict(farm.fibonacci(1), id="/fixed", requirePorts=True, portDefinitions=[{"port": 31777}])
    farm.deploy(fixed)
    assert farm.call("GET", "/10", port=31777)[0] == 200, "the task has its port itself"
    for app in ("/echo", "/fixed"):
        assert farm.call("DELETE", "/v2/apps" + app)[0] == 200
    farm.settled()
    wait("the front end is gone", lambda: socket.socket().connect_ex(("127.0.0.1", port)) != 0)


def test_a_taken_service_port_costs_only_its_front_end(farm):
    other = socket.socket()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.bind(("127.0.0.1", 10777))
    other.listen()
    farm.deploy(dict(farm.fibonacci(1), id="/taken", portDefinitions=[{"port": 10777}]))
    wait("it is told", lambda: "service port 10777 is taken" in farm.log())
    assert ask(farm) == (200, 55)
    other.close()
    wait("it is had once it is free", lambda: farm.call("GET", "/10", port=10777)[0] == 200, 15)
    farm.call("DELETE", "/v2/apps/taken")
    farm.settled()


def test_an_idle_connection_survives_a_reload_and_an_update(farm):
    before = metric(farm, "croft_balancer_reloads_total")
    idle = http.client.HTTPConnection("127.0.0.1", 5000, timeout=10)
    idle.request("GET", f"{APP}/1")
    assert idle.getresponse().read()
    farm.deploy(dict(farm.fibonacci(1), id="/another"))
    wait("HAProxy has reloaded", lambda: metric(farm, "croft_balancer_reloads_total") > before)
    farm.deploy(farm.fibonacci(3, env={"DISCOVERY_SERVICE": "fibonacci-service", "COLOUR": "idle"}))
    try:
        idle.request("GET", f"{APP}/10")
        answer = idle.getresponse()
    except (http.client.RemoteDisconnected, ConnectionError):  # closed while it was idle, as a server may: a client connects anew
        idle.close()
        idle.request("GET", f"{APP}/10")
        answer = idle.getresponse()
    said = answer.status, answer.read().strip()
    assert said == (200, b"55"), f"the worker that was replaced sent it to a task that is gone: {said}"
    farm.call("DELETE", "/v2/apps/another")
    farm.settled()


def test_reloads_lose_no_request(farm):
    def deploys():
        for i in range(5):
            farm.deploy(dict(farm.fibonacci(1), id=f"/burst{i}"))
        for i in range(5):
            farm.call("DELETE", f"/v2/apps/burst{i}")
        farm.settled()

    count, failures = under_load(f"http://127.0.0.1:5000{APP}/1", deploys)
    print(f"    {count} requests during the reloads")
    assert count > 20 and not failures, failures


def test_host_names_by_label(farm):
    farm.deploy(dict(farm.fibonacci(1), id="/named", labels={"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "fib.example.com", "HAPROXY_0_BALANCE": "no such thing\nbind *:1"}))
    wait("the host name leads there", lambda: farm.call("GET", "/10", port=5000, headers={"Host": "FIB.example.com:5000"}) == (200, 55))
    assert farm.call("GET", "/10", port=5000, headers={"Host": "other.example.com"})[0] == 503
    assert "HAPROXY_0_BALANCE" in farm.log()
    farm.call("DELETE", "/v2/apps/named")
    farm.settled()


def test_a_configuration_that_cannot_be_written_stops_nobody(farm):
    blocked = os.path.join(farm.data, "balancer", "haproxy.cfg")
    os.remove(blocked)
    os.mkdir(blocked)
    try:
        scale(farm, 4)
        assert ask(farm) == (200, 55)
        wait("it is told", lambda: f"rename to {blocked}" in farm.log())
        port = farm.running(APP)[-1]["ports"][0]
    finally:
        os.rmdir(blocked)
    wait("it is written once it can be", lambda: all(f":{t['ports'][0]} " in open(os.path.join(farm.data, "balancer", "haproxy.cfg")).read() for t in farm.running(APP)), 15)
    assert port
    scale(farm, 3)


def test_a_hundred_places(farm):
    sleepers = {"id": "/many", "cmd": "exec sleep 100000", "cpus": 0.001, "mem": 1, "instances": 60, "portDefinitions": [{"port": 0}]}
    farm.deploy(sleepers)
    with open(os.path.join(farm.data, "balancer", "haproxy.cfg")) as f:
        backend = f.read().split("\nbackend many_0\n")[1].split("\nfrontend")[0].split("\nbackend")[0]
    assert sum(1 for line in backend.splitlines() if " server " in " " + line.strip() + " " or line.strip().startswith("server ")) >= 60
    farm.call("DELETE", "/v2/apps/many")
    farm.settled()


def test_mesos_master(farm):
    scale(farm, 3)
    for path in ("/state", "/master/state", "/state.json", "/master/state.json"):
        state = farm.get(path, port=5050)
        assert state["leader"] == "master@127.0.0.1:5050" and state["slaves"][0]["pid"].startswith("slave(1)@127.0.0.1:"), path
    framework = state["frameworks"][0]
    tasks = [t for t in framework["tasks"] if t["name"] == "fibonacci.service" and t["state"] == "TASK_RUNNING"]
    assert len(tasks) == 3 and framework["name"] == "marathon" and framework["pid"].endswith("@127.0.0.1:8080")
    for t in tasks:
        newest = t["statuses"][-1]
        assert newest["healthy"] and newest["container_status"]["network_infos"][0]["ip_addresses"][0]["ip_address"] == "127.0.0.1", newest
        assert t["discovery"]["ports"]["ports"][0]["number"] and t["resources"]["ports"].startswith("[") and t["slave_id"] == state["slaves"][0]["id"]
    assert len(farm.get("/tasks?limit=2", port=5050)["tasks"]) == 2
    assert farm.get("/metrics/snapshot", port=5050)["master/elected"] == 1
    assert farm.call("GET", "/health", port=5050) == (200, "")
    redirect = http.client.HTTPConnection("127.0.0.1", 5050, timeout=5)
    redirect.request("GET", "/master/redirect")
    answer = redirect.getresponse()
    assert answer.status == 307 and answer.headers["Location"] == "//127.0.0.1:5050"
    packed = subprocess.run(["curl", "-s", "--compressed", "-D", "-", "-o", "/dev/null", "http://127.0.0.1:5050/master/state"], capture_output=True, text=True).stdout
    assert "content-encoding: gzip" in packed.lower(), packed


def test_mesos_agent(farm):
    state = farm.get("/slave(1)/state", port=5051)
    executor = next(e for e in state["frameworks"][0]["executors"] if e["name"] == "fibonacci.service")
    assert executor["tasks"][0]["state"] == "TASK_RUNNING"
    listing = farm.get("/files/browse?path=" + urllib.parse.quote(executor["directory"]), port=5051)
    names = [f["path"].rsplit("/", 1)[1] for f in listing]
    assert {"stdout", "stderr"} <= set(names) and names == sorted(names), names
    path = urllib.parse.quote(executor["directory"] + "/stdout")
    size = farm.get(f"/files/read?path={path}&offset=-1", port=5051)["offset"]
    piece = farm.get(f"/files/read?path={path}&offset=0&length=10", port=5051)
    assert piece["offset"] == 0 and len(piece["data"]) == min(10, size)
    status, text = farm.call("GET", f"/files/download?path={path}", port=5051)
    assert status == 200
    virtual = f"/frameworks/{state['frameworks'][0]['id']}/executors/{executor['id']}/runs/latest/stdout"
    assert farm.get("/files/read?offset=0&length=10&path=" + urllib.parse.quote(virtual), port=5051) == piece
    statistics = next(s for s in farm.get("/monitor/statistics", port=5051) if s["executor_id"] == executor["id"])["statistics"]
    assert statistics["mem_rss_bytes"] > 0 and statistics["mem_limit_bytes"] > 0 and statistics["cpus_limit"] > 0, statistics
    assert farm.get("/containers", port=5051)[0]["container_id"]
    assert farm.get("/metrics/snapshot", port=5051)["slave/tasks_running"] >= 3


def test_dns(farm):
    scale(farm, 3)
    service = "_fibonacci-service._tcp.marathon.mesos"
    assert len(dig("+short", "SRV", service).splitlines()) == 3
    for way in ("+notcp", "+tcp"):
        assert re.search(r"COOKIE: [0-9a-f]{48} \(good\)", dig("+cookie", way, "SRV", service)), dig("+cookie", way, "SRV", service)
    answer = dig("SRV", service.upper())
    assert "status: NOERROR" in answer and " aa " in answer.split("flags:")[1].split(";")[0] + " " and service.upper() in answer
    assert dig("+short", "leader.mesos").strip() == "127.0.0.1" == dig("+short", "fibonacci-service.marathon.mesos").strip() == dig("+short", "slave.mesos").strip()
    assert dig("+short", "SRV", "_leader._tcp.mesos").split()[2:] == ["5050", "leader.mesos."]
    nodata = dig("AAAA", "fibonacci-service.marathon.mesos")
    assert "status: NOERROR" in nodata and "ANSWER: 0" in nodata and "SOA" in nodata, nodata
    assert "status: NXDOMAIN" in dig("nothing.marathon.mesos") and "status: NOERROR" in dig("marathon.mesos", "TXT")
    assert "SOA" in dig("+noall", "+answer", "mesos", "SOA") and "ns1.mesos." in dig("+short", "mesos", "NS")
    assert len(dig("+tcp", "+short", "SRV", service).splitlines()) == 3
    assert "EDNS: version: 0" in dig("leader.mesos") and "BADVERS" in dig("+edns=1", "+noednsneg", "leader.mesos")
    farm.deploy({"id": "/many", "cmd": "exec sleep 100000", "cpus": 0.001, "mem": 1, "instances": 40, "portDefinitions": [{"port": 0}]})
    many = "_many._tcp.marathon.mesos"
    assert " tc " in dig("+ignore", "+noedns", "SRV", many).split("flags:")[1].split(";")[0] + " "
    assert len(dig("+short", "+noedns", "SRV", many).splitlines()) == 40, "dig comes again by TCP"
    assert len(farm.get(f"/v1/services/{many}.", port=8123)) == 40
    farm.call("DELETE", "/v2/apps/many")
    farm.settled()
    assert farm.get(f"/v1/services/{many}.", port=8123) == [{"service": "", "host": "", "ip": "", "port": ""}]
    assert farm.get("/v1/version", port=8123)["Service"] == "Mesos-DNS"
    assert farm.get("/v1/hosts/LEADER.mesos.", port=8123) == [{"host": "leader.mesos.", "ip": "127.0.0.1"}]
    assert service + "." in farm.get("/v1/axfr", port=8123)["Records"]["SRVs"]
    assert farm.get("/v1/enumerate", port=8123)["frameworks"][0]["name"] == "marathon"
    assert farm.call("GET", "/v1/nothing", port=8123) == (404, "404: Page Not Found")


def test_nothing_is_left(farm):
    pid = haproxy_pid(farm)
    farm.down()
    assert not alive(pid)


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for tool in ("dig", "curl", "wrk"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing")
    run_suite(globals(), Farm(sys.argv[1]), sys.argv[2:], always=("test_the_way_in", "test_nothing_is_left"))
