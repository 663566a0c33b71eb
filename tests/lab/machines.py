"""Seven systemd machines in namespaces, on a bridge of their own. Each is systemd-nspawn over one overlay of the base, inside cgroups with limits."""
import contextlib
import os
import shutil
import signal
import subprocess
import time

import base

DIR = os.environ.get("CROFT_LAB_DIR", "/var/lib/croft-lab")
BRIDGE, NETWORK, GATEWAY = "labbr0", "192.168.99.0/24", "192.168.99.1"
CGROUP = "croft-lab"
CGROUPS = "/sys/fs/cgroup"
HOSTS_FILE = "/etc/hosts"
BEGIN, END = "# croft lab: begin", "# croft lab: end; ./dev lab down takes this away"


class Host:
    def __init__(self, name, address, kind, cpus, mem_mib):
        self.name, self.address, self.kind, self.cpus, self.mem_mib = name, address, kind, cpus, mem_mib
        self.dir = os.path.join(DIR, "hosts", name)
        self.root = os.path.join(self.dir, "root")
        self.veth = "vb-" + name
        # A disk of its own below /var/lib/croft, so that it can be full without this machine's being so. Sparse.
        self.disk_gib = 0 if kind == "master" else 8


HOSTS = {h.name: h for h in
         [Host(f"master{i}", f"192.168.99.1{i}", "master", 2, 1536) for i in (1, 2, 3)] +
         [Host(f"node{i}", f"192.168.99.2{i}", "node", 2, 2048) for i in (1, 2, 3)] +
         [Host("log1", "192.168.99.30", "log", 2, 2048)]}


def run(*words, **more):
    return subprocess.run(words, check=True, **more)


def quiet(*words):
    return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def put(file, text):
    with open(file, "w") as f:
        f.write(text)


# --- cgroups: of both kinds, and of the mixture that many hosts still have ---

def hierarchies():
    """Mount points of every hierarchy with its controllers: ("", path) is version 2."""
    found = []
    with open("/proc/self/mounts") as f:
        for line in f:
            _, at, kind, options = line.split()[:4]
            if kind == "cgroup2" and at.startswith(CGROUPS):
                found.append(("", at))
            elif kind == "cgroup" and at.startswith(CGROUPS):
                found.append((options, at))
    return found


def make_cgroups(host):
    for controllers, at in hierarchies():
        names = controllers.split(",")
        top, own = os.path.join(at, CGROUP), os.path.join(at, CGROUP, host.name)
        os.makedirs(own, exist_ok=True)
        if "cpuset" in names:
            for folder in (top, own):
                for file in ("cpuset.cpus", "cpuset.mems"):
                    with open(os.path.join(at, file)) as f:
                        put(os.path.join(folder, file), f.read())
        if "memory" in names:
            put(own + "/memory.use_hierarchy", "1") if read(own + "/memory.use_hierarchy") == "0" else None
            put(own + "/memory.limit_in_bytes", str(host.mem_mib << 20))
        if "cpu" in names:
            put(own + "/cpu.cfs_quota_us", str(host.cpus * 100_000))
        if not controllers and "memory" in read(os.path.join(at, "cgroup.controllers")):
            for folder in (at, top):
                for controller in ("cpu", "memory", "pids", "io"):
                    with contextlib.suppress(OSError):
                        put(folder + "/cgroup.subtree_control", "+" + controller)
            put(own + "/memory.max", str(host.mem_mib << 20))
            put(own + "/cpu.max", f"{host.cpus * 100_000} 100000")


def read(file):
    try:
        with open(file) as f:
            return f.read().strip()
    except OSError:
        return ""


def pids(name):
    """Every process of a host, those in containers inside it too."""
    found = set()
    for _, at in hierarchies():
        for folder, _, files in os.walk(os.path.join(at, CGROUP, name)):
            if "cgroup.procs" in files:
                found |= {int(p) for p in read(folder + "/cgroup.procs").split()}
    return found


def remove_cgroups(name=""):
    for _, at in hierarchies():
        top = os.path.join(at, CGROUP, name).rstrip("/")
        for _ in range(50):
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            if not os.path.exists(top):
                break
            time.sleep(0.05)


def freeze(host, on):
    for controllers, at in hierarchies():
        own = os.path.join(at, CGROUP, host.name)
        if "freezer" in controllers.split(","):
            put(own + "/freezer.state", "FROZEN" if on else "THAWED")
            return
    for controllers, at in hierarchies():
        if not controllers and os.path.exists(os.path.join(at, CGROUP, host.name, "cgroup.freeze")):
            put(os.path.join(at, CGROUP, host.name, "cgroup.freeze"), "1" if on else "0")


# --- network ---

def network_up():
    if not os.path.exists("/sys/class/net/" + BRIDGE):
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", GATEWAY + "/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
    # A Docker Engine on this machine forbids forwarding, and the kernel asks iptables about bridged frames too.
    if shutil.which("iptables") and not quiet("iptables", "-C", "FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT"):
        quiet("iptables", "-I", "FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT")
    hosts_block(True)


