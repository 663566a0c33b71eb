"""A real ZooKeeper ensemble of a test's own: a member an address, in folders of its own, ended by pid."""
import os
import socket
import subprocess

from farm import wait


class Ensemble:
    def __init__(self, folder, addresses):
        self.folder = folder
        self.addresses = addresses
        self.members = [None] * len(addresses)

    def config(self, i):
        data = f"{self.folder}/zookeeper-{i}"
        os.makedirs(data, exist_ok=True)
        with open(data + "/myid", "w") as f:
            f.write(str(i + 1))
        with open(data + "/zoo.cfg", "w") as f:
            f.write(f"tickTime=500\ninitLimit=20\nsyncLimit=4\ndataDir={data}\nclientPort=2181\nclientPortAddress={self.addresses[i]}\n"
                    "admin.enableServer=false\n4lw.commands.whitelist=srvr,ruok\n" +
                    "".join(f"server.{n + 1}={a}:2888:3888\n" for n, a in enumerate(self.addresses)))
        return data

    def start(self, i):
        data = self.config(i)
        self.members[i] = subprocess.Popen(["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-cp", "/usr/share/java/zookeeper.jar",
                                            "org.apache.zookeeper.server.quorum.QuorumPeerMain", data + "/zoo.cfg"],
                                           stdin=subprocess.DEVNULL, stdout=open(data + "/log", "a"), stderr=subprocess.STDOUT, start_new_session=True)

    def start_all(self):
        for i in range(len(self.members)):
            self.start(i)
        for i in range(len(self.members)):
            wait(f"ZooKeeper's member {i} serves", lambda i=i: self.mode(i), 60, 0.1)

    def mode(self, i):
        """"leader", "follower", or nothing"""
        try:
            with socket.create_connection((self.addresses[i], 2181), 1) as s:
                s.settimeout(2)
                s.sendall(b"srvr")
                text = b""
                while data := s.recv(4096):
                    text += data
        except OSError:
            return None
        return next((line.split(":")[1].strip() for line in text.decode().splitlines() if line.startswith("Mode:")), None)

    def leader(self):
        return next((i for i in range(len(self.members)) if self.members[i] and self.members[i].poll() is None and self.mode(i) == "leader"), None)

    def kill(self, i):
        self.members[i].kill()
        self.members[i].wait()

    def stop(self):
        for member in self.members:
            if member and member.poll() is None:
                member.kill()
                member.wait()
