"""Stores that are not the farm's, and two leaders at once: what a farm must not believe. run.py runs them."""
import threading
import time

from hosts import MASTERS, NODES, SLACK, Load, api, call, croft, get, healthy, journal, leader, master, native, processes, reachable, remove, setting, settled, started, tasks, wait
from machines import HOSTS, ssh

AGENT_TIMEOUT = 10  # after which a leader replaces what an agent had that it does not hear
CONFIG = "--config /etc/croft/croft.toml"


def on_all(hosts, command, timeout=60):
    """At once: one after the other would be a rolling restart."""
    failed = []

    def one(h):
        try:
            ssh(h, command, timeout=timeout)
        except Exception as e:  # told to the test's thread
            failed.append(e)

    threads = [threading.Thread(target=one, args=(h,)) for h in hosts]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise failed[0]


def refused_on_all_nodes(since, words):
    for node in NODES:
        wait(f"{node.name} says why it does not register", lambda node=node: words in journal(node, "croft-node", since), 30)


def test_masters_on_an_empty_store():
    """Somebody points the masters at a store on which nobody knows this farm: the nodes refuse it, and nothing is killed, also when the time for absent agents is over."""
    before, pids = started(), processes()
    with Load() as load:
        load.ledger.go_on(10)
        load.ledger.hold()
        since = time.time()
        on_all(MASTERS, "systemctl stop croft-master")
        with setting(MASTERS, "croft-master", 'zookeeper_tree = "/nowhere"'):
            leader()
            refused_on_all_nodes(since, "belongs to cluster")
            assert get("/v2/apps") == {"apps": []}
            time.sleep(AGENT_TIMEOUT + 2)
            assert get("/croft/v1/overview")["hosts"] == [], "nobody joined it"
            assert processes() == pids
            on_all(MASTERS, "systemctl stop croft-master")
        wait("all nodes are heard", lambda: all(reachable(n) for n in NODES), 30)
        wait("all tasks are healthy", healthy, 30)
        load.ledger.go()
        load.ledger.go_on(10)
    print(f"    {load.said()}")
    assert not load.failures, load.said()
    assert started() == before and processes() == pids


def swap_zookeepers_data(commands):
    on_all(MASTERS, "systemctl stop croft-master")
    on_all(MASTERS, "systemctl stop zookeeper")
    on_all(MASTERS, commands)
    on_all(MASTERS, "systemctl start zookeeper")
    on_all(MASTERS, "systemctl start croft-master")


def test_a_store_rolled_back_and_restored():
    """The ensemble gets its data of earlier: nodes refuse that store until an operator accepts it; what it does not know runs on in quarantine. Then the newer backup is
    restored under the running tasks."""
    then, newer = "/var/tmp/lab-store-then", "/var/tmp/lab-store-newer"
    before = started()
    with Load() as load:
        load.ledger.go_on(5)
        load.ledger.hold()
        on_all(MASTERS, f"rm -rf {then} {newer}; cp -a /var/lib/zookeeper/version-2 {then}")
        native("later")
        settled()
        later, pids = started("/later"), processes()
        load.ledger.go()
        load.ledger.go_on(30)
        load.ledger.hold()
        said = ssh(MASTERS[0], f"rm -f /var/tmp/lab-backup; croft store save /var/tmp/lab-backup {CONFIG}").stdout
        assert "records saved" in said, said
        since = time.time()
        swap_zookeepers_data(f"mv /var/lib/zookeeper/version-2 {newer} && cp -a {then} /var/lib/zookeeper/version-2")
        leader()
        refused_on_all_nodes(since, "it was lost or rolled back")
        assert call("GET", api(leader(), "/v2/apps/later"))[0] == 404, "the store is of before it"
        time.sleep(AGENT_TIMEOUT + 2)
        assert processes() == pids, "nobody obeyed it"

        said = ssh(MASTERS[0], f"croft store accept {CONFIG}").stdout  # the operator's word: this store is the one
        assert "accepted" in said, said
        wait("all nodes are heard", lambda: all(reachable(n) for n in NODES), 30)
        wait("all tasks are healthy", healthy, 30)
        time.sleep(3)
        assert processes() == pids, "what the accepted store does not know runs on"
        assert started() == before

        refused = ssh(MASTERS[0], f"croft store restore /var/tmp/lab-backup {CONFIG}", check=False)
        assert refused.returncode == 4 and "not empty" in refused.stderr, (refused.returncode, refused.stderr)
        said = ssh(MASTERS[0], f"croft store restore --replace /var/tmp/lab-backup {CONFIG}").stdout
        assert "records restored" in said, said
        wait("all nodes are heard", lambda: all(reachable(n) for n in NODES), 30)
        wait("all tasks are healthy", healthy, 30)
        wait("the app of later is known again", lambda: started("/later") == later, 30)
        load.ledger.go()
        load.ledger.go_on(10)
    print(f"    {load.said()}")
    assert not load.failures, load.said()
    assert started() == before and processes() == pids, "nothing was restarted"
    remove("later")
    on_all(MASTERS, f"rm -rf {then} {newer} /var/tmp/lab-backup")


