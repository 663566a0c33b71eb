#!/usr/bin/env python3
"""Commands inside tasks: croft exec and health checks, on a farm with logins and TLS; and what else an operator might try.   usage: inside.py BIN_DIR [TEST...]"""
import fcntl
import glob
import hashlib
import json
import os
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attacks import POWERS  # noqa: E402
from farm import own_namespace, run_suite, wait  # noqa: E402
from secure_farm import SecureFarm, basic, sleeper  # noqa: E402

APP = "/service/box"
ROOTS = "/service/roots"
SILENCE = 15 + 10  # seconds: until a client or an agent counts as gone, and room


class Farm(SecureFarm):
    """An admin of /service may run tasks as root there; who may do what has a token in a file."""

    def config_of(self, role, more=""):
        return super().config_of(role, more + 'allow_host_paths = ["/srv"]\n' + '[[policy]]\ngroup = "/service"\nusers = ["root"]\n')

    def start(self):
        super().start()
        self.files = {}
        for name, grant in (("vic", "viewer:/service"), ("olga", "operator:/service"), ("ivan", "operator:/other"), ("adam", "admin:/service")):
            self.files[name] = f"{self.dir}/{name}.token"
            with open(os.open(self.files[name], os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
                f.write(self.run("token", "create", "--grant", grant, "--label", name).stdout)
        self.deploy(sleeper(APP, env={"GREETING": "good day"}))

    def words(self, *words, who="olga"):
        return [self.bin + "/croft", "--token-file", self.files[who], "exec", *words]

    @property
    def client(self):
        return dict(self.environment or os.environ, CROFT_URL="https://127.0.0.1:8080", CROFT_CA=self.ca, XDG_CONFIG_HOME=self.dir + "/config", TERM="xterm-256color")

    def exec(self, *words, who="olga", stdin=b"", timeout=60):
        return subprocess.run(self.words(*words, who=who), input=stdin, capture_output=True, timeout=timeout, env=self.client)

    def start_exec(self, *words, who="olga", **more):
        return subprocess.Popen(self.words(*words, who=who), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.client, **more)


def task_of(farm, app=APP):
    return farm.app(app)["tasks"][0]["id"]


def runs(marker):
    """Processes on this machine with these words."""
    return [p for p in glob.glob("/proc/[0-9]*/cmdline") if marker in open_or_nothing(p).replace("\0", " ") and f"/{os.getpid()}/" not in p and "croft" not in open_or_nothing(p).split("\0")[0].split("/")[-1]]


def open_or_nothing(path):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def test_a_command_is_the_tasks_own(farm):
    """Its output, errors and exit code; and no more rights than the task has: user, capabilities, filter, cgroup, environment, folder."""
    done = farm.exec(APP, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, b"out\n") and done.stderr.endswith(b"err\n"), done
    task = task_of(farm)
    assert farm.exec(task, "sh", "-c", "kill -9 $$").returncode == 137
    assert farm.exec(task, "no-such-program").returncode == 127
    look = farm.exec(task, "sh", "-c", 'id -u; pwd; echo "$GREETING $HOME"; grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status | tr -s "\\t" " "; cat /proc/self/cgroup; ls /proc | grep -c "^[0-9]"; ls "${PWD%/slaves/*}/slaves"')
    lines = look.stdout.decode().splitlines()
    assert lines[0] == "65534" and "/executors/" + task + "/" in lines[1] and lines[2] == "good day " + lines[1], look
    for fact in ("CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"):
        assert fact in lines, (fact, look)
    groups = [line for line in lines if f"/croft-dev/{task}" in line]
    assert len(groups) >= 1 and len(groups) == len([line for line in open_or_nothing(f"/proc/{pid_of(farm, task)}/cgroup").splitlines() if task in line]), (groups, lines)
    assert b"CROFT_TOKEN" not in farm.exec(task, "env").stdout, "the agent's own environment is none of its"
    assert b"Permission denied" in farm.exec(task, "sh", "-c", "ls ${PWD%/slaves/*}/slaves 2>&1").stdout, "other sandboxes are hidden"


def pid_of(farm, task):
    return open_or_nothing(f"{farm.data}/node/runs/{task}/started").split("pid=")[1].split()[0]


def test_much_goes_through(farm):
    data = os.urandom(8_000_000)
    begun = time.monotonic()
    done = farm.exec(APP, "sha256sum", stdin=data)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest(), done
    there = time.monotonic()
    done = farm.exec(APP, "cat", stdin=data)
    assert done.stdout == data, (len(done.stdout), done.stderr)
    print(f"    8 MB in: {there - begun:.2f} s; in and out: {time.monotonic() - there:.2f} s")
    # A reader that stands still for longer than anybody may be silent, and a program that reads nothing.
    slow = farm.start_exec(APP, "sh", "-c", "cat >/dev/null & head -c 3000000 /dev/zero")
    slow.stdin.close()
    got = len(slow.stdout.read(100))
    time.sleep(SILENCE)
    got += len(slow.stdout.read())
    assert (got, slow.wait(30)) == (3_000_000, 0), (got, slow.stderr.read())


def test_a_terminal(farm):
    """A shell on a terminal of its own: its size, its type, control characters."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
    before = termios.tcgetattr(its)
    shell = subprocess.Popen(farm.words(APP), stdin=its, stdout=its, stderr=its, env=farm.client, start_new_session=True)
    said = b""

    def until(text):
        nonlocal said
        end = time.monotonic() + 20
        while text not in said:
            assert time.monotonic() < end and (select.select([ours], [], [], 1)[0] or shell.poll() is None), (text, said)
            if select.select([ours], [], [], 0)[0]:
                said += os.read(ours, 4096)
        said = said.split(text, 1)[1]

    until(b"$ ")
    os.write(ours, b"stty size; echo type $TERM; test -t 0 && echo it is a terminal\r")
    until(b"31 97\r\n")
    until(b"type xterm-256color\r\n")
    until(b"it is a terminal\r\n")
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    shell.send_signal(signal.SIGWINCH)
    time.sleep(0.5)
    os.write(ours, b"stty size\r")
    until(b"50 120\r\n")
    os.write(ours, b"sleep 1000\r")
    until(b"sleep 1000\r\n")
    os.write(ours, b"\x03")
    os.write(ours, b"echo code $?\r")
    until(b"code 130\r\n")
    os.write(ours, b"exit 5\r")
    assert shell.wait(20) == 5
    assert termios.tcgetattr(its) == before, ("this terminal is not as it was", termios.tcgetattr(its), before)
    os.close(ours), os.close(its)


def test_who_may(farm):
    """Operators of the app; in a task that only an admin may start, admins. Each attempt is in the audit log, each session its opener's."""
    assert farm.exec(APP, "id", who="vic").returncode == 1 and b"running commands in" in farm.exec(APP, "id", who="vic").stderr
    assert farm.exec(task_of(farm), "id", who="ivan").returncode == 3, "he does not even hear that there is one"
    status, _, text = farm.answer("POST", "/croft/v1/exec", {"task": task_of(farm), "command": ["id"]}, who=basic("vic"))
    assert status == 403 and "needs operator" in text, (status, text)
    assert farm.answer("POST", "/croft/v1/exec", {"task": task_of(farm), "command": ["id"]}, who="")[0] == 401
    assert farm.answer("POST", "/croft/v1/exec", {"task": task_of(farm), "command": ["id"]}, who="", tls=farm.as_host("node"))[0] == 403, "hosts run nothing for themselves"
    status, made = farm.call("POST", "/croft/v1/exec", {"task": task_of(farm), "command": ["sleep", "5"]}, who=basic("olga"))
    assert status == 200, (status, made)
    session = "/croft/v1/exec/" + made["session"]
    for who in (basic("vic"), basic("adam"), farm.admin):
        assert farm.answer("GET", session + "?after=0", who=who)[0] == 404 and farm.answer("POST", session + "?at=0", "", who=who)[0] == 404, who
        farm.answer("DELETE", session, who=who)
    node = farm.call("GET", "/croft/v1/overview")[1]["hosts"][0]["id"]
    link = f"/croft/v1/agents/{node}/exec/{made['session']}?after=0"
    assert farm.answer("GET", link, who=basic("olga"))[0] in (401, 403) and farm.answer("GET", link, who="", tls=farm.as_host("log"))[0] == 403, "another host's certificate"
    assert farm.answer("GET", session + "?after=0", who=basic("olga"))[0] == 200 and farm.answer("DELETE", session, who=basic("olga"))[0] == 204
    # As root by an admin's word: an operator may scale it, and neither change what it runs nor run something in it.
    status, body = farm.call("POST", "/v2/apps", sleeper(ROOTS, user="root"), who=basic("adam"))
    assert status == 201, (status, body)
    wait("it runs", lambda: farm.app(ROOTS)["tasksRunning"] == 1)
    farm.settled()
    assert farm.exec(ROOTS, "id", "-u").returncode == 1 and farm.exec(ROOTS, "id", "-u", who="adam").stdout == b"0\n"
    for change in ({"cmd": "id"}, {"env": {"LD_PRELOAD": "/x"}}, {"args": ["id"], "cmd": None}, {"healthChecks": [{"protocol": "COMMAND", "command": {"value": "id"}}]}, {"fetch": [{"uri": "/srv/x"}]}):
        status, body = farm.call("PUT", "/v2/apps" + ROOTS, change, who=basic("olga"))
        assert status == 403 and "admins only" in str(body), (change, status, body)
    assert farm.call("PUT", "/v2/apps" + ROOTS, {"instances": 2}, who=basic("olga"))[0] == 200
    farm.settled()
    # What took root away from it is not an operator's to undo.
    never = {"protocol": "COMMAND", "command": {"value": "false"}, "gracePeriodSeconds": 300, "intervalSeconds": 1}
    status, body = farm.call("PUT", f"/v2/apps{ROOTS}?partialUpdate=false", sleeper(ROOTS, instances=2, healthChecks=[never]), who=basic("adam"))
    assert status == 200, (status, body)
    deployment = "/v2/deployments/" + body["deploymentId"]
    status, body = farm.call("DELETE", deployment, who=basic("olga"))
    assert status == 403 and "admins only" in str(body), (status, body)
    assert farm.call("DELETE", deployment, who=basic("adam"))[0] == 200
    farm.settled()
    records = farm.call("GET", "/croft/v1/audit?last=1000")[1]["records"]
    told = [(r["done"], r["what"]) for r in records if "/croft/v1/exec" in r["what"] and "user olga" == r["who"]]
    assert (True, f"POST /croft/v1/exec {task_of(farm)}: [\"sleep\",\"5\"]") in told, told
    assert any(r["who"] == "user vic" and not r["done"] and "/croft/v1/exec" in r["what"] and r["paths"] == [APP] for r in records), records[-10:]
    farm.call("DELETE", "/v2/apps" + ROOTS)
    farm.settled()


def test_what_is_wrong_is_named(farm):
    task = task_of(farm)
    for body, word in (("{", "JSON"), ({"task": task}, "command"), ({"task": task, "command": []}, "command"), ({"task": task, "command": "id"}, "command"), ({"task": task, "command": [1]}, "command"), ({"task": task, "command": [""]}, "command"),
                       ({"task": task, "command": ["a\0b"]}, "command"), ({"task": task, "command": ["x"] * 65}, "command"), ({"task": task, "command": ["x" * 40_000]}, "command"), ({"command": ["id"]}, "task"),
                       ({"task": task, "command": ["id"], "terminal": "24x80"}, "terminal"), ({"task": task, "command": ["id"], "terminal": "24x80:a b"}, "terminal")):
        status, _, text = farm.answer("POST", "/croft/v1/exec", body)
        assert status in (400, 422) and word in text, (body, status, text)
    assert farm.answer("POST", "/croft/v1/exec", {"task": "nobody.x", "command": ["id"]})[0] == 404
    session = "/croft/v1/exec/" + farm.call("POST", "/croft/v1/exec", {"task": task, "command": ["cat"]})[1]["session"]
    for query, body, expected in (("?at=x", "", 422), ("?at=7", "", 409), ("?at=0", "no frame at all", 422), ("?at=0", "\1\0\0\0\0\0\0\1x", 422), ("?at=0", "y" * 200_000, 413)):
        assert farm.answer("POST", session + query, body)[0] == expected, (query, body[:20])
    assert farm.answer("GET", session + "?after=99")[0] == 409 and farm.answer("GET", "/croft/v1/exec/none?after=0")[0] == 404
    assert farm.answer("DELETE", session)[0] == 204 and farm.answer("GET", session + "?after=0")[0] == 404
    held = [farm.call("POST", "/croft/v1/exec", {"task": task, "command": ["sleep", "100"]}) for _ in range(17)]
    assert [s for s, _ in held] == [200] * 16 + [503], held[-1]
    for _, made in held[:16]:
        farm.answer("DELETE", "/croft/v1/exec/" + made["session"])
    wait("nothing is left of them", lambda: not runs("sleep 100"), 10)


def test_whoever_goes_takes_the_command_along(farm):
    """The client killed, the task ended, the agent killed, the master killed: the command ends, and who is left hears why."""
    client = farm.start_exec(APP, "sh", "-c", "exec sleep 4711")
    wait("it runs", lambda: runs("sleep 4711"))
    client.kill()
    client.wait()
    wait("it has gone with its client", lambda: not runs("sleep 4711"), SILENCE)
    for how, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        client = farm.start_exec(APP, "sleep", "4715")
        wait("it runs", lambda: runs("sleep 4715"))
        client.send_signal(how)
        assert client.wait(10) == code
        wait("it has gone at once", lambda: not runs("sleep 4715"), 5)
    client = farm.start_exec(APP, "sleep", "4712")
    wait("it runs", lambda: runs("sleep 4712"))
    farm.call("DELETE", f"/v2/apps{APP}/tasks/{task_of(farm)}")
    assert client.wait(20) in (137, 143), client.stderr.read()
    farm.settled()
    wait("another runs", lambda: farm.app(APP)["tasksRunning"] == 1)
    client = farm.start_exec(APP, "sleep", "4713")
    wait("it runs", lambda: runs("sleep 4713"))
    farm.roles["node"].kill()
    farm.roles["node"].wait()
    begun = time.monotonic()
    wait("it has gone with its agent", lambda: not runs("sleep 4713"), 10)
    assert client.wait(SILENCE) == 255 and b"has fallen silent" in client.stderr.read()
    print(f"    told after {time.monotonic() - begun:.1f} s")
    tasks = sorted(t["id"] for t in farm.app(APP)["tasks"])
    farm.start_role("node")
    wait("the agent is back", lambda: farm.exec(APP, "true").returncode == 0, 20)
    assert sorted(t["id"] for t in farm.app(APP)["tasks"]) == tasks
    client = farm.start_exec(APP, "sleep", "4714")
    wait("it runs", lambda: runs("sleep 4714"))
    farm.roles["master"].kill()
    farm.roles["master"].wait()
    farm.start_role("master")
    assert client.wait(30) == 255 and b"session is over" in client.stderr.read()
    wait("it has gone with its leader", lambda: not runs("sleep 4714"), SILENCE)
    wait("and others run", lambda: farm.exec(APP, "true").returncode == 0, 20)


def test_children_go_with_their_command(farm):
    """Whatever still stands below a command when its client goes: also what does not hear HUP, and also when nobody reads what it says."""
    left = lambda: runs("sleep 4806") + runs("sleep 4807") + runs("sleep 4808")  # noqa: E731
    client = farm.start_exec(APP, "sh", "-c", "nohup sleep 4806 >/dev/null 2>&1 & (trap '' HUP TERM; sleep 4807) & wait")
    wait("they run", lambda: len(left()) >= 2)
    client.terminate()
    client.wait()
    wait("they have gone", lambda: not left(), 10)
    head = {"Authorization": "Bearer " + open_or_nothing(farm.files["olga"]).strip()}
    for terminal in ("24x80:xterm", ""):
        status, body = farm.call("POST", "/croft/v1/exec", {"task": task_of(farm), "command": ["sh", "-c", "trap '' HUP TERM; (trap '' HUP; sleep 4808 & wait) & yes"], "terminal": terminal}, headers=head, who="")
        assert status == 200, body
        wait("it runs", left)
        time.sleep(0.5)  # its output has nowhere to go by now
        assert farm.answer("DELETE", "/croft/v1/exec/" + body["session"], headers=head, who="")[0] == 204
        wait("they have gone", lambda: not left() and subprocess.run(["pgrep", "-x", "yes"], capture_output=True).returncode != 0, 10)


def test_all_that_it_said_arrives(farm):
    """However slow its reader: a command's end does not overtake its words. And one that reads nothing of what it is given ends nobody."""
    for terminal in ((), ("-t",)):
        for _ in range(6):
            client = farm.start_exec(*terminal, APP, "sh", "-c", "head -c 560000 /dev/zero | tr '\\0' x; echo; echo end")
            time.sleep(1.2)
            said, errors = client.communicate(timeout=60)
            said = said.replace(b"\r\n", b"\n")
            assert client.returncode == 0 and said == b"x" * 560000 + b"\nend\n", (terminal, client.returncode, len(said), errors)
    before = farm.roles["node"].pid
    assert farm.exec(APP, "true", stdin=b"x" * 3_000_000).returncode == 0
    assert farm.roles["node"].poll() is None and farm.roles["node"].pid == before, "the agent lives"


def test_a_check_has_no_powers(farm):
    """S12: the command of a health check is the task's, like any other: nobody's, without capabilities, behind the filter, in the cgroup."""
    other = glob.glob(f"{farm.data}/node/slaves/*/frameworks/*/executors/service_box.*/runs/latest")[0]
    script = POWERS.replace("MASTER", farm.dir).replace("OTHER", os.path.realpath(other)).replace("exec sleep 1000", "true")
    check = {"protocol": "COMMAND", "command": {"value": "(" + script + ") > said.new 2>&1; mv said.new said"}, "gracePeriodSeconds": 60, "intervalSeconds": 60, "timeoutSeconds": 30}
    farm.deploy(dict(sleeper("/service/checked"), mem=64, healthChecks=[check]))
    said = glob.glob(f"{farm.data}/node/slaves/*/frameworks/*/executors/service_checked.*/runs/latest/")[0] + "said"
    lines = wait("it has tried all", lambda: "all tried" in open_or_nothing(said) and open_or_nothing(said), 40).splitlines()
    for fact in ("Uid: 65534 65534 65534 65534", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2", "mine"):
        assert fact in lines, (fact, lines)
    assert not [line for line in lines if line.startswith("could")] and len([line for line in lines if line.startswith("cannot")]) == 17, lines
    farm.call("DELETE", "/v2/apps/service/checked")
    farm.settled()


# A task of the same user that waits for others' terminals.
LURKER = """
import fcntl, os, termios, time
print("there are", sorted(os.listdir("/dev/pts")), flush=True)
end = time.time() + 12
while time.time() < end:
    for name in set(os.listdir("/dev/pts")) - {"ptmx"}:
        try:
            fd = os.open("/dev/pts/" + name, os.O_RDWR)
            print("opened", name, flush=True)
            for c in b"touch hijacked\\n": fcntl.ioctl(fd, termios.TIOCSTI, bytes([c]))
            print("typed into", name, flush=True)
        except OSError:
            pass
print("done", flush=True)
time.sleep(1000)
"""


def test_a_terminal_is_nobody_elses(farm):
    """S12: another app's task, of the same user, neither sees nor opens the terminal of somebody's shell."""
    farm.deploy({"id": "/other/lurker", "cmd": "exec /usr/bin/python3 -c '" + LURKER.replace("'", "'\\''") + "'", "cpus": 0.5, "mem": 64, "instances": 1, "portDefinitions": []})
    out = glob.glob(f"{farm.data}/node/slaves/*/frameworks/*/executors/other_lurker.*/runs/latest/stdout")[0]
    wait("it lurks", lambda: "there are" in open_or_nothing(out), 10)
    for _ in range(4):
        ours, its = pty.openpty()
        shell = subprocess.Popen(farm.words(APP), stdin=its, stdout=its, stderr=its, env=farm.client, start_new_session=True)
        said, end = b"", time.monotonic() + 15
        while b"$ " not in said and time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                said += os.read(ours, 4096)
        os.write(ours, b"ls -l $(tty); echo mine | cat > $(tty); exit 5\r")
        assert shell.wait(15) == 5, said
        while select.select([ours], [], [], 0)[0]:
            said += os.read(ours, 4096)
        assert b"can't access tty" not in said and b"nobody" in said.split(b"tty)")[-1], said
        os.close(ours), os.close(its)
    wait("it has had its time", lambda: "done" in open_or_nothing(out), 30)
    assert "opened" not in open_or_nothing(out), open_or_nothing(out)
    assert not glob.glob(f"{farm.data}/node/slaves/*/frameworks/*/executors/service_box.*/runs/latest/hijacked")
    farm.call("DELETE", "/v2/apps/other/lurker")
    farm.settled()


def test_slow_checks_are_their_apps_own_trouble(farm):
    """Checks that hang are ended with all that they started, and no other app's check waits for them."""
    slow = {"protocol": "COMMAND", "command": {"value": "sleep 4977; true"}, "gracePeriodSeconds": 300, "intervalSeconds": 1, "timeoutSeconds": 2, "maxConsecutiveFailures": 0}
    status, body = farm.call("POST", "/v2/apps", dict(sleeper("/service/slow"), instances=8, healthChecks=[slow]))
    assert status == 201, (status, body)
    wait("its checks hang", lambda: len(runs("sleep 4977")) >= 8, 20)
    begun = time.monotonic()
    quick = {"protocol": "COMMAND", "command": {"value": "true"}, "gracePeriodSeconds": 10, "intervalSeconds": 1, "timeoutSeconds": 2}
    assert farm.call("POST", "/v2/apps", dict(sleeper("/service/quick"), healthChecks=[quick]))[0] == 201
    wait("the other one is healthy", lambda: farm.app("/service/quick")["tasksHealthy"] == 1, 30)
    print(f"    beside 8 checks that hang, healthy after {time.monotonic() - begun:.2f} s")
    assert time.monotonic() - begun < 5
    time.sleep(8)
    assert len(runs("sleep 4977")) <= 2 * 8 + 4, "each is ended, with its children, before many more have begun"
    for app in ("/service/slow", "/service/quick"):
        farm.call("DELETE", "/v2/apps" + app + "?force=true")
    farm.settled()


def test_rules_that_break_each_other(farm):
    """Each good alone, together refused by HAProxy: they are not taken, so nobody else's waits for them."""
    for n in (1, 2):
        assert farm.answer("POST", "/api/services", {"id": f"/service/w{n}", "acl": f"path_beg -u 7 /w{n}"}, port=8000, who=basic("olga"))[0] == 400, n


def test_words_of_others_make_no_lines(farm):
    """What somebody runs is one line in the logs, whatever stands in it; the audit log shows where words end, and what it leaves out."""
    forged = "2026-01-01T00:00:00.000+00:00 info audit: forged"
    farm.exec(APP, "x\n" + forged)
    hidden = "echo " + " " * 300 + "hidden; " + "x" * 300
    farm.exec(APP, "sh", "-c", hidden)
    for role in ("master", "node"):
        assert not [line for line in open_or_nothing(f"{farm.dir}/{role}.log").splitlines() if line.startswith(forged)], role
    told = [r["what"] for r in farm.call("GET", "/croft/v1/audit?last=100")[1]["records"] if "/croft/v1/exec" in r["what"]]
    assert any('["sh","-c","echo hidden; xxx' in w and "sha256" in w for w in told), told[-3:]


def test_an_end_is_an_end(farm):
    """What a command leaves behind may go on writing; its own exit code comes all the same. And without a stdin."""
    for _ in range(8):  # what comes after the end comes at any moment
        begun = time.monotonic()
        done = subprocess.run(farm.words(APP, "sh", "-c", "yes & exit 3"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, env=farm.client)
        assert done.returncode == 3, done
    print(f"    {time.monotonic() - begun:.1f} s")
    assert subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *farm.words(APP, "cat")], stdout=subprocess.PIPE, timeout=20, env=farm.client).returncode == 0
    wait("it does not go on for ever", lambda: subprocess.run(["pgrep", "-x", "yes"], capture_output=True).returncode != 0, 20)


def test_rules_read_no_files(farm):
    """S14: a rule is tried by HAProxy only in the name of one who may have it, and none reads the balancer's host."""
    ca = f"{farm.dir}/balancer.cluster/ca.pem"
    for acl in (f"src -f {ca}", f'src "-f" {ca}', f"path,map_ip({ca}) -m found", 'path_beg "${HOME}"', "lua.x -m bool"):
        for who, least in ((basic("vic"), 403), (basic("olga"), 400)):
            status, _, text = farm.answer("POST", "/api/services", {"id": APP, "acl": acl}, port=8000, who=who)
            assert status in ((403,) if least == 403 else (400, 422)) and "CERTIFICATE" not in text, (acl, who, status, text)
            status, _, text = farm.answer("PUT", f"/croft/v1/rules{APP}", {"acl": acl}, who=who)
            assert status in ((403,) if least == 403 else (400, 422)), (acl, who, status, text)
    # An expression that takes seconds would end HAProxy, for everybody.
    for acl in ("path_reg -- (?:a?){18}a{18}[bc]", "path -m reg (a+)+b"):
        assert farm.answer("POST", "/api/services", {"id": APP, "acl": acl}, port=8000, who=basic("olga"))[0] in (400, 422), acl
        assert farm.answer("PUT", f"/croft/v1/rules{APP}", {"acl": acl}, who=basic("olga"))[0] == 422, acl
    assert farm.answer("POST", "/api/services", {"id": APP, "acl": "path_beg -i /box"}, port=8000, who=basic("olga"))[0] == 200


def test_refusals_elsewhere_are_in_the_audit_log(farm):
    farm.deploy(sleeper("/other/app"))
    path = f"/frameworks/{farm.get('/v2/info')['frameworkId']}/executors/{task_of(farm, '/other/app')}/runs/latest/stdout"
    assert farm.answer("GET", "/files/read?offset=0&path=" + path, port=5051, who=basic("vic"))[0] == 403
    assert farm.answer("DELETE", "/logstash-2026.01.01", port=9200, who=basic("vic"))[0] == 403

    def refused():
        records = farm.call("GET", "/croft/v1/audit?last=1000")[1]["records"]
        return [r["what"] for r in records if r["who"] == "user vic" and not r["done"]]

    assert farm.answer("PUT", "/v2/apps" + APP, {"instances": 9}, who=basic("vic"))[0] == 403
    seen = farm.call("GET", "/croft/v1/audit?last=1000&path=/service", who=basic("adam"))[1]["records"]
    assert any(not r["done"] and r["who"] == "user vic" and r["paths"] == [APP] and r["what"] == f"PUT /v2/apps{APP}" for r in seen), "an admin of the group sees what was tried there"
    wait("the masters have heard of both", lambda: any(w.startswith("n1: GET /files/read") for w in refused()) and any(w.startswith("l1: DELETE /logstash-") for w in refused()), 15)


def test_a_login_from_first_to_last(farm):
    """croft login, whoami, one's own password, logout: what was kept is good for nothing afterwards."""
    assert farm.call("POST", "/croft/v1/users", {"name": "lena", "password": "first password", "grants": ["operator:/service"]})[0] == 201
    farm.run("login", "--user", "lena", stdin="first password\n", token=False)
    with open(farm.dir + "/config/croft/login.json") as f:
        kept = json.load(f)["token"]
    assert "login of lena" in farm.run("whoami", token=False).stdout
    assert farm.run("user", "passwd", stdin="wrong password\nsecond password\n", token=False, check=False).returncode == 1, "who has the token only does not change it"
    farm.run("user", "passwd", stdin="first password\nsecond password\n", token=False)
    said = farm.run("whoami", token=False, check=False)
    assert said.returncode == 1 and "croft login --user" in said.stderr, said
    farm.run("login", "--user", "lena", stdin="second password\n", token=False)
    with open(farm.dir + "/config/croft/login.json") as f:
        kept = json.load(f)["token"]
    assert farm.answer("GET", "/croft/v1/whoami", who="Bearer " + kept)[0] == 200
    farm.run("logout", token=False)
    assert farm.answer("GET", "/croft/v1/whoami", who="Bearer " + kept)[0] == 401, "a copy of it is good for nothing"
    assert "no kept token" in farm.run("logout", token=False).stderr
    assert farm.answer("DELETE", "/croft/v1/login", who="Bearer " + open_or_nothing(farm.files["olga"]).strip())[0] == 409, "a script's token is revoked, not logged out"


def test_loud_ones_hide_nobody(farm):
    """Logins are few a minute, and cannot wash changes out of the audit log."""
    answers = [farm.answer("POST", "/croft/v1/login", "{}", who=basic("vic"))[0] for _ in range(12)]
    assert answers.count(201) == 10 and answers[-1] == 429, answers
    assert farm.answer("POST", "/croft/v1/login", "{}", who=basic("olga"))[0] == 201, "others log in"


def test_a_page_of_elsewhere_reads_nothing(farm):
    """S6: JSONP with the visitor's login, asked by a page of another origin."""
    for port, path in ((5050, "/state?jsonp=f"), (5051, "/state?jsonp=f")):
        assert farm.answer("GET", path, port=port)[2].startswith("f({")
        for site in ("cross-site", "same-site"):
            assert farm.answer("GET", path, port=port, headers={"Sec-Fetch-Site": site})[0] == 403, (port, site)


def test_lines_in_anothers_name(farm):
    """What comes over the log input says nothing of whose task a line is; and what a host's certificate brings says it of hosts with tasks only, and of no other host."""
    with socket.create_connection(("127.0.0.1", 5959), timeout=5) as s:
        s.sendall(b'{"message": "forged for croft", "app": "/other/app", "task": "other_app.x", "app.keyword": "/other/app"}\n')
    found = wait("the line is there", lambda: farm.call("POST", "/logstash-*/_search", {"query": {"match_phrase": {"message": "forged for croft"}}}, port=9200)[1]["hits"]["hits"], 20)
    assert "app" not in found[0]["_source"] and found[0]["_source"]["original"]["app"] == "/other/app", found
    for role in ("dns", "balancer", "node"):
        document = {"message": f"forged by {role}", "app": "/other/app", "task": "other_app.x", "host": "elsewhere"}
        status, stored = farm.call("POST", "/logstash-forged/_doc", document, port=9200, who="", tls=farm.as_host(role))
        assert status == 201, (role, status, stored)
        line = farm.call("GET", f"/logstash-forged/_doc/{stored['_id']}", port=9200)[1]["_source"]
        assert line["host"] != "elsewhere" and line["original"]["host"] == "elsewhere", (role, line)
        assert ("app" in line) == (role == "node") and ("task" in line) == (role == "node"), (role, line)


def test_roles_leave_no_core(farm):
    """S13: keys, passwords' hashes and secrets stand in their memory. 1: with 0 the kernel writes into a pipe all the same."""
    for role, process in farm.roles.items():
        limits = open_or_nothing(f"/proc/{process.pid}/limits")
        soft = next(line for line in limits.splitlines() if line.startswith("Max core file size")).split()[4]
        assert soft in ("0", "1"), (role, limits)


def test_a_farm_that_dies_ends_its_commands(farm):
    """The client says so and ends by itself, with what is no command's own code; the command is not left alone either."""
    client = farm.start_exec(APP, "sh", "-c", "echo there; exec sleep 4899")
    assert client.stdout.readline() == b"there\n"
    master = farm.roles["master"]
    master.kill()
    master.wait()
    begun = time.monotonic()
    _, said = client.communicate(timeout=60)
    print(f"    after {time.monotonic() - begun:.1f} s")
    assert client.returncode == 255 and b"croft: " in said, (client.returncode, said)
    wait("the command has gone", lambda: not runs("sleep 4899"), SILENCE)
    farm.start_role("master")
    wait("the master leads, and has its node", lambda: farm.call("GET", "/croft/v1/whoami")[0] == 200 and any(h["reachable"] for h in farm.get("/croft/v1/overview")["hosts"]), 30)
    assert farm.exec(APP, "true").returncode == 0


def test_a_host_is_put_out(farm):
    """S3: what was stolen with a host serves no longer, on both sides of a connection, until the host joins anew."""
    revoke = lambda host, who=None: farm.call("POST", "/croft/v1/ca/revocations", {"host": host}, who=who)  # noqa: E731
    assert revoke("l1", basic("adam"))[0] == 403, "an admin of a group is none of the farm"
    assert revoke("nobody")[0] == 404 and revoke("../x")[0] == 422 and revoke(7)[0] == 422
    assert revoke("m1")[0] == 409, "whoever leads would put himself out"
    logs = lambda: farm.answer("GET", "/croft/v1/logs?q=x")  # noqa: E731
    assert logs()[0] == 200
    early = farm.run("token", "join", "--role", "log", "--host", "l1").stdout.strip()
    said = farm.run("ca", "revoke", "l1")
    assert "l1" in said.stdout and "l1" in farm.run("ca", "show").stdout, said
    status, text = farm.call("GET", "/croft/v1/catalog", who="", tls=farm.as_host("log"))
    assert status == 403 and "the certificate of host l1 (log) is revoked" in str(text), (status, text)
    request = subprocess.run(["openssl", "req", "-new", "-key", f"{farm.dir}/log.cluster/host.key", "-subj", "/CN=l1"], capture_output=True, text=True, check=True).stdout
    assert farm.call("POST", "/croft/v1/certificates", {"names": ["127.0.0.1"], "request": request}, who="", tls=farm.as_host("log"))[0] == 403, "it makes itself no new one"
    status, _, text = wait("nobody asks it any more", lambda: (lambda a: a if a[0] == 503 else None)(logs()), 10)
    assert "is revoked" in text, text
    assert farm.run("join", "https://127.0.0.1:8080", early, "--folder", f"{farm.dir}/thief.cluster", check=False).returncode != 0, "a token from before brings nothing back"
    time.sleep(1.1)  # a certificate of the very second would be void too, and the master says so
    shutil.rmtree(f"{farm.dir}/log.cluster")
    farm.join("log")
    wait("the log host is taken again, without a restart", lambda: logs()[0] == 200, 20)
    records = farm.call("GET", "/croft/v1/audit?last=100")[1]["records"]
    assert any(r["what"] == "host l1: its certificates are revoked" and r["done"] for r in records), records[-5:]


if __name__ == "__main__":
    own_namespace()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    run_suite(globals(), Farm(sys.argv[1]), sys.argv[2:])
