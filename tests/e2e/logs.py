#!/usr/bin/env python3
"""End-to-end tests of the log path: a log host of its own, killed, filled up, and away.   usage: logs.py BIN_DIR [TEST...]"""
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, own_namespace, run_suite, wait  # noqa: E402

PORT = 9201


class LogHost:
    """croft serve --role log, on a port of its own."""

    def __init__(self, farm, data, more=""):
        self.farm, self.data, self.process = farm, data, None
        self.config = os.path.join(farm.dir, f"log-{os.path.basename(data)}.toml")
        with open(self.config, "w") as f:
            f.write(f'auth = "none"\nhostname = "log1"\ndata = "{data}"\nlogs_port = {PORT}\nconsole_port = 5602\n' + more)

    def start(self):
        out = open(os.path.join(self.farm.dir, "log.log"), "a")
        self.process = subprocess.Popen([self.farm.bin + "/croft", "serve", "--role", "log", "--config", self.config], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait("the log host is up", lambda: self.call("GET", "/")[0] == 200, 10)

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill9()

    def call(self, method, path, body=None, timeout=20):
        return self.farm.call(method, path, body, port=PORT, headers={"Content-Type": "application/json"}, timeout=timeout)

    def count(self, query="*"):
        status, body = self.call("GET", "/_count?q=" + query)
        assert status == 200, (status, body)
        return body["count"]


def bulk_of(source, first, last, pad=200):
    lines = []
    for n in range(first, last):
        lines.append(json.dumps({"create": {"_index": "logstash-2026.11.24", "_id": f"c1:{source}:{n + 1}"}}))
        lines.append(json.dumps({"@timestamp": "2026-11-24T10:00:00Z", "source": source, "n": n, "pad": "".join(random.choices("abcdefghij ", k=pad))}))
    return "\n".join(lines) + "\n"


def test_kill_nine_in_the_middle_of_bulks_loses_and_doubles_nothing(farm):
    host = LogHost(farm, os.path.join(farm.dir, "killed"))
    host.start()
    stop = threading.Event()
    acknowledged = {}

    def send(source):
        n, unknown = 0, False
        while not stop.is_set() or n % 5000 or unknown:  # what was stored without an answer is asked for again, or nobody knows of it
            try:
                status, body = host.call("POST", "/_bulk", bulk_of(source, n, n + 500))
            except (OSError, http.client.HTTPException):
                unknown = True
                time.sleep(0.02)
                continue
            if status == 200:
                unknown = False
                assert all(i["create"]["status"] in (201, 409) for i in body["items"]), body
                n += 500
                acknowledged[source] = n

    senders = [threading.Thread(target=send, args=(f"s{i}",)) for i in range(3)]
    try:
        for s in senders:
            s.start()
        for _ in range(6):
            time.sleep(random.uniform(0.2, 0.8))
            host.kill9()
            host.start()
        stop.set()
        for s in senders:
            s.join(60)
        for source, n in acknowledged.items():
            assert host.count(f"source:{source}") == n, (source, n, host.count(f"source:{source}"))
        total = sum(acknowledged.values())
        host.kill9()
        host.start()
        assert host.count() == total
        reply = host.call("POST", "/_search", {"size": 0, "aggs": {"d": {"cardinality": {"field": "n"}}}})[1]
        assert reply["_shards"]["failed"] == 0 and host.call("GET", "/_cluster/health")[1]["status"] == "green"
        print(f"    {total} documents over 7 kills, each there once")
    finally:
        stop.set()
        host.stop()


def test_a_full_disk_refuses_clearly_and_recovers_by_itself(farm):
    data = os.path.join(farm.dir, "small")
    os.makedirs(data)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", data], check=True)
    host = LogHost(farm, data)
    try:
        host.start()
        assert host.call("PUT", "/ballast/_doc/1", {"pad": "x"})[0] == 201
        taken, n = 0, 0
        for _ in range(400):
            status, body = host.call("POST", "/_bulk", bulk_of("full", n, n + 500, 500))
            if status != 200:
                break
            n += 500
            taken = n
        assert status == 429 and "error" in body, (status, body)
        assert "No space left" in json.dumps(body) or "disk full" in json.dumps(body), body
        print(f"    full after {taken} documents: {body['error']['reason'][:100]}")
        assert host.count("source:full") == taken, "what was refused is not half there"
        host.kill9()
        host.start()  # also with a full disk it starts, and shows what it has
        assert host.count("source:full") == taken
        filler = os.path.join(data, "filler")
        assert host.call("DELETE", "/ballast")[0] == 200, "dropping works on a full disk"
        subprocess.run(["mount", "-o", "remount,size=256m", data], check=True)
        wait("it takes documents again", lambda: host.call("POST", "/_bulk", bulk_of("full", n, n + 500))[0] == 200, 15)
        assert not os.path.exists(filler)
        assert host.count("source:full") == taken + 500
        host.kill9()
        host.start()
        assert host.count("source:full") == taken + 500
        assert host.call("GET", "/_cluster/health")[1]["status"] == "green"
    finally:
        host.stop()
        subprocess.run(["umount", "-l", data])


def test_large_answers_do_not_fill_the_memory(farm):
    """S17: what one request could ask for of long lines, and many that do not read, once took the log host to 6.8 GiB."""
    host = LogHost(farm, os.path.join(farm.dir, "large"))
    lines, size = 600, 300_000
    try:
        host.start()
        for first in range(0, lines, 50):
            body = "".join(json.dumps({"index": {"_index": "logstash-2026.11.24"}}) + "\n" + json.dumps({"@timestamp": "2026-11-24T10:00:00Z", "n": n, "pad": chr(97 + n % 26) * size}) + "\n" for n in range(first, first + 50))
            wait("the store has room", lambda: host.call("POST", "/_bulk", body)[0] == 200, 30)
        before = resident(host)
        status, answer = host.call("POST", "/_msearch", '{}\n{"size":1200}\n' * 16, timeout=60)
        assert status == 200 and all(r["status"] == 413 and "_source" in r["error"]["reason"] for r in answer["responses"]), str(answer)[:500]
        status, answer = host.call("POST", "/_msearch", '{}\n{"size":150}\n' * 16, timeout=60)
        assert [r["status"] for r in answer["responses"]] == [200] + [413] * 15
        assert len(answer["responses"][0]["hits"]["hits"]) == 150
        assert host.call("POST", "/_search", {"size": 1200, "_source": ["n"]}, timeout=60)[0] == 200
        import socket
        readers = []
        for _ in range(64):
            s = socket.create_connection(("127.0.0.1", PORT))
            s.sendall(b"GET /_search?size=150 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            readers.append(s)
        heads = [s.recv(12) for s in readers]
        assert b"HTTP/1.1 200" in heads and b"HTTP/1.1 503" in heads, heads
        peak = resident(host)
        for s in readers:
            s.close()
        print(f"    {before} MiB before, at most {peak} MiB after; of 64 that did not read {heads.count(b'HTTP/1.1 200')} had an answer")
        assert peak - before < 600, (before, peak)
        wait("what they held is given back", lambda: host.call("GET", "/_search?size=150", timeout=30)[0] == 200, 10)
    finally:
        host.stop()


def resident(host):
    """MiB, at most until now"""
    with open(f"/proc/{host.process.pid}/status") as f:
        return next(int(line.split()[1]) // 1024 for line in f if line.startswith("VmHWM"))


def test_a_flood_of_days_does_not_end_todays_log(farm):
    host = LogHost(farm, os.path.join(farm.dir, "flood"))
    try:
        host.start()
        flood = "".join(json.dumps({"index": {"_index": f"logstash-{1000 + n // 12:04}.{n % 12 + 1:02}.01"}}) + "\n" + json.dumps({"@timestamp": "2026-11-24T10:00:00Z"}) + "\n" for n in range(5_100))
        status, answer = host.call("POST", "/_bulk", flood, timeout=60)
        assert status == 200 and sum(i["index"]["status"] == 400 for i in answer["items"]) == 100
        today = time.strftime("logstash-%Y.%m.%d", time.gmtime())
        assert host.call("POST", f"/{today}/_doc", {"message": "still here"})[0] == 201
        assert host.call("POST", "/something-else/_doc", {})[0] == 400
    finally:
        host.stop()


def test_lines_steer_no_terminal(farm):
    host = LogHost(farm, os.path.join(farm.dir, "terminal"))
    nasty = "red \x1b[31m title \x1b]0;x\x07 csi \u009b2J turned \u202egpj\u202c tab\tend"
    words = [farm.bin + "/croft", "--logs-url", f"http://127.0.0.1:{PORT}", "logs", "/nasty"]
    try:
        host.start()
        assert host.call("POST", "/logstash-2026.11.24/_doc", {"@timestamp": "2026-11-24T10:00:00Z", "app": "/nasty", "host": "m1", "stream": "stdout", "message": nasty})[0] == 201
        assert nasty.encode() in subprocess.run(words, capture_output=True, check=True).stdout, "a file has the bytes as they are"
        import pty
        ours, theirs = pty.openpty()
        subprocess.run(words, stdout=theirs, check=True)
        os.close(theirs)
        seen = os.read(ours, 10_000).decode()
        os.close(ours)
        assert "red \\x1b[31m title \\x1b]0;x\\x07 csi \\u009b2J turned \\u202egpj\\u202c tab\tend" in seen, seen
        assert not any(c in seen for c in "\x1b\x07\u009b\u202e"), seen
    finally:
        host.stop()


def test_the_log_host_is_away_and_comes_back(farm):
    host = LogHost(farm, os.path.join(farm.dir, "away"))
    host.start()
    lines, rate = 60_000, 5_000
    printer = f"import time\nfor n in range({lines}):\n  print('away line %d ' % n + 'x' * 600, flush=False)\n  if n % 500 == 499:\n    import sys; sys.stdout.flush(); time.sleep({500 / rate})\nprint('printed all'); sys.stdout.flush(); time.sleep(10000)"
    script = os.path.join(farm.dir, "printer.py")
    with open(script, "w") as f:
        f.write(printer)
    os.chmod(script, 0o644)
    try:
        host.kill9()
        farm.deploy({"id": "/printer", "cmd": f"exec {sys.executable} {script}", "cpus": 0.1, "mem": 64, "user": "root"})
        import socket
        with socket.create_connection(("127.0.0.1", 5959)) as s:
            for n in range(1000):
                s.sendall(json.dumps({"tcp": n}).encode() + b"\n")
        time.sleep(lines / rate + 2)  # 36 MB, three times what its sandbox holds
        spool = subprocess.run(["du", "-sm", os.path.join(farm.data, "node", "spool")], capture_output=True, text=True).stdout.split()[0]
        print(f"    the spool holds {spool} MB while the log host is away")
        farm.kill9()  # and the node's croft dies too
        farm.start()
        begun = time.monotonic()
        host.start()
        wait("every line is there", lambda: host.count("away") >= lines and host.count("_exists_:tcp") >= 1000, 60, 0.2)
        print(f"    all {lines} lines after {time.monotonic() - begun:.1f} s")
        wait("the last one too", lambda: host.count('%22printed%20all%22') == 1, 20)
        assert host.count("away") == lines, host.count("away")
        assert host.count("_exists_:tcp") == 1000, host.count("_exists_:tcp")
        assert host.count("_exists_:gap") == 0
        farm.call("DELETE", "/v2/apps/printer")
        farm.settled()
    finally:
        host.stop()


def test_down(farm):
    farm.down()


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), Farm(sys.argv[1], f'elasticsearch = ["http://127.0.0.1:{PORT}"]\n'), sys.argv[2:], always=("test_down",))
