#!/usr/bin/env python3
"""`croft config check`: every mistake is told with file and line, all of them at once.   usage: config_test.py CROFT"""
import os
import subprocess
import sys
import tempfile

GOOD = 'auth = "none"\nip = "192.168.99.21"\nbind = "0.0.0.0"\nmasters = ["m1:8080", "m2:8080", "m3:8080"]\nzookeeper = "zk://u:p@m1:2181,m2:2181,m3:2181/mesos"\nhostname = "m2"\n'
SHIPPED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy/croft.toml")
# What is appended to a good file, and what must be said about the line after it.
BAD = {
    "nonsense = 1": "'nonsense' is not a setting of croft",
    'marathon_port = "8080"': "'marathon_port' must be a whole number",
    "marathon_port = 80800": "'marathon_port' must be a port",
    "agent_port = 8080": "'marathon_port' and 'agent_port' are both 8080",
    'docker = "yes"': "'docker' must be true or false",
    'resolvers = ["10.0.0.1", 5]': "'resolvers' must be a list of texts",
    'resolvers = ["dns.example"]': "'resolvers' must be IPv4 addresses",
    'docker_config = "config.json"': "'docker_config' is a path",
    "requests_per_second = -1.0": "'requests_per_second' must not be negative",
    "drain_ms = -1": "'drain_ms' must not be negative",
    "session_timeout_ms = 3": "'session_timeout_ms' is in milliseconds",
    'zookeeper_tree = "croft"': "'zookeeper_tree' is a path",
    'ports = "9000-8000"': "'ports'",
    'allow_check_ports = ["*", "9000-9100", "ssh"]': "'allow_check_ports': 'ssh'",
    'ports = "8000-9000"': "'ports' for tasks holds 8000",
    "cpus = 2.0\nreserve_cpus = 2.0": "'cpus' leaves nothing for tasks",
    'cgroup = "/sys/fs/cgroup/croft"': "'cgroup' is a folder below each cgroup hierarchy",
    'haproxy = "systemd"': "'haproxy' is \"own\" or \"unit\"",
    'bridge = "docker0"': "'bridge' must be an IPv4 address",
    'elasticsearch = ["log1"]': "'elasticsearch' must be addresses",
    'domain = "-x"': "'domain' is no name",
    "ip = ": "",  # broken syntax: whatever the parser says, with the line
}
# The same for a key that stands in the good file already.
CHANGED = {
    'auth = "none"': {'auth = "yes"': "'auth' is \"login\", or \"none\" in so many words", "": "this host has not joined a cluster"},
    'ip = "192.168.99.21"': {'ip = "node1"': "'ip' must be an IPv4 address", 'ip = "0.0.0.0"': "'ip' is where others reach this host"},
    'bind = "0.0.0.0"': {'bind = "127.0.0.1"': "other hosts are told 192.168.99.21"},
    'masters = ["m1:8080", "m2:8080", "m3:8080"]': {'masters = ["m1:8080", "m1:8080"]': "'masters' names 'm1:8080' twice", 'masters = ["m1:x"]': "'masters' must be \"host:port\""},
    'zookeeper = "zk://u:p@m1:2181,m2:2181,m3:2181/mesos"': {
        "": "without 'zookeeper' each master would lead alone", 'zookeeper = "m1:2181/mesos"': "must begin with zk://", 'zookeeper = "zk://m1:2181"': "must end in a path",
        'zookeeper = "zk://m1:2181,m2:2181/mesos"': "an ensemble of 2", 'zookeeper = "zk://m1:2181,m2:2181,m3:2181,m4:2181/mesos"': "an ensemble of 4",
        'zookeeper = "zk://m1:2181,m1:2181,m3:2181/mesos"': "names 'm1:2181' twice", 'zookeeper = "zk://m1,m2:2181,m3:2181/mesos"': "as host:port: 'm1'"},
}


def check(croft, text, zoo=None):
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "croft.toml")
        with open(file, "w") as f:
            f.write(text)
        more = []
        if zoo is not None:
            with open(os.path.join(folder, "zoo.cfg"), "w") as f:
                f.write(zoo)
            more = ["--zookeeper", os.path.join(folder, "zoo.cfg")]
        done = subprocess.run([croft, "config", "check", file, *more], capture_output=True, text=True, timeout=20)
        return done.returncode, [line[len(file) + 1:] for line in done.stderr.split("\n") if line]


def main(croft):
    code, lines = check(croft, GOOD)
    assert (code, lines) == (0, []), (code, lines)
    with open(SHIPPED) as f:
        shipped = f.read()
    code, lines = check(croft, shipped)
    assert code == 2 and len(lines) == 1 and "'auth'" in lines[0], lines
    # Every commented setting of the shipped file is one, and good: only `masters` and `zookeeper` of a farm would be missing.
    every = "\n".join(line[1:] if line.startswith("#") and line[1:2].isalpha() and " = " in line else line for line in shipped.split("\n") if not line.startswith(("#rack", "#[")))
    code, lines = check(croft, every.replace('auth = "login"', 'auth = "none"'))
    assert code == 0, lines
    for added, words in BAD.items():
        code, lines = check(croft, GOOD + added + "\n")
        told = [line for line in lines if words in line]
        at = GOOD.count("\n") + 1
        assert code == 2 and told and told[0].split(":")[0] == str(at), (added, lines)
    for line, others in CHANGED.items():
        for other, words in others.items():
            code, lines = check(croft, GOOD.replace(line, other))
            assert code == 2 and any(words in told for told in lines), (other, lines)
    code, lines = check(croft, "nonsense = 1\nmarathon_port = 70000\n" + GOOD + "drain_ms = true\n")
    assert code == 2 and [line.split(":")[0] for line in lines] == ["1", "2", "9"], lines
    assert check(croft, GOOD.replace('hostname = "m2"', 'hostname = "node1"').replace('zookeeper = "zk', '#')) == (0, []), "a node needs no ZooKeeper"
    server = "server.{0}=m{0}:2888:3888\n"
    assert check(croft, GOOD, "tickTime=500\n" + "".join(server.format(i) for i in (1, 2, 3)))[0] == 0
    code, lines = check(croft, GOOD, "".join(server.format(i) for i in (1, 2, 3, 4, 5)))
    assert code == 2 and "names 3 servers" in lines[0] and "ensemble of 5" in lines[0] and lines[0].startswith("5:"), lines
    code, lines = check(croft, GOOD, "tickTime=500\n")
    assert code == 2 and "ensemble of 1" in lines[0], lines
    done = subprocess.run([croft, "config", "check", "/nowhere/croft.toml"], capture_output=True, text=True)
    assert done.returncode == 2 and "/nowhere/croft.toml" in done.stderr, done.stderr
    print("config check: all mistakes are told")


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
