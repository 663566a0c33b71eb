#!/usr/bin/env python3
"""End-to-end tests of one farm with the real HAProxy.   usage: run.py BIN_DIR [TEST...]"""
import glob
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, alive, children, own_namespace, run_suite, under_load, wait  # noqa: E402
from restarts import APP as VICTIM, PORT as VICTIM_PORT, Asker, attack, haproxy_says, victim  # noqa: E402

APP = "/service/fibonacci"
RULE = {"id": APP, "acl": "path_beg -i " + APP}


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def ask(farm, n=10):
    return farm.call("GET", f"{APP}/{n}", port=5000)


def test_the_way_through(farm):
    begun = time.monotonic()
    farm.cli("app", "deploy", os.path.join(os.path.dirname(__file__), "../../examples/fibonacci/native.json"), "--set", "bin=" + farm.bin)
    print(f"    deployed after {time.monotonic() - begun:.2f} s")
    assert farm.call("POST", "/api/services", RULE, port=8000, headers={"Content-Type": "text/plain"})[0] == 200
    wait("the rule is in force", lambda: ask(farm)[0] == 200)
    begun = time.monotonic()
    assert ask(farm, 15) == (200, 610), ask(farm, 15)
    took = time.monotonic() - begun
    print(f"    fibonacci(15) took {took:.2f} s")
    assert took < 20, "the bar is 2 s; ten times that is no busy machine any more"
    answer = subprocess.run(["dig", "+short", "+time=2", "+tries=1", "@127.0.0.1", "-p", "8053", "SRV", "_fibonacci-service._tcp.marathon.mesos"], capture_output=True, text=True).stdout
    assert len(answer.splitlines()) == 3, answer
    assert len(farm.get("/v1/services/_fibonacci-service._tcp.marathon.mesos.", port=8123)) == 3
    hits = wait("its calls are in the logs", lambda: farm.get("/logstash-*/_search?q=took_ms:%5B0%20TO%20*%5D&size=1", port=9200)["hits"]["hits"], 5)
    source = hits[0]["_source"]
    assert {"n", "called_host", "called_port", "took_ms", "app", "task", "host", "stream"} <= set(source), source
    assert len(farm.get("/state", port=5050)["frameworks"][0]["tasks"]) == 3
    assert len(farm.get("/monitor/statistics", port=5051)) == 3


def test_lines_are_found_within_a_second_and_once(farm):
    mark = f"mark{os.getpid()}"
    farm.deploy({"id": "/printer", "cmd": f"for i in 1 2 3; do echo {mark} $i; done; exec sleep 1000", "cpus": 0.1, "mem": 32})
    begun = time.monotonic()
    wait("the lines are found", lambda: farm.get(f"/logstash-*/_count?q={mark}", port=9200)["count"] == 3, 10)
    print(f"    found after {time.monotonic() - begun:.2f} s")
    with socket.create_connection(("127.0.0.1", 5959)) as s:
        s.sendall(b'{"message":"by tcp","level":"INFO","mark":"%s"}\n' % mark.encode())
    wait("the line sent by TCP is found", lambda: farm.get(f"/logstash-*/_count?q=mark:{mark}", port=9200)["count"] == 1, 10)
    assert farm.call("DELETE", "/v2/apps/printer")[0] == 200
    farm.settled()


def test_scaling(farm):
    for n in (6, 2, 3):
        begun = time.monotonic()
        assert farm.call("PUT", "/v2/apps" + APP, {"instances": n})[0] == 200
        farm.settled()
        assert len(farm.running(APP)) == n
        print(f"    {n} instances after {time.monotonic() - begun:.2f} s")
    assert ask(farm) == (200, 55)


def test_rolling_update_loses_no_request(farm):
    before = {t["id"] for t in farm.running(APP)}

    def update():
        for colour in ("blue", "green", "red"):
            farm.deploy(farm.fibonacci(3, env={"DISCOVERY_SERVICE": "fibonacci-service", "COLOUR": colour}))
            time.sleep(0.5)

    begun = time.monotonic()
    count, failures = under_load(f"http://127.0.0.1:5000{APP}/10", update)
    print(f"    {count} requests during three updates of {time.monotonic() - begun:.2f} s altogether")
    assert count > 20 and not failures, (count, failures)
    after = {t["id"] for t in farm.running(APP)}
    assert len(after) == 3 and not before & after


