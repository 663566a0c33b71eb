#!/usr/bin/env python3
"""Kills all of croft dev at random moments of forced updates, starts it again, and asks the app through HAProxy all the while: no request may fail.

usage: restarts.py BIN_DIR [--rounds 30] [--seed N] [--threads 4]      a failure is printed with what HAProxy had just then
"""
import argparse
import http.client
import os
import random
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, own_namespace, wait  # noqa: E402

MAINT, DRAIN = 0x23, 0x08  # bits of a server's administrative state
APP, PORT = "/victim", 10900
# Answers everything, and starts at once.
SERVER = """import os, socket, threading
def serve(line):
    with line:
        while line.recv(65536):
            line.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n")
s = socket.create_server(("127.0.0.1", int(os.environ["PORT0"])), backlog=100)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()"""


def victim(instances, **more):
    return {"id": APP, "cmd": f"exec {sys.executable} -S -E -c '{SERVER}'", "instances": instances, "cpus": 0.1, "mem": 64, "user": "root", "backoffSeconds": 1,
            "portDefinitions": [{"port": PORT, "protocol": "tcp", "name": "http"}], "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.5},
            "healthChecks": [{"protocol": "HTTP", "path": "/", "portIndex": 0, "gracePeriodSeconds": 60, "intervalSeconds": 2, "timeoutSeconds": 2, "maxConsecutiveFailures": 3}], **more}


def haproxy_says(farm, command="show servers state"):
    """One line a place that is in use: name, address, operational and administrative state, health."""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(2)
            s.connect(os.path.join(farm.data, "balancer", "haproxy.sock"))
            s.sendall(command.encode() + b"\n")
            text = b""
            while more := s.recv(65536):
                text += more
    except OSError as e:
        return [f"HAProxy does not say: {e}"]
    rows = [line.split() for line in text.decode().splitlines()]
    return [f"{r[3]} {r[4]}:{r[18]} op={r[5]} admin={r[6]} check={r[10]}/{r[11]}/{r[12]}" for r in rows if len(r) > 18 and r[0] != "#" and "victim" in r[1] and r[18] != "1"]


class Asker:
    """Requests one after the other over kept connections, as many at once as it has threads."""

    def __init__(self, farm, threads):
        self.farm, self.answers, self.failures, self.over = farm, 0, [], False
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]
        for t in self.threads:
            t.start()

    def run(self):
        line = None
        while not self.over:
            begun = time.time()
            try:
                fresh = line is None
                line = line or http.client.HTTPConnection("127.0.0.1", PORT, timeout=15)
                line.request("GET", "/1")
                answer = line.getresponse()
                body = answer.read()
                what = None if answer.status == 200 else f"{answer.status} {body[:60]}"
            except (OSError, http.client.HTTPException) as e:
                line.close()
                line = None
                if not fresh:  # a server may close a kept connection at any time; a client asks again then
                    continue
                what = repr(e)
            with self.lock:
                self.answers += what is None
                if what:
                    self.failures.append((begun, time.time(), what, haproxy_says(self.farm) if len(self.failures) < 40 else []))
            time.sleep(0.002)

    def end(self):
        self.over = True
        for t in self.threads:
            t.join()


class Watcher:
    """Asks HAProxy without a pause what it has. An instance that leaves rotation does so for good: one that comes back was wrongly out."""

    def __init__(self, farm):
        self.farm, self.over, self.out, self.blinks, self.samples = farm, False, {}, [], 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        before = set()
        while not self.over:
            now, said = time.time(), haproxy_says(self.farm)
            admin = {line.split()[1]: int(line.split(" admin=")[1].split()[0]) for line in said if line.startswith("s") and " admin=" in line}  # the twins follow these
            ready = {place for place, bits in admin.items() if bits & (MAINT | DRAIN) == 0}
            if said and not said[0].startswith("HAProxy"):
                self.samples += 1
                for place in before - ready:
                    if not admin.get(place, MAINT) & DRAIN:  # a drain that nobody has heard of but HAProxy is decided anew
                        self.out[place] = now, said
                for place in ready - before:
                    if place in self.out:
                        since, then = self.out.pop(place)
                        if now - since < 5:
                            self.blinks.append((since, now, place, then))
                before = ready
            time.sleep(0.003)

    def end(self):
        self.over = True
        self.thread.join()


def round_of(farm, dice, number):
    """Some forced updates in a row, the kill in the midst of them, and a start."""
    for i in range(dice.randrange(1, 5)):
        farm.call("PUT", f"/v2/apps{APP}?force=true", victim(dice.randrange(2, 6), env={"COLOUR": f"{number}.{i}"}))
        time.sleep(dice.random() ** 2 * 1.2)
    killed = time.time()
    farm.kill9()
    time.sleep(dice.choice((0, 0.05, 0.5)))
    farm.start()
    time.sleep(dice.random() * 1.5)
    return killed


def attack(farm, rounds, seed, threads=4):
    """(answers, what failed in words)"""
    dice = random.Random(seed)
    farm.deploy(victim(3))
    wait("the app answers", lambda: farm.call("GET", "/1", port=PORT)[0] == 200)
    asker, watcher = Asker(farm, threads), Watcher(farm)
    words = []
    try:
        for number in range(rounds):
            before = len(asker.failures)
            blinked = len(watcher.blinks)
            killed = round_of(farm, dice, number)
            for since, until, place, then in watcher.blinks[blinked:]:
                words.append(f"round {number}: {place} was out of rotation from {since - killed:.3f} to {until - killed:.3f} s after the kill; {' | '.join(then)}")
            if len(asker.failures) > before:
                bad = asker.failures[before:]
                words.append(f"round {number}: {len(bad)} failed, {bad[0][0] - killed:.3f} to {bad[-1][1] - killed:.3f} s after the kill at {time.strftime('%H:%M:%S', time.gmtime(killed))}.{int(killed * 1000) % 1000:03}")
                words += [f"    {time.strftime('%H:%M:%S', time.gmtime(b))}.{int(b * 1000) % 1000:03}-{time.strftime('%H:%M:%S', time.gmtime(e))}.{int(e * 1000) % 1000:03} {what}; {' | '.join(state)}" for b, e, what, state in bad[:6]]
        farm.settled()
    finally:
        asker.end()
        watcher.end()
    return asker.answers, words


def main():
    own_namespace()
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("bin")
    p.add_argument("--rounds", type=int, default=30)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--threads", type=int, default=4)
    o = p.parse_args()
    farm = Farm(o.bin)
    try:
        farm.start()
        answers, words = attack(farm, o.rounds, o.seed, o.threads)
    finally:
        farm.down()
    print(f"seed {o.seed}: {answers} requests answered in {o.rounds} rounds")
    if words:
        print("\n".join(words))
        sys.exit(f"requests failed; the farm's files are in {farm.dir}")
    farm.clean()


if __name__ == "__main__":
    main()
