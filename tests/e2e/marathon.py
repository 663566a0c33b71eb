#!/usr/bin/env python3
"""Marathon's API over real sockets, as old clients use it.   usage: marathon.py BIN_DIR [TEST...]"""
import gzip
import http.client
import json
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import Farm, own_namespace, run_suite, wait  # noqa: E402

SLEEP = {"id": "/old/client", "cmd": "exec sleep 1000", "cpus": 0.1, "mem": 16, "instances": 2}

# What marathon-python's constructors take; anything else makes its list_apps() and list_tasks() raise.
APP_KEYS = set("""acceptedResourceRoles args backoffFactor backoffSeconds cmd constraints container cpus dependencies deployments disk env executor healthChecks
id instances killSelection labels lastTaskFailure maxLaunchDelaySeconds mem ports requirePorts storeUrls taskRateLimit tasks tasksRunning tasksStaged tasksHealthy
taskKillGracePeriodSeconds tasksUnhealthy upgradeStrategy unreachableStrategy uris user version versionInfo ipAddress fetch taskStats readinessChecks
readinessCheckResults secrets portDefinitions residency gpus networks role""".split())
TASK_KEYS = set("appId healthCheckResults host id ports servicePorts slaveId stagedAt startedAt version ipAddresses state localVolumes region zone role".split())
DEPLOYMENT_KEYS = set("affectedApps affectedPods currentActions currentStep id steps totalSteps version".split())
INFO_KEYS = set("buildref elected event_subscriber frameworkId http_config leader marathon_config name version zookeeper_config".split())