def test_a_killed_task_is_replaced_and_routed_around(farm):
    pids = farm.task_pids()
    victim = farm.running(APP)[0]["id"]

    def kill():
        for pid in children(pids[victim]):
            os.kill(pid, signal.SIGKILL)
        wait("three run again", lambda: len([t for t in farm.running(APP) if t["id"] != victim]) == 3, 20)

    count, failures = under_load(f"http://127.0.0.1:5000{APP}/1", kill)
    print(f"    {count} requests, none failed" if not failures else f"    {failures}")
    assert count > 20 and not failures, failures


def test_a_killed_spawner_is_made_anew(farm):
    spawners = lambda: [p for p in children(farm.process.pid) if open(f"/proc/{p}/comm").read().strip() == "croft-spawner"]  # noqa: E731
    pids = farm.task_pids()
    (old,) = spawners()
    os.kill(old, signal.SIGKILL)
    farm.deploy({"id": "/after", "cmd": "exec sleep 1000", "cpus": 0.1, "mem": 32})
    (new,) = spawners()
    assert new != old and {k: v for k, v in farm.task_pids().items() if k in pids} == pids
    task = farm.task_pids()[farm.running("/after")[0]["id"]]
    parent = int(open(f"/proc/{task}/stat").read().rsplit(")", 1)[1].split()[1])
    held = children(task) or [task]
    assert open(f"/proc/{held[-1]}/oom_score_adj").read().strip() == "0", "it is not kept before others"
    assert farm.data in open(f"/proc/{parent}/cmdline").read(), "ps tells executors apart"
    farm.call("DELETE", "/v2/apps/after")
    farm.settled()


def test_an_executor_that_was_given_up_starts_nothing(farm):
    """The agent waits for its word for a while, then forgets the run: a task that it started later would be nobody's."""
    for given_up in (False, True):
        run = os.path.join(farm.dir, f"given_up_{given_up}")
        os.makedirs(run + "/box")
        with open(run + "/exec.conf", "wb") as f:
            f.write(b"".join(line.encode() + b"\0" for line in ("arg=/bin/touch", f"arg={run}/ran", f"dir={run}/box", "grace=100")))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [farm.bin + "/croft-executor", "--spawner", "-" * 200]
        spawner = subprocess.Popen(["bash", "-c", f'exec 3<&{theirs.fileno()}; exec "$@"', "spawner", *words], pass_fds=[theirs.fileno()])
        try:
            word, answer = os.pipe()
            if given_up:
                os.close(word)
            socket.send_fds(ours, [run.encode()], [answer])
            os.close(answer)
            if not given_up:
                assert os.read(word, 64) == b"ok"
                os.close(word)
                wait("it has run", lambda: os.path.exists(run + "/exit"))
        finally:
            ours.close()  # at which the spawner ends, once it has seen to what was asked
            theirs.close()
            spawner.wait(5)
        if given_up:
            time.sleep(0.5)  # nothing tells of what does not happen
        assert os.path.exists(run + "/ran") != given_up and (given_up or os.path.exists(run + "/exit"))
        wait("it has given up its socket", lambda: not os.path.exists(run + "/ctl"))