def network_down():
    if shutil.which("iptables"):
        while quiet("iptables", "-D", "FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT"):
            pass
    quiet("ip", "link", "del", BRIDGE)
    hosts_block(False)


def hosts_block(wanted):
    """This machine's own hosts file, changed in place: it may be a mount of its own."""
    lines = read(HOSTS_FILE).split("\n")
    if BEGIN in lines:
        del lines[lines.index(BEGIN):lines.index(END) + 1]
    if wanted:
        lines += [BEGIN] + [f"{h.address} {h.name}" for h in HOSTS.values()] + [END]
    put(HOSTS_FILE, "\n".join(lines) + "\n")


def cut(host):
    """Off the bridge with the carrier kept: the host sees silence, as behind a switch that lost its uplink."""
    run("ip", "link", "set", host.veth, "nomaster")


def heal(host):
    run("ip", "link", "set", host.veth, "master", BRIDGE)


def is_cut(host):
    return os.path.exists("/sys/class/net/" + host.veth) and not os.path.exists(f"/sys/class/net/{host.veth}/master")


# --- machines ---

CGROUP_MOUNTS = """#!/bin/sh
# nspawn mounts the controllers of cgroup version 1 read-only; here they are this machine's own.
for at in /sys/fs/cgroup/*; do
  name=${at##*/}
  case $name in systemd|unified) continue ;; esac
  mountpoint -q "$at" && [ ! -L "$at" ] || continue
  umount "$at" && mount -t cgroup -o "$name" cgroup "$at" || echo "cannot mount $at anew"
done
exit 0
"""

CGROUP_UNIT = """[Unit]
Description=controllers of cgroup version 1, writable
DefaultDependencies=no
Before=sysinit.target
ConditionPathIsMountPoint=/sys/fs/cgroup/memory

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/lab-cgroups

[Install]
WantedBy=sysinit.target
"""

NETWORK_FILE = """[Match]
Name=host0

[Network]
Address={address}/24
Gateway={gateway}
LinkLocalAddressing=no
ConfigureWithoutCarrier=yes
IgnoreCarrierLoss=yes
"""


def key():
    return os.path.join(DIR, "id_ed25519")


def prepare(host):
    """Folders and the files that make the base this host. Once a host."""
    if os.path.exists(host.dir + "/prepared"):
        return
    for name in ("upper", "work", "root", "docker"):
        os.makedirs(os.path.join(host.dir, name), exist_ok=True)
    upper = host.dir + "/upper"
    base.write(upper, "/etc/hostname", host.name + "\n")
    base.write(upper, "/etc/hosts", f"127.0.0.1 localhost\n{host.address} {host.name}\n")
    base.write(upper, "/etc/resolv.conf", f"nameserver {GATEWAY}\n")
    base.write(upper, "/etc/systemd/network/10-lab.network", NETWORK_FILE.format(address=host.address, gateway=GATEWAY))
    base.write(upper, "/usr/local/lib/lab-cgroups", CGROUP_MOUNTS, 0o755)
    base.write(upper, "/etc/systemd/system/lab-cgroups.service", CGROUP_UNIT)
    for unit, target in (("lab-cgroups.service", "sysinit.target.wants"),):
        os.makedirs(f"{upper}/etc/systemd/system/{target}", exist_ok=True)
        os.symlink(f"/etc/systemd/system/{unit}", f"{upper}/etc/systemd/system/{target}/{unit}")
    os.makedirs(f"{upper}/etc/systemd/system/multi-user.target.wants", exist_ok=True)
    os.symlink("/lib/systemd/system/systemd-networkd.service", f"{upper}/etc/systemd/system/multi-user.target.wants/systemd-networkd.service")
    base.write(upper, "/etc/machine-id", os.urandom(16).hex() + "\n", 0o444)
    with open(key() + ".pub") as f:
        base.write(upper, "/root/.ssh/authorized_keys", f.read(), 0o600)
    os.chmod(upper + "/root", 0o700)
    os.chmod(upper + "/root/.ssh", 0o700)
    os.makedirs(upper + "/etc/ssh", exist_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", upper + "/etc/ssh/ssh_host_ed25519_key")
    # Dropped from memory at once: a machine that writes its journal to disk twice over is slower for nothing.
    base.write(upper, "/etc/systemd/journald.conf.d/lab.conf", "[Journal]\nSystemMaxUse=64M\nRuntimeMaxUse=32M\nForwardToConsole=no\n")
    put(host.dir + "/prepared", "")


def mount(host, lower):
    if not os.path.ismount(host.root):
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={host.dir}/upper,workdir={host.dir}/work", host.root)
    image, at = host.dir + "/croft.img", host.dir + "/croft"
    if host.disk_gib and not os.path.ismount(at):
        if not os.path.exists(image):
            run("truncate", "-s", f"{host.disk_gib}G", image)
            run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "65536", "-J", "size=16", "-E", "lazy_itable_init=0", image)
        os.makedirs(at, exist_ok=True)
        run("mount", "-o", "loop", image, at)