def raw(farm, text, port=8080):
    """What a server answers to exactly these bytes."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(text.encode())
        s.settimeout(5)
        out = b""
        while True:
            try:
                piece = s.recv(65536)
            except socket.timeout:
                break
            if not piece:
                break
            out += piece
    return out.decode(errors="replace")


class Stream(threading.Thread):
    """A client of /v2/events."""

    def __init__(self, query=""):
        super().__init__(daemon=True)
        self.events = []
        self.connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
        self.connection.request("GET", "/v2/events" + query, headers={"Accept": "text/event-stream", "Accept-Encoding": "gzip"})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200 and self.answer.getheader("Content-Type") == "text/event-stream;charset=UTF-8"
        assert self.answer.getheader("Content-Encoding") is None
        self.start()

    def run(self):
        kind = None
        try:
            for line in self.answer:
                line = line.decode()
                if line.startswith("event: "):
                    kind = line[7:].strip()
                elif line.startswith("data: "):
                    data = json.loads(line[6:])
                    assert data["eventType"] == kind, (kind, data)
                    self.events.append(data)
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass

    def types(self):
        return [e["eventType"] for e in self.events]

    def end(self):
        try:
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            pass


def test_a_deployer_of_2015(farm):
    """POST, poll the deployment, read the tasks, PUT back what was read, scale, delete; without a Content-Type."""
    status, made = farm.call("POST", "/v2/apps", SLEEP, headers={"Content-Type": ""})
    assert status == 201, made
    assert made["id"] == "/old/client" and made["tasks"] == [] and made["tasksRunning"] == 0
    deployment = made["deployments"][0]["id"]
    wait("the deployment is over", lambda: deployment not in [d["id"] for d in farm.get("/v2/deployments")])
    app = farm.app("//old/client")
    assert app["tasksRunning"] == 2 and len(app["tasks"]) == 2 and app["ports"][0] >= 10000
    before = {t["id"] for t in app["tasks"]}
    status, done = farm.call("PUT", "/v2/apps//old/client", app)
    assert status == 200 and done["deploymentId"], done
    assert farm.app("/old/client")["version"] == app["version"]
    farm.settled()
    assert {t["id"] for t in farm.app("/old/client")["tasks"]} == before
    assert farm.call("PUT", "/v2/apps/old/client", '{"instances": 3}', headers={"Content-Type": "text/plain"})[0] == 200
    farm.settled()
    assert farm.app("/old/client")["tasksRunning"] == 3


def test_strict_clients_meet_no_field_they_do_not_know(farm):
    for app in farm.get("/v2/apps?embed=apps.tasks&embed=apps.lastTaskFailure&embed=apps.taskStats")["apps"]:
        assert set(app) <= APP_KEYS, set(app) - APP_KEYS
        for task in app["tasks"]:
            assert set(task) <= TASK_KEYS, set(task) - TASK_KEYS
    for task in farm.get("/v2/tasks")["tasks"]:
        assert set(task) <= TASK_KEYS
    assert set(farm.get("/v2/info")) <= INFO_KEYS
    status, done = farm.call("PUT", "/v2/apps/old/client", {"env": {"A": "b"}})
    assert status == 200
    for deployment in farm.get("/v2/deployments"):
        assert set(deployment) <= DEPLOYMENT_KEYS
    wait("tasks are seen while they leave", lambda: all(set(t) <= TASK_KEYS for t in farm.get("/v2/tasks")["tasks"]))
    farm.settled()


def test_times_have_three_digits(farm):
    app = farm.app("/old/client")
    for text in [app["version"], app["versionInfo"]["lastScalingAt"], *(t["startedAt"] for t in app["tasks"]), *(t["stagedAt"] for t in app["tasks"])]:
        time.strptime(text, "%Y-%m-%dT%H:%M:%S." + text[20:23] + "Z")
        assert len(text) == 24 and text.endswith("Z"), text


def test_the_bridge_script_of_2013(farm):
    answer = farm.call("GET", "/v2/tasks", headers={"Accept": "text/plain"})[1]
    line = next(x for x in answer.splitlines() if x.startswith("old_client\t"))
    words = [w for w in line.split("\t") if w]
    assert len(words) == 5 and int(words[1]) >= 10000 and all(":" in w for w in words[2:]), words


def test_heads_options_and_wrong_methods(farm):
    answer = raw(farm, "HEAD /v2/apps HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 200") and answer.endswith("\r\n\r\n"), answer
    assert "X-Marathon-Leader: http://" in answer and "Cache-Control: no-cache, no-store, must-revalidate" in answer, answer
    answer = raw(farm, "OPTIONS /v2/apps HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 200") and "Allow:" in answer and "POST" in answer, answer
    answer = raw(farm, "DELETE /v2/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 405") and '"message"' in answer and "X-Marathon-Leader: http://" in answer, answer
    assert raw(farm, "GET /v2/info HTTP/1.1\r\nConnection: close\r\n\r\n").startswith("HTTP/1.1 400"), "without a Host"
    answer = raw(farm, "GET /ping HTTP/1.0\r\n\r\n")
    assert answer.startswith("HTTP/1.") and answer.endswith("pong"), answer


def test_answers_are_compressed_for_those_who_ask(farm):
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
    connection.request("GET", "/v2/apps?embed=apps.tasks", headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.getheader("Content-Encoding") == "gzip"
    assert json.loads(gzip.decompress(body))["apps"]
    connection.close()


def test_events_of_a_whole_life(farm):
    all_of_them, some = Stream(), Stream("?event_type=deployment_success&event_type=api_post_event")
    app = dict(SLEEP, id="/told", instances=1)
    deployment = farm.call("POST", "/v2/apps", app)[1]["deployments"][0]["id"]
    farm.settled()
    farm.call("DELETE", "/v2/apps/told")
    farm.settled()
    wait("the end was told", lambda: all_of_them.types().count("deployment_success") == 2 and len(some.events) >= 3)
    types = all_of_them.types()
    assert types[0] == "event_stream_attached"
    for expected in ("api_post_event", "group_change_success", "deployment_info", "status_update_event", "instance_changed_event", "deployment_step_success", "app_terminated_event"):
        assert expected in types, (expected, types)
    assert some.types() == ["api_post_event", "deployment_success", "deployment_success"], some.types()
    assert next(e for e in all_of_them.events if e["eventType"] == "deployment_success")["id"] == deployment
    states = [e["taskStatus"] for e in all_of_them.events if e["eventType"] == "status_update_event" and e["appId"] == "/told"]
    assert states[0] == "TASK_STAGING" and "TASK_RUNNING" in states and states[-1] == "TASK_KILLED", states
    all_of_them.end(), some.end()


def test_a_locked_app(farm):
    waits = dict(SLEEP, id="/waits", cpus=9999)
    assert farm.call("POST", "/v2/apps", waits)[0] == 201
    status, body = farm.call("PUT", "/v2/apps/waits", {"instances": 1})
    assert status == 409 and body["deployments"][0]["id"], body
    queue = wait("it stands in the queue", lambda: [q for q in farm.get("/v2/queue?embed=lastUnusedOffers")["queue"] if q["app"]["id"] == "/waits"])
    assert queue[0]["count"] == 2 and queue[0]["delay"]["overdue"] and queue[0]["lastUnusedOffers"][0]["reason"] == ["InsufficientCpus"], queue
    assert farm.call("DELETE", f"/v2/deployments/{body['deployments'][0]['id']}?force=true") == (202, "")
    assert farm.call("DELETE", "/v2/apps/waits")[0] == 200
    farm.settled()


def test_constraints_are_obeyed(farm):
    farm.call("POST", "/v2/apps", dict(SLEEP, id="/unique", constraints=[["hostname", "UNIQUE"]]))
    wait("one runs", lambda: farm.app("/unique")["tasksRunning"] == 1)
    reasons = farm.get("/croft/v1/explain/unique")["reasons"]
    assert any("the constraint is hostname UNIQUE" in r for r in reasons), reasons
    assert farm.app("/unique")["tasksRunning"] == 1
    assert farm.call("DELETE", "/v2/apps/unique")[0] == 200
    farm.settled()


def test_kill_and_scale(farm):
    task = farm.app("/old/client")["tasks"][0]["id"]
    status, body = farm.call("DELETE", f"/v2/apps/old/client/tasks/{task}?scale=true")
    assert status == 200 and body["deploymentId"], body
    farm.settled()
    app = farm.app("/old/client")
    assert app["instances"] == 2 and task not in [t["id"] for t in app["tasks"]]
    task = app["tasks"][0]["id"]
    status, body = farm.call("POST", "/v2/tasks/delete", {"ids": [task]})
    assert status == 200 and body["tasks"][0]["id"] == task
    wait("it was replaced", lambda: len([t for t in farm.running("/old/client") if t["id"] != task]) == 2)


def test_many_kill_the_same_task(farm):
    """The task may go between the moment it is looked up and the one it is killed in."""
    farm.deploy({"id": "/hunted", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 8, "instances": 4, "backoffSeconds": 0, "portDefinitions": []})
    pid, seen, end = farm.process.pid, set(), time.monotonic() + 2

    def hunt():
        while time.monotonic() < end:
            for task in farm.app("/hunted")["tasks"]:
                seen.add(farm.call("DELETE", f"/v2/apps/hunted/tasks/{task['id']}")[0])

    hunters = [threading.Thread(target=hunt) for _ in range(12)]
    for hunter in hunters:
        hunter.start()
    for hunter in hunters:
        hunter.join()
    assert seen <= {200, 404} and 200 in seen, seen
    assert farm.process.poll() is None and farm.process.pid == pid
    wait("all are back", lambda: farm.app("/hunted")["tasksRunning"] == 4, 20)
    farm.call("DELETE", "/v2/apps/hunted?force=true")
    farm.settled()


def test_a_chain_of_dependencies_has_a_bound(farm):
    def chain(n):
        return {"id": "/chain", "apps": [dict({"id": f"a{i}", "cmd": "sleep 1", "instances": 0}, **({"dependencies": [f"/chain/a{i - 1}"]} if i else {})) for i in range(n)]}

    status, body = farm.call("PUT", "/v2/groups/chain", chain(120))
    assert status == 422 and "deep" in str(body), (status, body)
    assert farm.call("PUT", "/v2/groups/chain", chain(80))[0] in (200, 201)
    farm.settled()
    farm.call("DELETE", "/v2/groups/chain?force=true")
    farm.settled()


def test_rollback_by_version(farm):
    versions = farm.get("/v2/apps/old/client/versions")["versions"]
    assert versions == sorted(versions, reverse=True) and len(versions) >= 3
    assert farm.call("PUT", "/v2/apps/old/client", {"version": versions[-1]})[0] == 200
    farm.settled()
    app = farm.app("/old/client")
    assert app["env"] == {} and app["instances"] == 2 and app["version"] > versions[0]
    assert farm.call("DELETE", "/v2/apps/old/client")[0] == 200
    farm.settled()


if __name__ == "__main__":
    own_namespace()
    run_suite(globals(), Farm(sys.argv[1]), sys.argv[2:])