def test_kill_nine_of_croft_restarts_nothing(farm):
    before = {t["id"]: t["startedAt"] for t in farm.running(APP)}
    pids = farm.task_pids()
    farm.deploy({"id": "/counter", "cmd": "i=0; while [ $i -lt 100 ]; do echo count $i; i=$((i+1)); sleep 0.05; done; exec sleep 1000", "cpus": 0.1, "mem": 32})
    for _ in range(12):  # each instance has found the others once: discovery dies with croft dev, and what is known is used on
        assert ask(farm) == (200, 55)
    farm.kill9()
    assert all(alive(p) for p in pids.values())
    assert ask(farm)[0] == 200, "HAProxy and the tasks go on without croft"
    begun = time.monotonic()
    farm.start()
    wait("everything is known again", lambda: {t["id"]: t["startedAt"] for t in farm.running(APP)} == before, 15)
    print(f"    known again after {time.monotonic() - begun:.2f} s")
    assert {k: v for k, v in farm.task_pids().items() if k in pids} == pids
    assert ask(farm) == (200, 55)
    wait("no line is lost and none doubled", lambda: farm.get("/logstash-*/_count?q=app:%22/counter%22", port=9200)["count"] == 100, 20)
    farm.call("DELETE", "/v2/apps/counter")
    farm.settled()


def test_kill_nine_in_the_midst_of_forced_updates(farm):
    """A bounded round of restarts.py, which finds what this one is too short for."""
    answers, words = attack(farm, 2, seed=7, threads=2)
    print(f"    {answers} requests in 2 rounds")
    assert answers > 100 and not words, words
    farm.call("DELETE", f"/v2/apps{VICTIM}?force=true")
    farm.settled()


def test_an_app_that_fails_all_its_checks_is_asked_all_the_same(farm):
    app = victim(2)
    app["cmd"] = app["cmd"].replace('b"HTTP/1.1 200 OK', 'b"HTTP/1.1 500 Sick\\r\\nContent-Length: 0\\r\\n\\r\\n" if b"/health" in got and os.path.exists("sick") else b"HTTP/1.1 200 OK')
    app["cmd"] = app["cmd"].replace("while line.recv(65536):", "while got := line.recv(65536):").replace("ok\\n", '" + os.environ["PORT0"][-3:].encode() + b"')
    app["healthChecks"][0].update(path="/health", intervalSeconds=1, maxConsecutiveFailures=1000)
    farm.deploy(app)
    one, other = (t["ports"][0] for t in farm.running(VICTIM))
    tasks = {t["ports"][0]: t["id"] for t in farm.running(VICTIM)}
    folder = {port: glob.glob(f"{farm.data}/node/slaves/*/frameworks/*/executors/{task}/runs/latest")[0] for port, task in tasks.items()}
    pids = farm.task_pids()

    def who():
        return {str(farm.call("GET", "/", port=VICTIM_PORT)[1]) for _ in range(10)}

    def name(*ports):
        return {str(p)[-3:] for p in ports}

    def down(*ports):
        return all(any(line.startswith("s") and f":{p} op=0" in line for line in haproxy_says(farm)) for p in ports)

    wait("both answer", lambda: who() == name(one, other))
    asker = Asker(farm, 2)
    try:
        open(folder[one] + "/sick", "w").close()
        wait("it is routed around", lambda: who() == name(other))
        open(folder[other] + "/sick", "w").close()
        wait("HAProxy has nobody left", lambda: farm.app(VICTIM)["tasksUnhealthy"] == 2 and down(one, other), 15)
        # The one that was taken out still has its port there, and so passes for down, until the plan without anybody has come.
        wait("both are asked", lambda: who() == name(one, other), 5)
        os.remove(folder[one] + "/sick")
        wait("who is well again is asked alone", lambda: who() == name(one), 10)
        open(folder[one] + "/sick", "w").close()
        wait("nobody is left once more", lambda: farm.app(VICTIM)["tasksUnhealthy"] == 2 and down(one, other), 15)
    finally:
        asker.end()
    print(f"    {asker.answers} requests, {len(asker.failures)} failed")
    assert asker.answers > 100 and not asker.failures, asker.failures[:3]
    for pid in children(pids[tasks[one]]):
        os.kill(pid, signal.SIGKILL)
    fresh = wait("another takes the place of one that died", lambda: [t["ports"][0] for t in farm.running(VICTIM) if t["id"] not in tasks.values()])[0]
    wait("it alone is asked", lambda: who() == name(fresh), 10)
    farm.call("DELETE", f"/v2/apps{VICTIM}?force=true")
    farm.settled()


