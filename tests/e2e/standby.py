#!/usr/bin/env python3
"""Two masters with logins and certificates: what one passes on to the other, and what not.   usage: standby.py BIN_DIR [TEST...]"""
import http.client
import itertools
import json
import os
import re
import ssl
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import own_namespace, run_suite, wait  # noqa: E402
from secure_farm import PASSWORD, SecureFarm, basic, sleeper  # noqa: E402
from zookeeper import Ensemble  # noqa: E402

RULES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/gate/rules.cpp")


def through_the_standby(farm, ask):
    """S4: what it passes on comes to the leader over the standby's own connection, whose certificate is nobody else's login: every path of the hosts, without credentials and with a person's."""
    with open(RULES) as f:
        paths = re.findall(r'hosts\("(\w+)", "([^"]+)"', f.read())
    assert len(paths) >= 8 and ("POST", "/croft/v1/certificates") in paths, paths
    request = subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{farm.dir}/thief.key", "-subj", "/CN=m12"], capture_output=True, text=True, check=True).stdout
    for method, pattern in paths:
        path = pattern.replace("{id}", "x").replace("{session}", "y")
        spellings = (path, path.replace("/v1", "%2fv1"), path.replace("/v1/", "/v1//"), path.replace("/croft", "/croft/"), path + "/", path + "?after=")
        for spelling, who, via in itertools.product(spellings, ("", basic("ann"), "Bearer nonsense"), (None, "", "1.1 elsewhere")):
            status, text = ask("m12", method, spelling, {"names": ["127.0.0.12"], "request": request} if method == "POST" else None, who, via)
            assert status in (401, 403, 404, 405, 503) and "CERTIFICATE" not in text and "digest" not in text and "scrypt" not in text, (method, spelling, who, via, status, text[:300])
    status, text = ask("m12", "GET", "/croft/v1/users", None, "")
    assert status == 401, (status, text)


def test_two_masters(farm):
    """One passes on what the other leads, each with its certificate; ZooKeeper's disk tells nothing."""
    hosts = {"m11": "127.0.0.11", "m12": "127.0.0.12"}
    folder = farm.dir + "/two"
    os.mkdir(folder)
    ensemble = Ensemble(folder, ["127.0.0.41"])
    running = {}

    def start(host):
        with open(f"{folder}/{host}.toml", "w") as f:
            f.write(f'data = "{folder}/{host}"\nip = "{hosts[host]}"\nbind = "{hosts[host]}"\nmasters = ["127.0.0.11:8080", "127.0.0.12:8080"]\nzookeeper = "zk://127.0.0.41:2181/mesos"\n'
                    f'session_timeout_ms = 2000\n[tls]\ncluster = "{folder}/{host}.cluster"\n')
        out = open(f"{folder}/{host}.log", "a")
        running[host] = subprocess.Popen([farm.bin + "/croft", "serve", "--role", "master", "--config", f"{folder}/{host}.toml"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    def ask(host, method, path, body=None, who=None, via=None):
        connection = http.client.HTTPSConnection(hosts[host], 8080, timeout=15, context=tls)
        try:
            connection.request(method, path, body and json.dumps(body), dict({"Content-Type": "application/json"}, **({"Authorization": admin if who is None else who} if who != "" else {}), **({"Via": via} if via is not None else {})))
            got = connection.getresponse()
            return got.status, got.read().decode()
        finally:
            connection.close()

    try:
        ensemble.start_all()
        made = farm.run("init", "--folder", f"{folder}/m11.cluster", "--host", "m11", "--name", "127.0.0.11", token=False)
        admin = "Bearer " + made.stdout.strip()
        tls = ssl.create_default_context(cafile=f"{folder}/m11.cluster/ca.pem")
        start("m11")
        wait("m11 leads", lambda: ask("m11", "GET", "/croft/v1/whoami")[0] == 200, 20)
        status, text = ask("m11", "POST", "/croft/v1/join-tokens", {"roles": ["master"], "host": "m12"})
        assert status == 201, (status, text)
        farm.run("join", "https://127.0.0.11:8080", json.loads(text)["token"], "--folder", f"{folder}/m12.cluster", "--name", "127.0.0.12")
        start("m12")
        wait("m12 passes on", lambda: ask("m12", "GET", "/v2/leader")[1] == '{"leader":"127.0.0.11:8080"}', 20)
        assert ask("m12", "POST", "/croft/v1/users", {"name": "ann", "password": PASSWORD, "grants": ["operator:/service"]})[0] == 201
        assert ask("m12", "POST", "/v2/apps", sleeper("/service/a", env={"SECRET": "hunter2-hunter2"}), basic("ann"))[0] == 201
        assert ask("m12", "POST", "/v2/apps", sleeper("/other/a"), basic("ann"))[0] == 403
        assert ask("m12", "GET", "/v2/apps", None, basic("ann", "wrong password"))[0] == 401
        audit = json.loads(ask("m12", "GET", "/croft/v1/audit?last=100")[1])["records"]
        assert any(r["who"] == "user ann" and r["what"] == "POST /v2/apps" and r["done"] and r["from"].startswith("127.0.0.") for r in audit), audit
        through_the_standby(farm, ask)
        running["m11"].kill()
        running["m11"].wait()
        wait("m12 leads, with its users", lambda: ask("m12", "GET", "/v2/apps", None, basic("ann"))[0] == 200 and ask("m12", "GET", "/v2/leader")[1] == '{"leader":"127.0.0.12:8080"}', 20)
        assert "hunter2" in ask("m12", "GET", "/v2/apps/service/a", None, basic("ann"))[1]
        start("m11")
        wait("m11 passes on", lambda: ask("m11", "GET", "/v2/leader")[1] == '{"leader":"127.0.0.12:8080"}', 20)
        assert ask("m11", "GET", "/v2/apps", None, basic("ann"))[0] == 200
        assert ask("m12", "POST", "/croft/v1/ca/revocations", {"host": "m11"})[0] == 200
        running["m12"].kill()
        running["m12"].wait()
        wait("m11 hears from the store that it was put out", lambda: "is revoked: it does not lead" in open(f"{folder}/m11.log").read(), 20)
        assert ask("m11", "GET", "/v2/apps", None, basic("ann"))[0] in (502, 503)
        start("m12")
        wait("m12 leads again", lambda: ask("m12", "GET", "/v2/apps", None, basic("ann"))[0] == 200, 20)
        for where, _, files in os.walk(f"{folder}/zookeeper-0"):
            for name in files:
                with open(os.path.join(where, name), "rb") as f:
                    assert b"hunter2" not in f.read(), (where, name)
    except BaseException:
        for host in running:
            with open(f"{folder}/{host}.log") as f:
                print(host, f.read()[-2000:])
        raise
    finally:
        for process in running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        ensemble.stop()


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), SecureFarm(sys.argv[1]), sys.argv[2:])
