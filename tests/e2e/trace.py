#!/usr/bin/env python3
"""What stands in the audit log, and what becomes of what is open when its rights are taken away.   usage: trace.py BIN_DIR [TEST...]"""
import http.client
import json
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from farm import own_namespace, run_suite, wait  # noqa: E402
from secure_farm import PASSWORD, SecureFarm, basic, sleeper  # noqa: E402

BOX, OTHER = "/service/box", "/other/app"


class Farm(SecureFarm):
    def config_of(self, role, more=""):
        return super().config_of(role, more + '[[policy]]\ngroup = "/service"\nusers = ["root"]\n')

    def start(self):
        super().start()
        self.deploy(sleeper(BOX))
        self.deploy(sleeper(OTHER))

    def user(self, name, *grants):
        status, body = self.call("POST", "/croft/v1/users", {"name": name, "password": PASSWORD, "grants": list(grants)})
        assert status == 201, body
        return basic(name)

    def login(self, name):
        status, body = self.call("POST", "/croft/v1/login", "{}", who=basic(name))
        assert status == 201, body
        return "Bearer " + body["token"]

    def records(self, **wanted):
        """The newest records that say so; `what` and `reason` by a part of them."""
        found = self.call("GET", "/croft/v1/audit?last=1000")[1]["records"]
        part = lambda r, key, value: value in r.get(key, "") if key in ("what", "reason") else r.get(key) == value  # noqa: E731
        return [r for r in found if all(part(r, key, value) for key, value in wanted.items())]


def task_of(farm, app):
    return farm.app(app)["tasks"][0]["id"]


def evil(**docker):
    return {"id": "/service/evil", "cmd": "cat /host/etc/shadow", "cpus": 0.1, "mem": 32,
            "container": {"type": "DOCKER", "docker": dict({"image": "python:3-slim", "network": "HOST"}, **docker), "volumes": [{"containerPath": "/host", "hostPath": "/", "mode": "RW"}]}}


def test_the_old_exploit_stands_in_the_log(farm):
    """S18: what policy refuses was an attempt of somebody; and who may not change an app hears nothing of what else would be wrong with it."""
    group = {"id": "/service", "groups": [{"id": "deep", "apps": [dict(evil(), id="evil")]}], "apps": [sleeper(BOX)]}
    for method, path, body in (("POST", "/v2/apps", evil()), ("PUT", "/v2/apps/service/evil", evil(privileged=True)), ("PUT", "/v2/groups/service", group), ("POST", "/v2/apps", dict(sleeper("/service/evil"), user="daemon"))):
        before = len(farm.records(who="user olga", done=False))
        assert farm.call(method, path, body, who=basic("olga"))[0] == 422, (method, path)
        told = wait("it is written down", lambda: (lambda all: all if len(all) > before else None)(farm.records(who="user olga", done=False)))[-1]
        assert told["what"] == f"{method} {path}" and any("evil" in p for p in told["paths"]) and told["reason"], told
        status, text = farm.call(method, path, body, who=basic("vic"))
        assert status == 403 and "/etc" not in str(text) and "olicy" not in str(text), (status, text)
    assert farm.call("POST", "/v2/apps", dict(sleeper("/service/evil"), user="root"), who=basic("olga"))[0] == 403
    wait("also what only admins may", lambda: farm.records(who="user olga", done=False, reason="admins only"))
    assert "/service/evil" not in [a["id"] for a in farm.get("/v2/apps")["apps"]]


def test_what_was_changed_stands_there(farm):
    """Item by item: of numbers the values, of everything else the names, because values may be secret."""
    for body, words in (({"instances": 2}, "instances 1 -> 2"), ({"env": {"PASSWORD": "hunter2"}}, "env"), ({"cmd": "exec sleep 99999"}, "cmd"), ({"cpus": 0.2, "mem": 48}, "cpus 0.1 -> 0.2")):
        assert farm.call("PUT", "/v2/apps" + BOX, body, who=basic("olga"))[0] == 200
        told = farm.records(who="user olga", done=True)[-1]
        assert told["changes"] == [f"{BOX}: {words}"] or (words in told["changes"][0] and len(body) > 1), (body, told)
        assert "hunter2" not in json.dumps(farm.records()), told
        farm.settled()
    assert f"{BOX}: mem" not in farm.run("audit", "log").stdout and "instances 1 -> 2" in farm.run("audit", "log").stdout
    farm.deploy(sleeper("/service/brief"))
    farm.call("DELETE", "/v2/apps/service/brief", who=basic("olga"))
    assert farm.records(what="DELETE /v2/apps/service/brief")[-1]["changes"] == ["/service/brief: removed"]
    assert farm.records(paths=["/service/brief"], done=True)[0]["changes"] == ["/service/brief: new"]


