"""Log lines while the log host is away, or its disk is full, or a node's. run.py runs them."""
import json
import subprocess
import time

import lab
import machines
from hosts import LOG, LONG, NODES, SLACK, Load, api, call, croft, get, journal, leader, master, native, reachable, remove, setting, settled, started, tasks, wait
from machines import ssh

# Prints RATE lines a second, each of SIZE bytes and with its number, until it has printed COUNT; then how long one piece of work took at the most, which is what a
# pipe that nobody reads would show, and by how much it ended late.
FLOOD = """
import json, sys, time
rate, count, size = (int(word) for word in sys.argv[1:])
pad, out = "x" * (size - len('{"flood":1000000,"pad":""}') - 1), sys.stdout
begun = last = time.monotonic()
n, slowest = 0, 0.0
while n < count:
    due = min(count, int((time.monotonic() - begun) * rate) + 1)
    before = time.monotonic()
    out.write("".join('{"flood":%d,"pad":"%s"}\\n' % (1000000 + i, pad) for i in range(n, due)))
    out.flush()
    slowest, n = max(slowest, time.monotonic() - before), due
    time.sleep(0.02)
print(json.dumps({"done": count, "slowest_ms": int(slowest * 1000), "late_ms": int((time.monotonic() - begun - count / rate) * 1000)}), flush=True)
time.sleep(100000)
"""
SCRIPT, LINE = "/usr/local/lib/lab-flood.py", 1000
FIRST = 1_000_000


def flood(name, rate, count, nodes=NODES, size=LINE, wait_for=True):
    """A task on each of these nodes that prints."""
    for node in nodes:
        subprocess.run(machines.ssh_words(node) + [f"cat >{SCRIPT}"], input=FLOOD, text=True, check=True, timeout=20)
    where = [["hostname", "UNIQUE"], ["hostname", "LIKE", "|".join(n.name for n in nodes)]]
    native(name, f"exec python3 {SCRIPT} {rate} {count} {size}", instances=len(nodes), constraints=where, mem=64)
    if wait_for:
        settled()


def search(body, index="logstash-*"):
    status, found = call("POST", api(LOG, f"/{index}/_search", port=9200), body, timeout=60, headers={"Content-Type": "application/json"})
    assert status == 200, (status, found)
    return found


def only(task, *more):
    return {"bool": {"filter": [{"term": {"task": task}}, *more]}}


def count(task, *more):
    found = search({"size": 0, "track_total_hits": True, "query": only(task, *more)})["hits"]["total"]
    return found["value"] if isinstance(found, dict) else found


def end_of(task):
    """What the task said of itself when it had printed everything."""
    hits = search({"size": 1, "query": only(task, {"exists": {"field": "done"}})})["hits"]["hits"]
    return hits[0]["_source"] if hits else None


def numbers(task):
    """How many lines there are of each thousand, with their sums: the same number of others would not add up."""
    found = search({"size": 0, "query": only(task, {"exists": {"field": "flood"}}),
                    "aggs": {"thousands": {"histogram": {"field": "flood", "interval": 1000}, "aggs": {"s": {"extended_stats": {"field": "flood"}}}}}})
    return {int(b["key"]): (b["doc_count"], b["s"]["sum"], b["s"]["sum_of_squares"]) for b in found["aggregations"]["thousands"]["buckets"] if b["doc_count"]}