def test_a_crash_loop_backs_off(farm):
    farm.deploy({"id": "/crash", "cmd": "exit 3", "cpus": 0.1, "mem": 32, "backoffSeconds": 1, "backoffFactor": 2}, wait_for=False)
    wait("the delay grows", lambda: any(q["app"]["id"] == "/crash" and q["delay"]["timeLeftSeconds"] >= 3 for q in farm.get("/v2/queue")["queue"]), 20)
    why = farm.cli("explain", "/crash").stdout
    assert "held back" in why and "exited with status 3" in why, why
    assert farm.app("/crash")["lastTaskFailure"]["state"] == "TASK_FAILED"
    farm.call("DELETE", "/v2/apps/crash?force=true")
    farm.settled()


def test_what_does_not_fit_waits_and_says_why(farm):
    farm.deploy({"id": "/huge", "cmd": "sleep 1000", "cpus": 4000, "mem": 32}, wait_for=False)
    wait("it waits", lambda: any(q["app"]["id"] == "/huge" for q in farm.get("/v2/queue")["queue"]))
    why = farm.cli("explain", "/huge").stdout
    assert "needs 4000 cpus" in why, why
    farm.call("DELETE", "/v2/apps/huge?force=true")
    farm.settled()


def test_too_much_memory_is_told(farm):
    eater = "import time; x=bytearray(200*1024*1024); time.sleep(1000)"
    farm.deploy({"id": "/eater", "cmd": f'exec {sys.executable} -c "{eater}"', "cpus": 0.1, "mem": 32, "backoffSeconds": 60, "user": "root"}, wait_for=False)
    failure = wait("it is killed", lambda: farm.app("/eater").get("lastTaskFailure"), 20)
    assert "Memory limit" in failure["message"], failure
    assert "Raise mem" in farm.cli("explain", "/eater").stdout
    farm.call("DELETE", "/v2/apps/eater?force=true")
    farm.settled()


def test_a_child_that_took_too_much_memory_is_told(farm):
    """The task runs on, so nobody but the executor and the agent can say it; and when the farm ends it later, that is no failure."""
    child = f'{sys.executable} -c "x=bytearray(200*1024*1024)"; echo survived; exec sleep 1000'
    farm.deploy({"id": "/parent", "cmd": child, "cpus": 0.1, "mem": 32, "user": "root"})
    why = wait("it is told", lambda: "runs on, but the kernel killed" in (text := farm.cli("explain", "/parent").stdout) and text, 20)
    assert "32 MiB of mem" in why, why
    wait("its log says so", lambda: "croft: the kernel killed a process of this task" in farm.cli("logs", "/parent").stdout, 20)
    farm.call("PUT", "/v2/apps/parent", {"instances": 0})
    farm.settled()
    assert "lastTaskFailure" not in farm.app("/parent"), farm.app("/parent")["lastTaskFailure"]
    farm.call("DELETE", "/v2/apps/parent?force=true")
    farm.settled()


def term(farm, task):
    """Says TERM to the task's executor as the agent does. Milliseconds until every process of the task is gone."""
    init = farm.task_pids()[task]
    mine = wait("its processes run", lambda: children(init) and children(init) + [init])
    folder = os.open(os.path.join(farm.data, "node", "runs", task), os.O_PATH)
    with socket.socket(socket.AF_UNIX) as ctl:
        ctl.connect(f"/proc/self/fd/{folder}/ctl")  # the whole path is longer than a socket's name may be
        begun = time.monotonic()
        ctl.sendall(b"term 5000\n")
        wait("all of it is gone", lambda: not any(alive(p) for p in mine), 5, 0.001)
    os.close(folder)
    return (time.monotonic() - begun) * 1000, len(mine) - 1


