"""The name server of the lab's site, on the bridge: the hosts' own names, everything else from this machine's resolvers.   usage: resolver.py ADDRESS PIDFILE"""
import os
import socket
import struct
import sys
import threading

SITE = "lab.example"
TIMEOUT = 2.0


def name_of(packet):
    """The question's name and type, and where it ends."""
    at, parts = 12, []
    while packet[at]:
        parts.append(packet[at + 1:at + 1 + packet[at]].decode("ascii", "replace").lower())
        at += packet[at] + 1
    return ".".join(parts), struct.unpack(">H", packet[at + 1:at + 3])[0], at + 5


def answer(packet, names):
    name, kind, end = name_of(packet)
    short = name[:-len(SITE) - 1] if name.endswith("." + SITE) else name
    address = names.get(short)
    if address is None and not name.endswith(SITE):
        return None
    records = b"" if address is None or kind not in (1, 255) else struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address)
    flags = 0x8580 | (3 if address is None else 0)
    return packet[:2] + struct.pack(">HHHHH", flags, 1, 1 if records else 0, 0, 0) + packet[12:end] + records


def upstreams():
    with open("/etc/resolv.conf") as f:
        return [line.split()[1] for line in f if line.startswith("nameserver")][:2]


def serve(sock, packet, peer, names):
    try:
        reply = answer(packet, names)
        for server in upstreams() if reply is None else ():
            with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(TIMEOUT)
                try:
                    s.sendto(packet, (server, 53))
                    reply = s.recv(4096)
                    break
                except OSError:
                    continue
        if reply is None:
            reply = packet[:2] + struct.pack(">HHHHH", 0x8182, 1, 0, 0, 0) + packet[12:name_of(packet)[2]]
        sock.sendto(reply, peer)
    except (IndexError, OSError, struct.error, UnicodeError):
        pass  # not a question, or nobody there any more


def main():
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from machines import HOSTS
    names = {h.name: h.address for h in HOSTS.values()}
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((sys.argv[1], 53))
    with open(sys.argv[2], "w") as f:
        f.write(str(os.getpid()))
    busy = threading.BoundedSemaphore(64)

    def one(packet, peer):
        try:
            serve(sock, packet, peer, names)
        finally:
            busy.release()

    while True:
        packet, peer = sock.recvfrom(4096)
        busy.acquire()
        threading.Thread(target=one, args=(packet, peer), daemon=True).start()


if __name__ == "__main__":
    main()