def in_force(app):
    """What every master says about an app: the same."""
    said = {}
    for m in MASTERS:
        status, body = call("GET", api(m, f"/v2/apps/{app}"), timeout=5)
        assert status == 200, (m.name, status, body)
        said[m.name] = (body["app"]["version"], body["app"]["labels"].get("by"))
    assert len(set(said.values())) == 1, said
    return said[MASTERS[0].name]


def test_two_leaders_at_once():
    """The leading master stops in the middle of a rolling update, for longer than its session lives; changes and a kill wait in its sockets meanwhile, and a second leader goes on. Continued,
    the first one must change nothing by what it believed."""
    native("fence", instances=3, env={"V": "1"})
    native("doomed")
    settled()
    doomed = tasks("/doomed")[0]
    its = (doomed["host"], ssh(HOSTS[doomed["host"]], f"grep -o 'pid=[0-9]*' /var/lib/croft/node/runs/{doomed['id']}/started").stdout.strip())
    for i in range(6):
        native(f"contested{i}", "true", instances=0, labels={"by": "nobody"})
    settled()
    before = started()
    waiting = {}

    def change(m, i, by, timeout):
        body = {"id": f"/contested{i}", "cmd": "true", "instances": 0, "cpus": 0.01, "mem": 32, "portDefinitions": [], "labels": {"by": by}}
        return call("PUT", api(m, f"/v2/apps/contested{i}?force=true"), body, timeout=timeout)

    def ask_frozen(i, old):
        try:
            waiting[i] = change(old, i, "first", 90)
        except OSError as e:
            waiting[i] = (0, str(e))

    def kill_frozen(old):
        try:
            waiting["kill"] = call("DELETE", api(old, f"/v2/apps/doomed/tasks/{doomed['id']}"), timeout=90)
        except OSError as e:
            waiting["kill"] = (0, str(e))

    with Load() as load:
        old = leader()
        native("fence", instances=3, env={"V": "2"}, upgradeStrategy={"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.5})
        since = time.time()
        ssh(old, "systemctl kill -s STOP croft-master")
        try:
            threads = [threading.Thread(target=ask_frozen, args=(i, old), daemon=True) for i in range(6)] + [threading.Thread(target=kill_frozen, args=(old,), daemon=True)]
            for t in threads:
                t.start()
            new = wait("another one leads", lambda: (lambda m: m is not old and m)(leader()), 60)
            settled()  # the second leader ends the update
            native("fence", instances=3, env={"V": "3"}, upgradeStrategy={"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.5})
            for i in range(6):
                assert change(new, i, "second", 20)[0] == 200  # not through the frozen one, where it would wait too
            settled()
            fence, pids = started("/fence"), processes()
            assert len(fence) == 3, fence
            load.go_on(20)
        finally:
            ssh(old, "systemctl kill -s CONT croft-master")
        for t in threads:
            t.join(100)
        wait("the first one passes on", lambda: call("GET", api(old, "/v2/leader"), timeout=3)[0] == 200, 30)
        assert leader() is new or leader() is not old, "it leads no more"
        load.go_on(100)
        time.sleep(3)
        outcomes = {i: status for i, (status, _) in waiting.items()}
        if outcomes["kill"] == 200:
            wait("a kill that was acknowledged is carried out", lambda: doomed["id"] not in started("/doomed"), 30)
        gone = {(name, pid) for name, all_there in pids.items() for pid in all_there} - {(name, pid) for name, all_there in processes().items() for pid in all_there}
        assert started("/fence") == fence and gone <= {its}, ("its commands are ignored", gone)
        for i in range(6):
            by = in_force(f"contested{i}")[1]
            # Refused, or passed on to the leader in force: never an answer that the store does not know.
            assert by == ("first" if outcomes[i] in (200, 201) else "second"), (i, by, waiting[i])
        assert in_force("fence")[0] == get("/v2/apps/fence")["app"]["version"]
        said = journal(old, "croft-master", since)
        assert "leadership lost" in said or "no longer leading" in said, said[-2000:]
    print(f"    {load.said()}; what had waited in the first one's sockets: {outcomes}")
    assert not load.failures, load.said()
    assert started() == before
    for app in ["fence", "doomed"] + [f"contested{i}" for i in range(6)]:
        remove(app)