def test_term_ends_a_task_and_its_daemons(farm):
    """The bar is 100 ms from TERM; a busy machine is no fault, ten times the bar is."""
    daemon = f'exec {sys.executable} -c "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(5000)\n os._exit(0)\nos.wait()\ntime.sleep(5000)"'
    for name, cmd, processes in (("sleep", "exec sleep 5000", 1), ("sleep in a shell", "sleep 5000; true", 2), ("a double-forking daemon", daemon, 2)):
        farm.deploy({"id": "/term", "cmd": cmd, "cpus": 0.1, "mem": 64, "portDefinitions": [], "backoffSeconds": 1, "user": "root"})
        task = farm.running("/term")[0]["id"]
        there = lambda: len(children(farm.task_pids()[task])) == processes  # noqa: E731
        wait("its daemons run", lambda: there() and not time.sleep(0.1) and there())  # the one between has gone by then
        took, count = term(farm, task)
        print(f"    {name}: {count} processes gone {took:.0f} ms after TERM")
        assert count == processes and took < 1000, (name, count, took)
        farm.call("DELETE", "/v2/apps/term?force=true")
        farm.settled()


def test_a_start_of_twenty_seconds(farm):
    """With 30 s of grace it lives, with 5 it is killed, and explain says which field to raise."""
    def slow(name, grace):
        app = dict(farm.fibonacci(1), id=name, env={"START_DELAY_MS": "20000"}, backoffSeconds=300)
        app["healthChecks"][0].update(gracePeriodSeconds=grace, intervalSeconds=1, timeoutSeconds=1, maxConsecutiveFailures=1)
        return app

    begun = time.monotonic()
    for name, grace in (("/patient", 30), ("/hasty", 5)):
        farm.deploy(slow(name, grace), wait_for=False)
    task = wait("it runs", lambda: farm.running("/patient"))[0]["id"]
    why = wait("the hasty one is killed", lambda: "killed by its health check" in (text := farm.cli("explain", "/hasty").stdout) and text, 15)
    assert 5 < time.monotonic() - begun < 15 and "raise healthChecks.gracePeriodSeconds: it is 5" in why, why
    wait("the patient one is healthy", lambda: farm.app("/patient")["tasksHealthy"] == 1, 30)
    took = time.monotonic() - begun
    print(f"    healthy after {took:.1f} s; of the other: {why.strip().splitlines()[-2]}")
    assert took > 19 and farm.running("/patient")[0]["id"] == task and farm.app("/hasty")["tasksHealthy"] == 0
    for name in ("/patient", "/hasty"):
        farm.call("DELETE", f"/v2/apps{name}?force=true")
    farm.settled()


def test_delete_and_post_at_once(farm):
    app = farm.fibonacci(3)
    for _ in range(2):
        old = {t["id"] for t in farm.running(APP)}
        assert farm.call("DELETE", "/v2/apps" + APP)[0] == 200
        status, body = farm.call("POST", "/v2/apps", app)
        assert status == 201, (status, body)
        farm.settled()
        new = {t["id"] for t in farm.running(APP)}
        assert len(new) == 3 and not new & old, (old, new)
    begun = time.monotonic()
    wait("HAProxy leads to the new one", lambda: ask(farm)[0] == 200)  # a front end that comes anew takes a reload, which has its pace
    print(f"    routed {time.monotonic() - begun:.2f} s after the deployment was over")


def test_rules(farm):
    status, body = farm.call("POST", "/api/services", {"id": APP, "acl": "no_such_fetch -i x"}, port=8000)
    assert status == 400 and "no_such_fetch" in body, (status, body)
    assert ask(farm)[0] == 200, "the good rule stays in force"
    assert farm.call("PUT", "/api/services/x", {"id": APP, "acl": "path_beg -i /other"}, port=8000)[0] == 200
    wait("the new path leads there", lambda: farm.call("GET", "/other/10", port=5000) == (200, 55))
    assert farm.call("DELETE", "/api/services" + APP, port=8000)[0] == 200
    wait("no rule, no way", lambda: farm.call("GET", "/other/10", port=5000)[0] == 503)
    assert farm.call("DELETE", "/api/services" + APP, port=8000)[0] == 400
    assert farm.call("POST", "/api/services", RULE, port=8000)[0] == 200
    wait("and back", lambda: ask(farm)[0] == 200)


