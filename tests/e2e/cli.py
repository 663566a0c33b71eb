#!/usr/bin/env python3
"""End-to-end tests of the command line, as a person and as a script use it.   usage: cli.py BIN_DIR [TEST...]"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, alive, own_namespace, run_suite, wait  # noqa: E402

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
NATIVE = TOP + "/examples/fibonacci/native.json"
SLEEPER = {"id": "/sleeper", "cmd": "exec sleep 10000", "cpus": 0.1, "mem": 32, "instances": 2, "portDefinitions": []}
DONE, FAILED, USAGE, NOT_FOUND, CONFLICT, UNREACHABLE, TIMED_OUT = range(7)


def said(farm, code, *words, text=None, env=None):
    """stdout and stderr of `croft words…`, which must end with this code."""
    done = subprocess.run([farm.bin + "/croft", *words], input=text, capture_output=True, text=True, timeout=60, env=dict(os.environ, **(env or {})))
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    if code:
        assert done.stderr and "terminate" not in done.stderr, (words, done.stderr)
    return done.stdout, done.stderr


def as_json(farm, *words, text=None):
    return json.loads(said(farm, DONE, "--json", *words, text=text)[0])


def test_an_app_from_first_to_last(farm):
    assert "No apps yet" in said(farm, DONE, "app", "list")[0]
    out, _ = said(farm, DONE, "app", "deploy", "-", text=json.dumps(SLEEPER))
    assert out == "/sleeper: deployed\n", out
    assert len(farm.running("/sleeper")) == 2, "deploy waits until it runs"
    out, _ = said(farm, DONE, "app", "list")
    assert re.search(r"^/sleeper +2/2 +- +0.1 +32 +running$", out, re.M), out
    out, _ = said(farm, DONE, "app", "show", "sleeper")
    assert out.startswith("/sleeper  2/2 running") and out.count("TASK_RUNNING") == 2, out
    out, _ = said(farm, DONE, "app", "scale", "/sleeper", "3")
    assert out == "/sleeper: scaled to 3\n" and len(farm.running("/sleeper")) == 3, out
    before = {t["id"] for t in farm.running("/sleeper")}
    said(farm, DONE, "app", "restart", "/sleeper")
    after = {t["id"] for t in farm.running("/sleeper")}
    assert len(after) == 3 and not after & before
    assert said(farm, DONE, "task", "list", "/sleeper")[0].count("TASK_RUNNING") == 3
    victim = min(after)
    assert said(farm, DONE, "task", "kill", victim)[0] == f"{victim}: told to end\n"
    wait("another one takes its place", lambda: len(now := {t["id"] for t in farm.running("/sleeper")}) == 3 and victim not in now)
    assert victim in said(farm, NOT_FOUND, "task", "kill", victim)[1]
    assert "localhost" in said(farm, DONE, "node", "list")[0]
    assert "No deployment is under way" in said(farm, DONE, "deployment", "list")[0]
    assert "It runs as wanted: 3 of 3" in said(farm, DONE, "explain", "/sleeper")[0]
    assert said(farm, DONE, "version")[0].startswith("croft ")
    assert said(farm, DONE, "app", "remove", "/sleeper")[0] == "/sleeper: removed\n"
    assert farm.call("GET", "/v2/apps/sleeper")[0] == 404


def test_a_cluster_is_made_once(farm):
    folder = os.path.join(farm.dir, "cluster")
    out, err = said(farm, DONE, "init", "--folder", folder, "--host", "m1", "--role", "master", "--role", "node", "--name", "10.0.0.1")
    assert re.fullmatch(r"croft_[0-9a-f]{16}_[\w-]{43}\n", out), out
    assert "CA's SHA-256" in err and out.strip() not in err, err
    assert os.stat(folder).st_mode & 0o777 == 0o700
    modes = {name: os.stat(os.path.join(folder, name)).st_mode & 0o777 for name in os.listdir(folder)}
    assert modes == {"ca.pem": 0o644, "host.pem": 0o644, "ca.json": 0o600, "host.key": 0o600, "join.key": 0o600, "operator.json": 0o600, "seal.json": 0o600}, modes
    verified = subprocess.run(["openssl", "verify", "-CAfile", folder + "/ca.pem", folder + "/host.pem"], capture_output=True, text=True)
    assert verified.returncode == 0, verified
    before = open(folder + "/ca.pem").read()
    _, err = said(farm, CONFLICT, "init", "--folder", folder)
    assert "is there already" in err and open(folder + "/ca.pem").read() == before
    said(farm, USAGE, "init", "--folder", folder + "2", "--host", "Not A Name")
    said(farm, USAGE, "init", "--folder", folder + "2", "--role", "king")
    assert not os.path.exists(folder + "2")


def test_audit(farm):
    """What an auditor asks: found where it is, ok where it is not, and an exit code for scripts."""
    farm.deploy(dict(SLEEPER, id="/audited", env={"DB_PASSWORD": "in plain", "TOKENS": "3"}))
    done = subprocess.run([farm.bin + "/croft", "audit", "--json"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, done
    by = {i["id"]: i for i in json.loads(done.stdout)["items"]}
    assert by["croft 1"]["found"] == ["/audited"] and "/audited" in by["CIS 4.6"]["found"], by
    assert by["CIS 5.4"]["found"] == [] and by["CIS 5.4"]["asked"] == 0, "no images here"
    text = subprocess.run([farm.bin + "/croft", "audit"], capture_output=True, text=True, timeout=30).stdout
    assert "no variable holds a password in plain" in text and "croft secret set" in text, text
    farm.call("DELETE", "/v2/apps/audited")
    farm.settled()


def test_json_everywhere(farm):
    assert "deploymentId" in as_json(farm, "app", "deploy", "-", text=json.dumps(SLEEPER))
    assert as_json(farm, "app", "list")["apps"][0]["id"] == "/sleeper"
    assert as_json(farm, "app", "show", "/sleeper")["app"]["tasksRunning"] == 2
    assert "deploymentId" in as_json(farm, "app", "scale", "/sleeper", "1")
    assert "deploymentId" in as_json(farm, "app", "restart", "/sleeper")
    assert len(as_json(farm, "task", "list")["tasks"]) == 1 and len(as_json(farm, "task", "list", "sleeper")["tasks"]) == 1
    assert as_json(farm, "node", "list")[0]["reachable"] is True
    assert as_json(farm, "deployment", "list") == []
    assert as_json(farm, "explain", "/sleeper")["reasons"]
    assert as_json(farm, "version")["version"]
    assert "deploymentId" in as_json(farm, "app", "remove", "/sleeper")


def test_help_teaches(farm):
    out, _ = said(farm, DONE, "--help")
    for word in ("app", "task", "node", "deployment", "logs", "explain", "Exit codes", "CROFT_URL"):
        assert word in out, word
    for words in (("app", "deploy"), ("app", "scale"), ("app", "show"), ("app", "restart"), ("app", "remove"), ("task", "list"), ("logs",), ("explain",)):
        out, _ = said(farm, DONE, *words, "--help")
        assert "Example: croft" in out and "Usage: croft" in out, (words, out)
    _, err = said(farm, USAGE, "app")
    assert "deploy" in err and "scale" in err, "a group alone shows what is in it"
    _, err = said(farm, USAGE)
    assert "Subcommands" in err


def test_bad_words(farm):
    for words, hint in ((("frob",), "'frob' is not a subcommand of croft"), (("app", "frob"), "'frob' is not a subcommand of croft app"), (("app", "list", "--frob"), "--frob"),
                        (("app", "deploy"), "file is required"), (("app", "scale", "/x", "many"), "instances"), (("app", "scale", "/x", "-1"), "instances"),
                        (("frob", "--help"), "'frob' is not known to croft"), (("rule", "frob", "--help"), "'frob' is not known to croft rule"), (("--help", "frob"), "'frob' is not known to croft"),
                        (("rule", "frob"), "'frob' is not a subcommand of croft rule"), (("rule", "set", "/x"), "acl is required"), (("app", "rollback"), "id is required"),
                        (("app", "scale", "/x"), "instances is required"), (("app", "show", ""), "not an app's id"), (("app", "show", "///"), "not an app's id"),
                        (("logs", "/x", "-n", "100000"), "--lines"), (("app", "list", "--url", "nowhere"), "nowhere"), (("app", "list", "--url", "ftp://127.0.0.1:8080"), "http://"),
                        (("app", "remove", "/x", "--timeout", "0"), "--timeout"), (("serve",), "--role"), (("dev",), "--data")):
        _, err = said(farm, USAGE, *words)
        assert hint in err, (words, err)


def test_bad_manifests(farm):
    folder = farm.dir
    for text, hint in (('{"id": "/x",', "not JSON"), ("[]", "one app"), ('"text"', "one app"), ("{}", "'id' must be given"), ('{"id": 7}', "'id' must be given"), ("", "not JSON"),
                       ('{"id":"/x","cmd":"a","cpus":"many","instances":-1}', "/cpus: must be a number"), ('{"id":"/x"}', "cmd"),
                       ('{"id":"/x","cmd":"a","instancs":2,"env":[]}', "not known, and without effect: /instancs"), ('{"id":"/x","container":{"volumes":[]}}', '"type": "MESOS"'), ('{"id":"/Üml äut","cmd":"a"}', "id"),
                       ('{"id":"/x","cmd":"{{what}}"}', "{{what}} has no value; give it with --set")):
        _, err = said(farm, USAGE, "app", "deploy", "-", text=text)
        assert hint in err, (text, err)
    _, err = said(farm, USAGE, "app", "deploy", "-", text='{"id":"/x",\n "cmd":}')
    assert "line 2" in err, err
    _, err = said(farm, USAGE, "app", "deploy", folder + "/nothing.json")
    assert "nothing.json" in err, err
    _, err = said(farm, USAGE, "app", "deploy", folder)
    assert "is a folder" in err, err
    _, err = said(farm, USAGE, "app", "deploy", NATIVE, "--set", "bin=/x", "--set", "bim=/y")
    assert "{{bim}}" in err, err
    _, err = said(farm, USAGE, "app", "deploy", NATIVE, "--set", "bin")
    assert "name=value" in err, err
    with open(folder + "/big.json", "wb") as f:
        f.write(b" " * (5 << 20))
    _, err = said(farm, USAGE, "app", "deploy", folder + "/big.json")
    assert "big.json" in err, err
    assert farm.get("/v2/apps")["apps"] == []


def test_what_is_not_there(farm):
    for words in (("app", "show", "/nothing"), ("app", "scale", "/nothing", "2"), ("app", "restart", "/nothing"), ("app", "remove", "/nothing"), ("task", "list", "/nothing"),
                  ("explain", "/nothing"), ("logs", "/nothing"), ("logs", "-f", "/nothing"), ("app", "show", "/a b/ü%")):
        out, err = said(farm, NOT_FOUND, *words) if words[0] != "explain" else (said_explain(farm), "")
        assert "nothing" in out + err or "a b" in err, (words, out, err)
    said(farm, NOT_FOUND, "deployment", "rollback", "no-such-deployment")
    for words in (("app", "list"), ("node", "list"), ("explain", "/x"), ("app", "remove", "/x")):
        _, err = said(farm, UNREACHABLE, *words, env={"CROFT_URL": "http://127.0.0.1:1"})
        assert "no farm answers at http://127.0.0.1:1" in err and "CROFT_URL" in err, err
    _, err = said(farm, UNREACHABLE, "logs", "/x", "--logs-url", "http://127.0.0.1:1")
    assert "CROFT_LOGS_URL" in err, err
    said(farm, NOT_FOUND, "app", "list", "--url", "http://127.0.0.1:9200")


def said_explain(farm):
    done = subprocess.run([farm.bin + "/croft", "explain", "/nothing"], capture_output=True, text=True, timeout=20)
    assert done.returncode == NOT_FOUND and done.stdout == "There is no app /nothing.\n", done
    return done.stdout


def test_a_deployment_that_waits(farm):
    huge = dict(SLEEPER, id="/huge", cpus=4000)
    out, err = said(farm, TIMED_OUT, "app", "deploy", "-", "--timeout", "3", text=json.dumps(huge))
    assert out == "" and "still under way after 3 s" in err and "croft explain /huge" in err, (out, err)
    assert "/huge: 0/2 running" in err and "needs 4000 cpus" in err, ("progress says what is the matter", err)
    _, err = said(farm, TIMED_OUT, "-q", "app", "deploy", "-", "--force", "--timeout", "1", text=json.dumps(dict(huge, cpus=4001)))
    assert "0/2" not in err and "still under way" in err, err
    assert re.search("/huge .*0/2.*deploying", said(farm, DONE, "app", "list")[0])
    held = farm.get("/v2/deployments")[0]["id"]
    for words in (("app", "scale", "/huge", "1", "--no-wait"), ("app", "deploy", "-"), ("app", "restart", "/huge")):
        _, err = said(farm, CONFLICT, *words, text=json.dumps(huge) if words[1] == "deploy" else None)
        assert "locked by deployment " + held in err and "with --force" in err and "croft deployment rollback " + held in err, err
        assert "?force=true" not in err and "/v2/" not in err, "the API's advice is none on a command line"
    said(farm, DONE, "app", "remove", "/huge", "--force")
    said(farm, DONE, "app", "deploy", "-", "--no-wait", text=json.dumps(huge))
    deployment = as_json(farm, "deployment", "list")[0]["id"]
    out, _ = said(farm, DONE, "deployment", "list")
    assert deployment in out and "/huge" in out, out
    out, _ = said(farm, DONE, "deployment", "rollback", deployment)
    assert deployment in out, out
    _, err = said(farm, NOT_FOUND, "deployment", "rollback", deployment)
    assert "is not under way" in err and "croft app rollback APP" in err, err
    wait("it is as before", lambda: farm.get("/v2/deployments") == [] and farm.call("GET", "/v2/apps/huge")[0] == 404)


def test_a_wait_outlives_the_farm(farm):
    """Who waits for a deployment while the farm's master dies goes on waiting, and hears the end of it."""
    slow = dict(SLEEPER, id="/slow", cmd=f"sleep 4; exec /usr/bin/python3 -m http.server $PORT0", instances=1, mem=64, portDefinitions=[{"port": 0}],
                healthChecks=[{"protocol": "HTTP", "path": "/", "gracePeriodSeconds": 60, "intervalSeconds": 1}])
    waiting = subprocess.Popen([farm.bin + "/croft", "app", "deploy", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    waiting.stdin.write(json.dumps(slow))
    waiting.stdin.close()
    waiting.stdin = None
    wait("it is under way", lambda: farm.running("/slow"))
    farm.kill9()
    time.sleep(1)
    farm.start()
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == DONE and "deployed" in out and "waiting on" in err, (waiting.returncode, out, err)
    said(farm, DONE, "app", "remove", "/slow")


def test_versions_and_back(farm):
    app = dict(SLEEPER, id="/turned", instances=1)
    for colour in ("red", "green"):
        said(farm, DONE, "app", "deploy", "-", text=json.dumps(dict(app, env={"COLOUR": colour})))
    newest, oldest = as_json(farm, "app", "versions", "/turned")["versions"]
    out, _ = said(farm, DONE, "app", "versions", "turned")
    assert re.search(newest + " +present +1 ", out) and oldest in out and "sleep" in out, out
    out, _ = said(farm, DONE, "app", "rollback", "/turned")
    assert oldest in out and farm.app("/turned")["env"] == {"COLOUR": "red"}, out
    said(farm, DONE, "app", "rollback", "/turned", newest)
    assert farm.app("/turned")["env"] == {"COLOUR": "green"}
    _, err = said(farm, NOT_FOUND, "app", "rollback", "/turned", "2015-01-01T00:00:00.000Z")
    assert "does not exist in version 2015" in err, err
    said(farm, NOT_FOUND, "app", "rollback", "/nothing")
    said(farm, NOT_FOUND, "app", "versions", "/nothing")
    said(farm, DONE, "app", "remove", "/turned")
    said(farm, DONE, "app", "deploy", "-", text=json.dumps(app))
    _, err = said(farm, FAILED, "app", "rollback", "/turned")
    assert "no version before the present one" in err, err
    said(farm, DONE, "app", "remove", "/turned")


def test_rules(farm):
    assert "No rules yet" in said(farm, DONE, "rule", "list")[0]
    acl = "path_beg -i /ruled"
    out, _ = said(farm, DONE, "rule", "set", "ruled", acl)
    assert out.startswith("/ruled: ") and acl in out, out
    assert as_json(farm, "rule", "list") == {"/ruled": {"Id": "/ruled", "Acl": acl, "Config": {"Acl": acl}}}
    assert re.search("/ruled +" + acl, said(farm, DONE, "rule", "list")[0])
    assert as_json(farm, "rule", "set", "/ruled", "path /other")["Acl"] == "path /other"
    _, err = said(farm, USAGE, "rule", "set", "/ruled", "no_such_thing at all")
    assert "HAProxy refuses this rule" in err and "no_such_thing" in err, err
    assert as_json(farm, "rule", "list")["/ruled"]["Acl"] == "path /other", "what was refused changes nothing"
    said(farm, DONE, "rule", "remove", "/ruled")
    _, err = said(farm, NOT_FOUND, "rule", "remove", "/ruled")
    assert "/ruled has no rule" in err, err
    _, err = said(farm, UNREACHABLE, "rule", "list", "--balancer-url", "http://127.0.0.1:1")
    assert "CROFT_BAMBOO_URL" in err, err


def completed(farm, *words):
    script = f'source {TOP}/deploy/completion/croft.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _croft; echo "${{COMPREPLY[@]}}"'
    return subprocess.run(["bash", "-c", script, "bash", farm.bin + "/croft", *words], capture_output=True, text=True, timeout=20).stdout.split()


def test_completion(farm):
    assert {"app", "rule", "deployment"} <= set(completed(farm, ""))
    assert set(completed(farm, "rule", "")) == {"list", "set", "remove"}
    assert {"versions", "rollback"} <= set(completed(farm, "app", ""))
    assert completed(farm, "app", "rollback", "--no") == ["--no-wait"]
    said(farm, DONE, "rule", "set", "/completed", "path /c")
    assert completed(farm, "rule", "remove", "") == ["/completed"]
    said(farm, DONE, "rule", "remove", "/completed")
    said(farm, DONE, "app", "deploy", "-", text=json.dumps(dict(SLEEPER, id="/completed", instances=1)))
    assert completed(farm, "app", "rollback", "/comp") == ["/completed"]
    assert completed(farm, "app", "rollback", "/completed", "") == as_json(farm, "app", "versions", "/completed")["versions"]
    said(farm, DONE, "app", "remove", "/completed")


def test_another_change_takes_over(farm):
    huge = dict(SLEEPER, id="/contested", cpus=4000)
    done = {}

    def first():
        done["first"] = subprocess.run([farm.bin + "/croft", "app", "deploy", "-"], input=json.dumps(huge), capture_output=True, text=True, timeout=60)

    thread = threading.Thread(target=first)
    thread.start()
    wait("the first one is under way", lambda: farm.get("/v2/deployments") != [])
    said(farm, DONE, "app", "deploy", "-", "--force", text=json.dumps(dict(huge, cpus=0.1)))
    thread.join()
    assert done["first"].returncode == FAILED and "another change took over" in done["first"].stderr, done["first"]
    out, _ = said(farm, DONE, "app", "deploy", "-", text=json.dumps(dict(huge, cpus=0.1)))
    assert out == "/contested: deployed\n", "the same again changes nothing, which is no failure"
    said(farm, DONE, "app", "remove", "/contested")


def test_no_wait(farm):
    out, _ = said(farm, DONE, "app", "deploy", "-", "--no-wait", text=json.dumps(SLEEPER))
    assert re.fullmatch(r"/sleeper: deployment \S+ is under way\n", out), out
    farm.settled()
    said(farm, DONE, "app", "remove", "/sleeper", "--no-wait")
    farm.settled()


def test_logs(farm):
    app = dict(SLEEPER, id="/talker", instances=1, cmd="i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); done; while [ ! -e go ]; do sleep 0.02; done; echo after; echo oops >&2; exec sleep 10000")
    said(farm, DONE, "app", "deploy", "-", text=json.dumps(app))
    wait("the lines are there", lambda: said(farm, DONE, "logs", "/talker")[0].count("\n") == 20)
    out, _ = said(farm, DONE, "logs", "/talker", "-n", "3")
    assert [line.split(" ", 3)[3] for line in out.splitlines()] == ["line 17", "line 18", "line 19"], out
    out, _ = said(farm, DONE, "logs", "talker", "--json", "-n", "1")
    assert json.loads(out)["message"] == "line 19" and json.loads(out)["app"] == "/talker", out
    out, _ = said(farm, DONE, "logs", "/talker", "--query", 'message:"line 7"')
    assert out.count("\n") == 1 and "line 7" in out, out
    _, err = said(farm, USAGE, "logs", "/talker", "--query", "message:[1 TO")
    assert err.startswith("croft: "), err
    follower = subprocess.Popen([farm.bin + "/croft", "logs", "-f", "-n", "2", "/talker"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = [follower.stdout.readline() for _ in range(2)]
    assert "line 18" in first[0] and "line 19" in first[1], first
    sandbox = farm.app("/talker")["tasks"][0]["id"]
    for at, dirs, files in os.walk(farm.data + "/node/slaves"):
        if sandbox in at and "stdout" in files:
            open(at + "/go", "w").close()
    more = [follower.stdout.readline() for _ in range(2)]
    assert sorted(line.split(" ", 3)[2:] for line in more) == [["stderr", "oops\n"], ["stdout", "after\n"]], more
    follower.stdout.close()
    begun = time.monotonic()
    assert follower.wait(5) in (0, -13, 141), "it ends when nobody reads any more"
    assert time.monotonic() - begun < 3
    follower.stderr.close()
    said(farm, DONE, "app", "remove", "/talker")
    assert said(farm, DONE, "logs", "/talker", "-n", "1")[0], "what a removed app said can still be read"


def test_a_program_that_is_not_there(farm):
    lost = {"id": "/lost", "cmd": "nosuchprogram", "cpus": 0.1, "mem": 32, "portDefinitions": []}
    err = said(farm, FAILED, "app", "deploy", "-", text=json.dumps(lost))[1]
    assert "ended at once" in err and "127" in err and "croft logs /lost" in err, err
    wait("its last words", lambda: "nosuchprogram" in said(farm, DONE, "logs", "/lost", "-n", "5")[0], 10)
    assert "was not found" in said(farm, DONE, "explain", "/lost")[0] and "croft logs /lost" in said(farm, DONE, "explain", "/lost")[0]
    said(farm, DONE, "app", "remove", "/lost")
    err = said(farm, DONE, "app", "deploy", "-", text=json.dumps(dict(lost, id="/typed", cmd="exec sleep 100", instancs=2)))[1]
    assert "warning: -: not known, and without effect: /instancs" in err, err
    said(farm, DONE, "app", "remove", "/typed")
    assert 'auth = "none"' in said(farm, FAILED, "whoami")[1]


def test_logs_of_json_without_a_message(farm):
    teller = {"id": "/teller", "cmd": "echo '{\"colour\":\"green\",\"bytes\":12}'; exec sleep 1000", "cpus": 0.1, "mem": 32, "portDefinitions": []}
    said(farm, DONE, "app", "deploy", "-", text=json.dumps(teller))
    wait("its line", lambda: '{"colour":"green","bytes":12}' in said(farm, DONE, "logs", "/teller")[0], 10)
    err = said(farm, USAGE, "logs", "/teller", "--query", "colour:(")[1]
    assert err.startswith("croft: ") and "colour:(" in err, err
    said(farm, DONE, "app", "remove", "/teller")


def test_a_closed_pipe_and_a_full_disk(farm):
    for words in (("app", "list"), ("--help",), ("node", "list"), ("logs", "/talker")):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run([farm.bin + "/croft", *words], stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=20)
        os.close(write_end)
        assert done.returncode in (0, 1, -13, 141) and "terminate" not in done.stderr, (words, done)
    with open("/dev/full", "w") as full:
        done = subprocess.run([farm.bin + "/croft", "node", "list"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=20)
        assert done.returncode == FAILED and "cannot write to stdout" in done.stderr, done


def test_down(farm):
    farm.down()
    _, err = said(farm, UNREACHABLE, "app", "list")
    assert "is it up?" in err, err
    assert said(farm, DONE, "version")[0].startswith("croft ")
    done = subprocess.run([farm.bin + "/croft", "down", "--data", farm.data], timeout=60)
    assert done.returncode == 0, "what is down already is no error"


def start_executor(program, run):
    """As the agent does (src/executor/spawner.hpp): a spawner, one run folder, a pipe for its word."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    moved = os.fork()
    if moved == 0:
        os.dup2(theirs.fileno(), 3)
        os.execv(program, [program, "--spawner", "-" * 200])
    theirs.close()
    mine.sendmsg([run.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", writing))])
    os.close(writing)
    word = os.read(reading, 256)
    os.close(reading)
    mine.close()
    os.waitpid(moved, 0)
    assert word == b"ok", word


def test_down_ends_an_executor_that_cannot_record_an_end(farm):
    """Its task is over, the disk is full: it stays to write the end down, until there is room or nobody wants it any more."""
    data, executor = farm.dir + "/full", 0
    os.makedirs(data)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", data], check=True)
    try:
        run = data + "/node/runs/t.1"
        os.makedirs(run)
        with open(run + "/exec.conf", "w") as f:
            f.write("\0".join(("arg=/bin/sleep", "arg=1000", "dir=" + run, "")))
        start_executor(farm.bin + "/croft-executor", run)
        pid = wait("it is started", lambda: int(re.search(r"pid=(\d+)", open(run + "/started").read()).group(1)))
        executor = int(re.search(r"PPid:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1))
        filler = os.open(data + "/filler", os.O_WRONLY | os.O_CREAT)
        for size in (4096, 1):
            try:
                while True:
                    os.write(filler, b"x" * size)
            except OSError:
                pass
        os.close(filler)
        os.kill(pid, signal.SIGKILL)
        wait("the task is gone", lambda: not alive(pid))
        time.sleep(0.1)
        assert alive(executor) and not os.path.exists(run + "/exit"), "it waits for room"
        said(farm, DONE, "down", "--data", data)
        wait("nothing is left", lambda: not alive(executor), 5)
    finally:
        if executor and alive(executor):
            os.kill(executor, signal.SIGKILL)
        subprocess.run(["umount", "-l", data])


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), Farm(sys.argv[1]), sys.argv[2:])
