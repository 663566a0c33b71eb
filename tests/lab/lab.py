#!/usr/bin/env python3
"""Seven hosts on this machine.
  lab.py up [--no-provision]        make, boot and provision them; prints 610 and the addresses
  lab.py status | env               what runs; addresses as shell variables
  lab.py ssh HOST [COMMAND...]      a shell on one
  lab.py provision HOST|all [--tags T]   the playbooks again
  lab.py cut|heal HOST              off the network and back, with the carrier kept
  lab.py freeze|thaw HOST           every process stopped where it is, and on again
  lab.py kill|boot HOST             as when the power goes, and comes back
  lab.py test [--keep] [--long] [TEST...]   run.py
  lab.py failover [N] [--timeline]  how long the farm is without a leader that acts, N times for each way to lose one
  lab.py down                       everything away: processes, mounts, bridge, cgroups, names
"""
import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import base  # noqa: E402
import machines  # noqa: E402
from machines import DIR, GATEWAY, HOSTS  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ANSIBLE = os.path.join(TOP, "deploy/ansible")
BUILD = os.environ.get("CROFT_LAB_BUILD", os.path.join(TOP, "build/release"))
# "standalone": the first master leads alone, with ZooKeeper beside it unused.
COORDINATION = os.environ.get("CROFT_LAB_COORDINATION", "zookeeper")
# "none": without logins and certificates.
AUTH = os.environ.get("CROFT_LAB_AUTH", "login")
# Mitogen keeps one Python a host over the same SSH, where plain Ansible starts one a task: on two cores for seven hosts that is most of a playbook's time. "linear": plain.
STRATEGY = os.environ.get("CROFT_LAB_STRATEGY", "mitogen_linear")
SCHEME = "http" if AUTH == "none" else "https"
SECRETS = os.path.join(DIR, "secrets")
CONSOLE_USER, CONSOLE_PASSWORD = "croft", "seven hosts"
APP = "/service/fibonacci"
PLAYBOOKS = {"master": "master.yml", "node": "node.yml", "log": "log.yml"}


def say(words):
    print(f"\033[2m+ {words}\033[0m", file=sys.stderr, flush=True)


def die(words):
    sys.exit("lab: " + words)


def host(name):
    return HOSTS.get(name) or die(f"'{name}' is not one of {' '.join(HOSTS)}")


def get(url, timeout=5):
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read().decode()


def package():
    """The .deb of the present build, made anew when the programs are newer. Its version tells which state of the tree it is."""
    deb = os.path.join(BUILD, "croft.deb")
    inputs = [os.path.join(BUILD, "bin", p) for p in ("croft", "croft-executor", "fibonacci")]
    for file in inputs:
        if not os.path.exists(file):
            die(f"{file} is missing: ./dev build release")
    for folder in ("deploy/systemd", "deploy/debian"):
        inputs += [os.path.join(TOP, folder, name) for name in os.listdir(os.path.join(TOP, folder))]
    inputs += [os.path.join(TOP, name) for name in ("deploy/croft.toml", "cmake/packages.cmake")]
    newest = max(os.path.getmtime(f) for f in inputs)
    if os.path.exists(deb) and os.path.getmtime(deb) >= newest:
        return deb
    say("cpack")
    version = "0.1.0+" + time.strftime("%Y%m%d%H%M%S", time.gmtime(newest))
    subprocess.run(["cmake", "-S", TOP, "-B", BUILD, f"-DCROFT_PACKAGE_VERSION={version}"], check=True, stdout=subprocess.DEVNULL)
    out = os.path.join(BUILD, "packages")
    shutil.rmtree(out, ignore_errors=True)
    done = subprocess.run(["cpack", "--config", BUILD + "/CPackConfig.cmake", "-B", out], capture_output=True, text=True, cwd=BUILD)
    if done.returncode != 0:
        die(done.stdout + done.stderr)
    made = [name for name in os.listdir(out) if name.endswith(".deb")]
    shutil.copy(os.path.join(out, made[0]), deb)
    return deb