def test_bad_input(farm):
    assert farm.call("POST", "/v2/apps", '{"id": ')[0] == 400
    status, body = farm.call("POST", "/v2/apps", {"id": "/x", "cmd": "x", "cpus": "many", "instances": -1})
    paths = {d["path"] for d in body["details"]}
    assert status == 422 and {"/cpus", "/instances"} <= paths, body
    assert farm.call("GET", "/v2/apps/nothing")[0] == 404
    assert farm.call("PUT", "/v2/apps/x", {"version": "yesterday"})[0] in (404, 422)
    assert farm.call("GET", "/nothing/here")[0] == 404
    assert farm.call("GET", "/files/read?path=/etc/passwd", port=5051)[0] == 404
    status, _ = farm.call("GET", f"/files/read?path={farm.data}/node/slaves/../../croft.toml", port=5051)
    assert status in (400, 403, 404), status
    big = subprocess.run(["curl", "-s", "-m", "30", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "-H", "Expect:", "--data-binary", "@-", "http://127.0.0.1:8080/v2/apps"],
                         input=b"x" * (100 << 20), capture_output=True).stdout
    assert big == b"413", big
    with socket.create_connection(("127.0.0.1", 8080)) as s:
        s.settimeout(15)
        try:
            for _ in range(64):
                s.sendall(b"GET /" + b"a" * 4096)
        except OSError:
            pass
        answer = s.recv(100)
        assert answer.startswith(b"HTTP/1.1 431"), answer
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for size in (0, 1, 11, 12, 30, 512, 1400):
            s.sendto(os.urandom(size), ("127.0.0.1", 8053))
    out = subprocess.run(["dig", "+short", "+time=2", "+tries=1", "@127.0.0.1", "-p", "8053", "leader.mesos"], capture_output=True, text=True).stdout
    assert out.strip() == "127.0.0.1", out
    assert ask(farm) == (200, 55)


def test_ten_thousand_idle_connections(farm):
    """They hold descriptors and little else; everything goes on beside them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    croft = farm.process.pid
    before = rss_kib(croft)
    begun = time.monotonic()
    idle = []
    try:
        for i in range(10_000):
            idle.append(socket.create_connection(("127.0.0.1", 8080), 10))
            if i % 3 == 0:
                idle[-1].sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n")  # a request that is never finished
        print(f"    10,000 connections after {time.monotonic() - begun:.1f} s, {(rss_kib(croft) - before) / 1024:.0f} MiB more")
        wait("croft holds them", lambda: len(os.listdir(f"/proc/{croft}/fd")) > 10_000)
        begun = time.monotonic()
        assert farm.call("GET", "/ping")[0] == 200 and len(farm.get("/v2/apps")["apps"]) > 0
        print(f"    the API answers after {(time.monotonic() - begun) * 1000:.0f} ms")
        assert farm.call("PUT", "/v2/apps" + APP, {"instances": 4})[0] == 200
        farm.settled()
        wait("a change goes everywhere", lambda: len(farm.get("/v1/services/_fibonacci-service._tcp.marathon.mesos.", port=8123)) == 4)
        assert ask(farm) == (200, 55)
        assert farm.call("PUT", "/v2/apps" + APP, {"instances": 3})[0] == 200
        farm.settled()
    finally:
        for s in idle:
            s.close()
    wait("they are forgotten", lambda: len(os.listdir(f"/proc/{croft}/fd")) < 2000, 15)


def test_down_leaves_nothing(farm):
    pids = list(farm.task_pids().values())
    farm.down()
    assert not any(alive(p) for p in pids)
    assert not glob.glob("/sys/fs/cgroup/*/croft-dev"), glob.glob("/sys/fs/cgroup/*/croft-dev")
    mine = subprocess.run(["pgrep", "-f", farm.data], capture_output=True, text=True).stdout
    assert not mine, mine


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), Farm(sys.argv[1]), sys.argv[2:], always=("test_the_way_through", "test_down_leaves_nothing"))