def expected(first, end):
    out = {}
    for thousand in range(first // 1000 * 1000, end, 1000):
        lines = range(max(first, thousand), min(end, thousand + 1000))
        out[thousand] = (len(lines), float(sum(lines)), float(sum(i * i for i in lines)))
    return out


def all_exactly_once(app, lines, limit=120):
    """Every line of every task of this app is in the store once. What the tasks said of themselves."""
    ids = [t["id"] for t in tasks(app)]
    wait("the lines have arrived", lambda: all(end_of(task) for task in ids), limit, 0.5)
    for task in ids:
        assert count(task, {"exists": {"field": "gap"}}) == 0, f"{task}: a gap"
        have, want = numbers(task), expected(FIRST, FIRST + lines)
        wrong = {k: (have.get(k, (0,))[0], want.get(k, (0,))[0]) for k in have.keys() | want.keys() if have.get(k) != want.get(k)}
        assert not wrong, f"{task}: thousands with lines lost or doubled (there, printed): {dict(sorted(wrong.items())[:5])}, {len(wrong)} in all"
    return [end_of(task) for task in ids]


def accounted(task, lines, size=LINE):
    """That what is there and what the gaps say makes the whole stream, no line doubled. The bytes of each gap, and how many lines are not there as a whole."""
    gaps = [h["_source"]["gap"]["bytes"] for h in search({"size": 1000, "query": only(task, {"exists": {"field": "gap"}})})["hits"]["hits"]]
    have, want = numbers(task), expected(FIRST, FIRST + lines)
    doubled = {k: (v[0], want[k][0]) for k, v in have.items() if v[0] > want[k][0] or v[1] > want[k][1]}
    assert not doubled, doubled
    whole = sum(v[0] for v in have.values())
    # Files end and begin where they will: of a line at the edge of a gap a piece may be left, marked as such. What begins like a line has lost its end.
    pieces = [h["_source"]["message"] for h in search({"size": 1000, "query": {"bool": {"filter": [{"term": {"task": task}}, {"term": {"tags": "_truncated"}}], "must_not": [{"exists": {"field": "flood"}}]}}})["hits"]["hits"]]
    left = sum(len(piece) + (0 if piece.startswith('{"f') else 1) for piece in pieces)
    mangled = count(task, {"bool": {"must_not": [{"exists": {"field": "flood"}}, {"exists": {"field": "gap"}}, {"exists": {"field": "done"}}, {"term": {"tags": "_truncated"}}]}})
    assert mangled == 0, f"{mangled} lines are not what was printed, and not marked"
    assert whole * size + left + sum(gaps) == lines * size, (whole, left, gaps, lines)
    return gaps, lines - whole


def not_slowed(said):
    print("    the applications' slowest write and delay: " + ", ".join(f"{s['slowest_ms']} ms, {s['late_ms']} ms" for s in said))
    assert all(s["slowest_ms"] < 500 * SLACK and s["late_ms"] < 1000 * SLACK for s in said), said


def test_the_log_host_is_away():
    """Without power for ten minutes (or as long as rotation takes to pass over what waits) while the nodes print 5,000 lines a second."""
    away = 600 if LONG else 12
    rate, lines = 1700, 1700 * (away + 18)
    before = started()
    with Load() as load:
        flood("flood", rate, lines)
        task = tasks("/flood")[0]["id"]
        wait("lines arrive", lambda: count(task) > rate, 20)
        machines.kill(LOG)
        time.sleep(away)
        lab.boot_all([LOG], lab.base.path())
        begun = time.monotonic()
        wait("the log host answers", lambda: call("GET", api(LOG, "/", port=9200), timeout=2)[0] == 200, 60)
        said = all_exactly_once("/flood", lines, 120 + away)
        print(f"    {3 * lines} lines, each there once, {time.monotonic() - begun:.0f} s after the log host was back")
        load.go_on(20)
    print(f"    {load.said()}")
    not_slowed(said)
    assert not load.failures, load.said()
    assert started() == before
    remove("flood")


def test_a_spool_that_is_too_small():
    """The oldest lines are dropped, as many as the gap says, and it is shown where they are missing."""
    node, rate, seconds = NODES[2], 5000, 12
    lines = rate * seconds
    with setting([node], "croft-node", "log_spool_bytes = 4194304"):
        wait("the node is heard", lambda: reachable(node), 20)
        since = time.time()
        ssh(LOG, "systemctl stop croft-log")
        try:
            flood("narrow", rate, lines, [node])
            task = tasks("/narrow")[0]
            with Load() as load:
                time.sleep(seconds + 2)
            said = journal(node, "croft-node", since)
            assert "is full: the oldest lines are dropped" in said, said[-2000:]
        finally:
            ssh(LOG, "systemctl start croft-log")
        wait("the newest lines have arrived", lambda: end_of(task["id"]), 60, 0.5)
        not_slowed([end_of(task["id"])])
        gaps, dropped = accounted(task["id"], lines)
        assert gaps, "no gap is recorded"
        shown = croft("logs", "/narrow", "-n", "1", "--query", "_exists_:gap")
        assert "bytes of log lines are missing here" in shown, shown
        print(f"    of {lines} lines {dropped} were dropped, {sum(gaps)} bytes in {len(gaps)} gaps; {load.said()}")
        assert not load.failures, load.said()
        remove("narrow")
    wait("the node is heard", lambda: reachable(node), 20)


FILL = ("rm -f /var/lib/croft/lab-filler*; fallocate -l $(($(df --output=avail -B1 /var/lib/croft | tail -1) - 262144)) /var/lib/croft/lab-filler; "
        "dd if=/dev/zero of=/var/lib/croft/lab-filler.rest bs=4096 2>/dev/null; df --output=avail -B1 /var/lib/croft | tail -1")
FREE = "rm -f /var/lib/croft/lab-filler*"
NO_ROOM = "No space left on device"


def test_a_nodes_disk_is_full():
    """What runs goes on, also over a restart of the agent and a fail-over; what is to be started is told why not; a kill is done; lines that found no room are a gap. With room again everything goes on by itself."""
    node, rate, seconds = NODES[2], 200, 36
    there = [["hostname", "LIKE", node.name]]
    flood("steady", rate, rate * seconds, [node])
    native("doomed", constraints=there)
    settled()
    steady, doomed = tasks("/steady")[0]["id"], tasks("/doomed")[0]["id"]
    pid = ssh(node, f"sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p' /var/lib/croft/node/runs/{doomed}/started").stdout.strip()
    ssh(node, f"kill -0 {pid}")
    before = started()
    with Load() as load:
        try:
            assert int(ssh(node, FILL).stdout.split()[-1]) < 65536
            native("roomless", constraints=there, backoffSeconds=1)
            wait("it says why it does not start", lambda: NO_ROOM in croft("explain", "/roomless", check=False), 30, 0.5)
            print("    " + next(line for line in croft("explain", "/roomless", check=False).split("\n") if NO_ROOM in line)[:180])
            assert master("DELETE", "/v2/apps/doomed?force=true")[0] == 200
            wait("a kill is done all the same", lambda: not [t for t in get("/v2/tasks")["tasks"] if t["id"] == doomed], 20)
            assert ssh(node, f"kill -0 {pid}", check=False).returncode != 0
            ssh(node, "systemctl kill -s KILL croft-node")
            time.sleep(1)
            wait("the agent is back, on a full disk", lambda: reachable(node), 20)
            old = leader()
            assert call("DELETE", api(old, "/v2/leader"))[0] == 200
            wait("another one leads", lambda: leader() is not old, 20)
            wait("the node follows it", lambda: reachable(node), 20)
            time.sleep(12)  # beyond the time for absent agents
            assert reachable(node) and started() == before
            assert [t["id"] for t in tasks("/steady")] == [steady]
            load.go_on(20)
        finally:
            ssh(node, FREE)
        wait("what waited for room runs", lambda: get("/v2/apps/roomless")["app"]["tasksRunning"] == 1, 60)
        wait("everything that the steady one printed has arrived or is told", lambda: end_of(steady), 60, 0.5)
        assert [t["id"] for t in tasks("/steady")] == [steady]
        gaps, lost = wait("the gaps are told", lambda: accounted(steady, rate * seconds), 20, 1)
        print(f"    of {rate * seconds} lines {lost} found no room, told by {len(gaps)} gaps; {load.said()}")
    not_slowed([end_of(steady)])
    assert not load.failures, load.said()
    assert started() == before
    remove("steady")
    remove("roomless")


def test_the_log_hosts_disk_is_full():
    """Bulks are refused with the reason, what is there is found, also over a kill; with room again every line arrives, once."""
    rate, seconds = 500, 16
    flood("patient", rate, rate * seconds)
    before = started()
    task = tasks("/patient")[0]["id"]
    wait("lines arrive", lambda: count(task) > rate, 20)
    since = time.time()
    with Load() as load:
        try:
            ssh(LOG, FILL)
            for node in NODES:
                wait(f"{node.name} says why its lines wait", lambda node=node: NO_ROOM in journal(node, "croft-node", since), 30)
            print("    " + next(line for line in journal(NODES[0], "croft-node", since).split("\n") if NO_ROOM in line)[:200])
            there = count(task)
            assert there > rate
            ssh(LOG, "systemctl kill -s KILL croft-log")
            wait("it starts on a full disk, and finds what it has", lambda: count(task) >= there, 20)
            status, body = call("POST", api(LOG, "/lab/_doc", port=9200), {"lab": "x" * 100_000})
            assert status in (429, 503) and NO_ROOM in json.dumps(body), (status, body)
            time.sleep(2)
        finally:
            ssh(LOG, FREE)
        said = all_exactly_once("/patient", rate * seconds)
        load.go_on(20)
    print(f"    {3 * rate * seconds} lines, each there once; {load.said()}")
    not_slowed(said)
    assert call("GET", api(LOG, "/_cluster/health", port=9200))[1]["status"] == "green"
    assert not load.failures, load.said()
    assert started() == before
    remove("patient")