def running(host):
    pid = int(read(host.dir + "/nspawn.pid") or 0)
    return pid > 0 and read(f"/proc/{pid}/comm") == "systemd-nspawn"


def boot(host, lower):
    if running(host):
        return
    kill(host)  # what an unfinished end left behind
    prepare(host)
    mount(host, lower)
    make_cgroups(host)
    folders = [os.path.join(at, CGROUP, host.name, "cgroup.procs") for _, at in hierarchies()]

    def enter():
        for file in folders:
            put(file, "0")

    words = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--machine=" + host.name, "--directory=" + host.root, "--network-bridge=" + BRIDGE,
             "--capability=all", "--system-call-filter=@keyring bpf @mount @privileged @raw-io", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
             "--console=read-only", f"--bind={host.dir}/docker:/var/lib/docker"]
    words += [f"--bind={host.dir}/croft:/var/lib/croft"] if host.disk_gib else []
    # The network's settings are this host's own (its name space): Docker must be able to set them.
    env = {"PATH": os.environ["PATH"], "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network", "SYSTEMD_SECCOMP": "1"}
    with open(host.dir + "/console.log", "ab") as out:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, preexec_fn=enter, start_new_session=True, cwd="/")
    put(host.dir + "/nspawn.pid", str(child.pid))


def kill(host):
    """As when the power goes: every process at once, the disk as it is."""
    freeze_off = running(host)
    for _ in range(200):
        left = pids(host.name)
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if freeze_off:
            with contextlib.suppress(OSError):
                freeze(host, False)
        time.sleep(0.02)
    with contextlib.suppress(OSError):
        os.remove(host.dir + "/nspawn.pid")
    # The kernel takes its time with network name spaces that nobody is in any more.
    quiet("ip", "link", "del", host.veth)
    shutil.rmtree("/run/systemd/nspawn/propagate/" + host.name, ignore_errors=True)
    remove_cgroups(host.name)


def unmount(host):
    for at in (host.root, host.dir + "/croft"):
        while os.path.ismount(at):
            run("umount", "-R", at)


def leftovers():
    """What there still is of a lab that was taken down: nothing."""
    found = []
    with open("/proc/self/mounts") as f:
        found += ["mount " + line.split()[1] for line in f if line.split()[1].startswith(DIR)]
    found += ["interface " + name for name in os.listdir("/sys/class/net") if name == BRIDGE or name in {h.veth for h in HOSTS.values()}]
    found += ["cgroup " + os.path.join(at, CGROUP) for _, at in hierarchies() if os.path.exists(os.path.join(at, CGROUP))]
    found += ["names in " + HOSTS_FILE] if BEGIN in read(HOSTS_FILE) else []
    found += [DIR] if os.path.exists(DIR) else []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        words = read(f"/proc/{pid}/cmdline").split("\0")
        if words[0].endswith("systemd-nspawn") and any(w.startswith("--directory=" + DIR) for w in words) or any(w.endswith("tests/lab/resolver.py") for w in words[:2]):
            found.append(f"process {pid} {words[0]}")
    return found


def ssh_words(host):
    return ["ssh", "-i", key(), "-o", "UserKnownHostsFile=" + DIR + "/known_hosts", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5",
            "-o", "LogLevel=ERROR", "root@" + host.address]


def ssh(host, command, timeout=60, check=True):
    done = subprocess.run(ssh_words(host) + [command], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise RuntimeError(f"{host.name}: {command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def make_key():
    os.makedirs(DIR, mode=0o700, exist_ok=True)
    if not os.path.exists(key()):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "croft lab", "-f", key())


def known_hosts():
    lines = []
    for host in HOSTS.values():
        pub = read(host.dir + "/upper/etc/ssh/ssh_host_ed25519_key.pub").split()
        if pub:
            lines.append(f"{host.address},{host.name} {pub[0]} {pub[1]}")
    put(DIR + "/known_hosts", "\n".join(lines) + "\n")


def await_boot(host, limit=60):
    end = time.monotonic() + limit
    said = "no answer"
    while time.monotonic() < end:
        if not running(host):
            raise RuntimeError(f"{host.name} ended while it booted; its console is {host.dir}/console.log:\n" + "\n".join(read(host.dir + "/console.log").split("\n")[-15:]))
        try:
            said = ssh(host, "systemctl is-system-running || true", timeout=8).stdout.strip()
            if said in ("running", "degraded"):
                return said
        except (RuntimeError, subprocess.TimeoutExpired) as e:
            said = str(e).strip().split("\n")[-1]
        time.sleep(0.2)
    raise RuntimeError(f"{host.name} did not boot within {limit} s: {said}; its console is {host.dir}/console.log")
