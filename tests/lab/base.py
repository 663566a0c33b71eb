"""The lab's base image: Debian 12 with everything that the roles install, so that seven hosts need no network. Made once, cached by its contents."""
import hashlib
import os
import shutil
import subprocess

CACHE = os.environ.get("CROFT_LAB_CACHE", "/var/cache/croft-lab")
MIRROR = os.environ.get("CROFT_LAB_MIRROR", "http://deb.debian.org/debian")
SECURITY = "http://deb.debian.org/debian-security"
SUITE = "bookworm"
SEED = ["systemd", "systemd-sysv", "dbus", "iproute2", "python3", "openssh-server"]
# What the roles install, and what croft's package depends on.
PACKAGES = """
 python3-apt sudo procps kmod ca-certificates curl openssl bind9-dnsutils iputils-ping netcat-openbsd less logrotate
 haproxy docker.io iptables nftables docker-registry nginx-light zookeeper default-jre-headless
 libboost-json1.81.0 libfmt9 libspdlog1.10 libsqlite3-0 libre2-9 libpcre2-8-0 libsimdjson14 libseccomp2 libcap2 zlib1g libssl3 libxxhash0 libzstd1
 libzookeeper-mt2 libargon2-1
""".split()
# Started by the roles where they belong, by nobody else.
SERVICES = ["haproxy", "nginx", "docker", "docker.socket", "containerd", "docker-registry", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer",
            "systemd-timesyncd", "getty@tty1", "e2scrub_reap", "nftables", "dpkg-db-backup.timer", "systemd-pstore"]
RECIPE = 3  # raised when the steps below change


def path():
    wanted = " ".join([str(RECIPE), SUITE] + SEED + PACKAGES + SERVICES)
    return os.path.join(CACHE, "base-" + hashlib.sha256(wanted.encode()).hexdigest()[:12])


def run(*words, **more):
    subprocess.run(words, check=True, **more)


def write(root, name, text, mode=0o644):
    file = os.path.join(root, name.lstrip("/"))
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "w") as f:
        f.write(text)
    os.chmod(file, mode)


def unmount_below(folder):
    """Of a run that was ended: deleting a folder with /proc or /sys in it would be no good idea."""
    with open("/proc/self/mounts") as f:
        for at in sorted((line.split()[1] for line in f if line.split()[1].startswith(folder + "/")), reverse=True):
            run("umount", at)


def ensure(say):
    """The base's folder; made when it is not there. An unfinished one is thrown away."""
    base = path()
    if os.path.exists(base):
        return base
    os.makedirs(CACHE, exist_ok=True)
    half = base + ".half"
    unmount_below(half)
    shutil.rmtree(half, ignore_errors=True)
    say(f"debootstrap {SUITE} into {base} (once; some minutes)")
    run("debootstrap", "--variant=minbase", "--include=" + ",".join(SEED), SUITE, half, MIRROR, stdout=subprocess.DEVNULL)
    write(half, "/etc/apt/sources.list", f"deb {MIRROR} {SUITE} main\ndeb {MIRROR} {SUITE}-updates main\ndeb {SECURITY} {SUITE}-security main\n")
    write(half, "/etc/apt/apt.conf.d/90lab", 'APT::Install-Recommends "false";\nAPT::Periodic::Enable "0";\n')
    write(half, "/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    resolv = os.path.join(half, "etc/resolv.conf")
    shutil.copy("/etc/resolv.conf", resolv)
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
    say(f"apt-get install {len(PACKAGES)} packages into it")
    mounts = [("proc", "proc"), ("sysfs", "sys")]
    for kind, at in mounts:
        run("mount", "-t", kind, kind, os.path.join(half, at))
    try:
        run("chroot", half, "apt-get", "update", "-qq", env=env)
        run("chroot", half, "apt-get", "dist-upgrade", "-y", "-qq", env=env, stdout=subprocess.DEVNULL)
        run("chroot", half, "apt-get", "install", "-y", "-qq", *PACKAGES, env=env, stdout=subprocess.DEVNULL)
    finally:
        for _, at in reversed(mounts):
            run("umount", os.path.join(half, at))
    run("chroot", half, "apt-get", "clean")
    # The lists stay behind: without them `apt` in a host would want a network to say that a package is there already.
    for service in SERVICES:
        subprocess.run(["systemctl", "--root", half, "disable", "-q", service], stderr=subprocess.DEVNULL)
    os.remove(os.path.join(half, "usr/sbin/policy-rc.d"))
    for name in os.listdir(os.path.join(half, "etc/ssh")):
        if name.startswith("ssh_host_"):
            os.remove(os.path.join(half, "etc/ssh", name))
    for name in ("etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id"):
        if os.path.lexists(os.path.join(half, name)):
            os.remove(os.path.join(half, name))
    write(half, "/etc/machine-id", "")
    os.rename(half, base)
    return base


if __name__ == "__main__":
    print(ensure(lambda words: print("+", words)))