def test_attempts_at_what_one_may_not_even_see(farm):
    """They are answered as if there was nothing, and written down."""
    task = task_of(farm, OTHER)
    assert farm.call("POST", "/croft/v1/exec", {"task": task, "command": ["id"]}, who=basic("olga"))[0] == 404
    wait("exec", lambda: farm.records(who="user olga", done=False, paths=[OTHER], what="/croft/v1/exec"))
    assert farm.call("POST", "/v2/tasks/delete", {"ids": [task]}, who=basic("olga")) == (200, {"tasks": []})
    assert farm.call("POST", "/v2/tasks/delete?scale=true", {"ids": [task]}, who=basic("olga"))[0] == 200
    wait("tasks/delete", lambda: len(farm.records(who="user olga", done=False, paths=[OTHER], what="/v2/tasks/delete")) == 2)
    assert task_of(farm, OTHER) == task
    assert farm.call("POST", "/croft/v1/agents/x/reports", {}, who=basic("root"))[0] == 403
    wait("a path of the hosts", lambda: farm.records(who="user root", done=False, what="/croft/v1/agents/x/reports"))
    assert farm.call("POST", "/croft/v1/agents/x/reports", {}, who=basic("root", "wrong"))[0] == 401


def test_tokens_make_nobody_more(farm):
    """Refusals written down, and sessions: counted by user, however many tokens he logs in with."""
    who = farm.user("many", "operator:/service")
    tokens = [farm.login("many") for _ in range(4)]
    for token in tokens:
        for _ in range(20):
            assert farm.call("PUT", "/v2/apps" + OTHER, {"instances": 9}, who=token)[0] == 403
    assert 0 < len([r for r in farm.records(done=False) if "many" in r["who"]]) <= 40  # two minutes may have begun
    task, opened = task_of(farm, BOX), 0
    for token in [who] + tokens:
        for _ in range(8):
            status, body = farm.call("POST", "/croft/v1/exec", {"task": task, "command": ["sleep", "5"]}, who=token)
            opened += status == 200
            assert status == 200 or "of yours" in str(body), body
    assert opened == 16, opened
    assert farm.call("POST", "/croft/v1/exec", {"task": task, "command": ["true"]}, who=basic("olga"))[0] == 200


def follow(farm, who):
    """An event stream that is read until it ends: ([bytes so far], the thread)."""
    connection = http.client.HTTPSConnection("127.0.0.1", 8080, timeout=60, context=farm.tls)
    connection.request("GET", "/v2/events", headers={"Accept": "text/event-stream", "Authorization": who})
    answer = connection.getresponse()
    assert answer.status == 200
    seen = []

    def read():
        try:
            while chunk := answer.read1(65536):
                seen.append(chunk)
        except (http.client.HTTPException, OSError):
            pass  # cut: that is an end as well
        connection.close()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return seen, thread


def test_events_end_with_their_rights(farm):
    who = farm.user("eve", "viewer:/")
    token = farm.login("eve")
    seen, _ = follow(farm, who)
    ended, thread = follow(farm, token)
    farm.call("PUT", "/v2/apps" + OTHER, {"instances": 2})
    farm.settled()
    for stream in (seen, ended):
        wait("it tells", lambda: OTHER.encode() in b"".join(stream))
    assert farm.call("PUT", "/croft/v1/users/eve", {"grants": ["viewer:/service"]})[0] == 200
    seen.clear()
    farm.call("PUT", "/v2/apps" + OTHER, {"instances": 1})
    farm.settled()
    farm.call("PUT", "/v2/apps" + BOX, {"instances": 3})
    farm.settled()
    wait("what he still may see", lambda: BOX.encode() in b"".join(seen))
    assert OTHER.encode() not in b"".join(seen), b"".join(seen)[:2000]
    wait("the token was the login of a user whose rights have changed: it is over", lambda: not thread.is_alive(), 15)


def test_a_session_ends_with_its_rights(farm):
    who = farm.user("sam", "operator:/service")
    status, body = farm.call("POST", "/croft/v1/exec", {"task": task_of(farm, BOX), "command": ["sh", "-c", "sleep 4911"]}, who=who)
    assert status == 200, body
    path = f"/croft/v1/exec/{body['session']}?after=0"
    assert farm.call("GET", path, who=who)[0] == 200
    assert farm.call("PUT", "/croft/v1/users/sam", {"grants": ["viewer:/service"]})[0] == 200
    assert farm.call("GET", path, who=who)[0] == 403
    wait("it is written down", lambda: farm.records(who="user sam", done=False, what="which is ended"))
    wait("the command has gone", lambda: os.system("pgrep -fx 'sleep 4911' >/dev/null") != 0, 15)


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), Farm(sys.argv[1]), sys.argv[2:])
