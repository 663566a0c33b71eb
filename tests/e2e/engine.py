"""A Docker Engine, a registry and a slow wire of a test's own. All of it ends with the test."""
import crypt
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from farm import wait

BRIDGE = "172.17.42.1"


class Engine:
    def __init__(self, folder):
        self.folder = folder
        self.run = tempfile.mkdtemp(prefix="croft-e2e-", dir="/run")
        self.socket = self.run + "/docker.sock"
        self.process = None
        self.live_restore = True

    def start(self):
        self.process = subprocess.Popen(["dockerd", "--host", "unix://" + self.socket, "--bip", BRIDGE + "/16", *(["--live-restore"] if self.live_restore else []), "--data-root", self.folder + "/docker",
                                         "--exec-root", self.run + "/exec", "--pidfile", self.run + "/docker.pid"],
                                        stdin=subprocess.DEVNULL, stdout=open(self.folder + "/dockerd.log", "a"), stderr=subprocess.STDOUT, start_new_session=True)
        wait("the Docker Engine answers", lambda: self.docker("version", check=False).returncode == 0, 60, 0.1)

    def kill9(self):
        """The Engine and its containerd, which it would wait for in vain; shims and containers live on."""
        self.process.kill()
        self.process.wait()
        for file in ("/exec/containerd/containerd.pid", "/docker.pid"):
            try:
                if "containerd" in file:
                    with open(self.run + file) as f:
                        os.kill(int(f.read()), signal.SIGKILL)
                os.unlink(self.run + file)
            except (OSError, ValueError):
                pass

    def docker(self, *words, check=True, **more):
        env = dict(os.environ, DOCKER_HOST="unix://" + self.socket, DOCKER_BUILDKIT="0", HOME=self.folder)
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120, env=env, **more)
        if check and done.returncode != 0:
            raise AssertionError(f"docker {' '.join(words)}: {done.stdout}{done.stderr}")
        return done

    def build(self, image, files, lines):
        """An image FROM scratch with these files (target name: path on this machine)."""
        context = tempfile.mkdtemp(dir=self.folder)
        for name, path in files.items():
            shutil.copy(path, os.path.join(context, name))
        with open(context + "/Dockerfile", "w") as f:
            f.write("FROM scratch\n" + "\n".join(lines) + "\n")
        self.docker("build", "-q", "-t", image, context)
        shutil.rmtree(context)

    def containers(self, label="croft.task"):
        return self.docker("ps", "-aq", "--filter", "label=" + label).stdout.split()

    def stop(self):
        if self.process and self.process.poll() is None:
            ids = self.containers()
            if ids:
                self.docker("rm", "-f", *ids, check=False)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pidfile in glob.glob(self.run + "/exec/containerd/containerd.pid"):
            with open(pidfile) as f:
                try:
                    os.kill(int(f.read()), signal.SIGTERM)
                except (OSError, ValueError):
                    pass
        with open("/proc/self/mounts") as f:
            mounts = [line.split()[1] for line in f]
        for mount in sorted((m for m in mounts if m.startswith(self.run) or m.startswith(self.folder)), reverse=True):
            subprocess.run(["umount", "-l", mount])
        shutil.rmtree(self.run, ignore_errors=True)


class Registry:
    """The real docker-registry. With `user` it asks for a password."""

    def __init__(self, folder, port, user=None, password=None):
        self.port = port
        self.name = f"127.0.0.1:{port}"
        self.user = user
        root = f"{folder}/registry-{port}"
        os.makedirs(root)
        auth = ""
        if user:
            with open(root + "/htpasswd", "w") as f:
                f.write(f"{user}:{crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))}\n")
            auth = f"auth: {{ htpasswd: {{ realm: test, path: {root}/htpasswd }} }}\n"
        config = root + "/config.yml"
        with open(config, "w") as f:
            f.write(f'version: 0.1\nlog: {{ level: warn }}\nstorage: {{ filesystem: {{ rootdirectory: {root}/data }} }}\nhttp: {{ addr: "{self.name}" }}\n{auth}')
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdin=subprocess.DEVNULL, stdout=open(root + "/log", "w"), stderr=subprocess.STDOUT, start_new_session=True)
        wait(f"the registry on {port} answers", lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, 20)

    def stop(self):
        self.process.kill()
        self.process.wait()


class SlowWire:
    """A TCP proxy that lets through `rate` bytes a second towards the client."""

    def __init__(self, port, to, rate):
        self.to, self.rate = to, rate
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        server = socket.create_connection(("127.0.0.1", self.to))
        threading.Thread(target=self.copy, args=(client, server, None), daemon=True).start()
        self.copy(server, client, self.rate)

    @staticmethod
    def copy(source, target, rate):
        try:
            while data := source.recv(max(1024, rate // 10) if rate else 65536):
                if rate and len(data) > 4096:
                    time.sleep(len(data) / rate)
                target.sendall(data)
        except OSError:
            pass
        for s in (source, target):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        self.listener.close()