def ansible(playbook, *more, limit=None, quiet=False, strategy=STRATEGY):
    variables = {"croft_deb": os.path.join(BUILD, "croft.deb"), "croft_example_binary": os.path.join(BUILD, "bin/fibonacci"), "croft_apt_update": False,
                 "croft_coordination": COORDINATION, "croft_auth": AUTH, "croft_resolvers": [GATEWAY], "pki_dir": os.path.join(DIR, "pki"), "secrets_dir": SECRETS,
                 "croft_console_user": CONSOLE_USER, "croft_console_password": CONSOLE_PASSWORD}
    words = ["ansible-playbook", "-i", "inventory/lab.ini", playbook, "-e", json.dumps(variables), "--private-key", machines.key(),
             "--ssh-common-args", f"-o UserKnownHostsFile={DIR}/known_hosts -o StrictHostKeyChecking=yes", *more]
    if limit:
        words += ["--limit", limit]
    say(" ".join(["ansible-playbook", playbook, *more] + (["--limit", limit] if limit else [])))
    env = dict(os.environ, ANSIBLE_CONFIG=os.path.join(ANSIBLE, "ansible.cfg"), ANSIBLE_SSH_CONTROL_PATH_DIR=os.path.join(DIR, "cp"), ANSIBLE_STRATEGY=strategy)
    with open(os.path.join(DIR, "ansible.log"), "a", buffering=1) as log:
        process = subprocess.Popen(words, cwd=ANSIBLE, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines, begun = [], time.monotonic()
        for line in process.stdout:
            log.write(f"{time.monotonic() - begun:6.1f} {line}")
            lines.append(line)
            if not quiet:
                print(line, end="", flush=True)
    if process.wait() != 0:
        die(f"{playbook} failed; its output is {DIR}/ansible.log" + ("" if not quiet else ":\n" + "".join(lines[-40:])))
    return "".join(lines)


def start_resolver():
    file = DIR + "/resolver.pid"
    if resolver_pid():
        return
    with contextlib.suppress(OSError):
        os.remove(file)
    with open(DIR + "/resolver.log", "a") as log:
        subprocess.Popen([sys.executable, os.path.join(os.path.dirname(__file__), "resolver.py"), GATEWAY, file], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                         start_new_session=True, cwd="/")
    for _ in range(100):
        if os.path.exists(file):
            return
        time.sleep(0.05)
    die(f"the resolver did not start; see {DIR}/resolver.log")


def resolver_pid():
    pid = int(machines.read(DIR + "/resolver.pid") or 0)
    return pid if pid and "resolver.py" in machines.read(f"/proc/{pid}/cmdline") else 0


def boot_all(hosts, lower):
    for h in hosts:
        machines.boot(h, lower)
    machines.known_hosts()
    with concurrent.futures.ThreadPoolExecutor(len(hosts)) as pool:
        for h, said in zip(hosts, pool.map(machines.await_boot, hosts)):
            if said != "running":
                failed = machines.ssh(h, "systemctl --failed --no-legend --plain | cut -d' ' -f1").stdout.split()
                say(f"{h.name} is {said}: {' '.join(failed)}")


def up(provision=True):
    if os.geteuid() != 0:
        die("needs root, for namespaces, cgroups and a bridge")
    if provision:
        package()
    lower = base.ensure(say)
    begun = time.monotonic()
    machines.make_key()
    machines.network_up()
    start_resolver()
    boot_all(list(HOSTS.values()), lower)
    say(f"seven hosts are up after {time.monotonic() - begun:.0f} s")
    if not provision:
        return
    ansible("site.yml")
    say(f"provisioned after {time.monotonic() - begun:.0f} s")
    answer = get(f"http://{HOSTS['master1'].address}:5000{APP}/15")
    print(addresses())
    print(answer)
    if answer != "610":
        die(f"the balancer answered '{answer}' and not 610")


def addresses():
    return f"""
  Marathon's API  {SCHEME}://master1:8080/v2/apps       Mesos master  {SCHEME}://master1:5050/state      agents  {SCHEME}://node1:5051/state
  Bamboo          {SCHEME}://master1:8000/api/services   HAProxy       http://master1:5000
  Mesos-DNS       {SCHEME}://node1:8123/v1/enumerate     DNS           192.168.99.21:53
  logs            {SCHEME}://log1:9200                   console       https://log1:5601 ({CONSOLE_USER} / {CONSOLE_PASSWORD})
  registry        https://log1:5002/v2/              its authority {DIR}/pki/ca.crt
""" + ("" if AUTH == "none" else f"  the cluster's CA is {SECRETS}/ca.pem, the first operator's token {SECRETS}/operator.token\n")


def token():
    """The first operator's; "" in a farm without logins."""
    return "" if AUTH == "none" else machines.read(SECRETS + "/operator.token")


def environment():
    """Of a command that asks the farm as the first operator."""
    return dict(os.environ, **({} if AUTH == "none" else {"CROFT_CA": SECRETS + "/ca.pem", "CROFT_TOKEN": token()}))


def env_lines():
    m, n, log = HOSTS["master1"].address, HOSTS["node1"].address, HOSTS["log1"].address
    masters = [h for h in HOSTS.values() if h.kind == "master"]
    lines = {"CROFT": BUILD + "/bin/croft", "CROFT_URL": f"{SCHEME}://{m}:8080", "CROFT_MESOS_URL": f"{SCHEME}://{m}:5050", "CROFT_AGENT_URL": f"{SCHEME}://{n}:5051", "CROFT_BAMBOO_URL": f"{SCHEME}://{m}:8000",
             "CROFT_BALANCER_URL": f"http://{m}:5000", "CROFT_DISCOVERY_URL": f"{SCHEME}://{n}:8123", "CROFT_DNS": n, "CROFT_DNS_PORT": "53", "CROFT_LOGS_URL": f"{SCHEME}://{log}:9200",
             "CROFT_LOG_INPUT": f"{n}:5959", "CROFT_CONSOLE_URL": f"https://{log}:5601", "CROFT_CONSOLE_CA": DIR + "/pki/ca.crt", "CROFT_REGISTRY": "log1:5002", "CROFT_BRIDGE": "172.17.42.1",
             "CROFT_MASTERS": ",".join(f"{SCHEME}://{h.address}:8080" for h in masters),
             "CROFT_BALANCERS": ",".join(f"http://{h.address}:5000" for h in masters),
             "CROFT_ZOOKEEPER": ",".join(f"{h.address}:2181" for h in masters)}
    if AUTH != "none":
        lines |= {"CROFT_CA": SECRETS + "/ca.pem", "CROFT_TOKEN": token()}
    return "\n".join(f"{k}={v}" for k, v in lines.items())


def status():
    def one(h):
        if not machines.running(h):
            return "off"
        if machines.is_cut(h):
            return "cut off"
        try:
            units = machines.ssh(h, "systemctl is-system-running; systemctl list-units --no-legend --plain 'croft-*.service' zookeeper.service docker.service nginx.service docker-registry.service "
                                 "| awk '{print $1\"=\"$4}'", timeout=10, check=False).stdout.split()
            return " ".join(units).replace(".service", "")
        except subprocess.TimeoutExpired:
            return "silent"

    with concurrent.futures.ThreadPoolExecutor(len(HOSTS)) as pool:
        for h, words in zip(HOSTS.values(), pool.map(one, HOSTS.values())):
            print(f"{h.name:8} {h.address:15} {h.cpus} cpus {h.mem_mib} MiB  {words}")


def down():
    hosts = list(HOSTS.values())
    pid = resolver_pid()
    if pid:
        os.kill(pid, signal.SIGTERM)
    # SSH masters that Ansible keeps for its next run.
    for name in os.listdir(DIR + "/cp") if os.path.isdir(DIR + "/cp") else []:
        subprocess.run(["ssh", "-o", "ControlPath=" + DIR + "/cp/" + name, "-O", "exit", "lab"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with concurrent.futures.ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(machines.kill, hosts))
    for h in hosts:
        machines.unmount(h)
    machines.remove_cgroups()
    machines.network_down()
    shutil.rmtree(DIR, ignore_errors=True)


def provision(name, more):
    """The playbooks of one host, or of all."""
    package()
    if name == "all":
        ansible("site.yml", *more)
    else:
        ansible(PLAYBOOKS[host(name).kind], *more, limit=name)


def main(words):
    command, rest = (words[0] if words else "help"), words[1:]
    simple = {"cut": machines.cut, "heal": machines.heal, "kill": machines.kill, "freeze": lambda h: machines.freeze(h, True), "thaw": lambda h: machines.freeze(h, False)}
    if command == "up":
        up(provision="--no-provision" not in rest)
    elif command == "status":
        status()
    elif command == "env":
        print(env_lines())
    elif command == "down":
        down()
    elif command in ("test", "failover"):
        os.execv(sys.executable, [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "run.py" if command == "test" else "failover.py"), *rest])
    elif command == "package":
        print(package())
    elif command == "ssh" and rest:
        os.execvp("ssh", machines.ssh_words(host(rest[0])) + rest[1:])
    elif command == "provision" and rest:
        provision(rest[0], rest[1:])
    elif command == "boot" and rest:
        boot_all([host(rest[0])], base.ensure(say))
    elif command in simple and rest:
        simple[command](host(rest[0]))
    else:
        print(__doc__, file=sys.stderr)
        return 0 if command == "help" else 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
