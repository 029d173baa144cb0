"""A TCP peer behind a TUN device, in a network namespace: its segments leave in whatever order it is told.

``python raw_tcp.py`` reads lines of JSON from its standard input: a list of [place, bytes in hexadecimal] to send, or
the bytes that the server shall answer with; it says "ok" once each has arrived.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys

SERVER, PEER, PORT = "10.99.0.1", "10.99.0.2", 8080
SYN, PSH, ACK = 2, 8, 16
_TUN, _NO_INFORMATION, _SET_INTERFACE = 1, 0x1000, 0x400454CA


def checksum(data):
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Peer:
    """One connection to the server, by hand."""

    def __init__(self):
        self.device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.device, _SET_INTERFACE, struct.pack("16sH", b"tun0", _TUN | _NO_INFORMATION))
        subprocess.run(["ip", "addr", "add", f"{SERVER}/24", "dev", "tun0"], check=True)
        subprocess.run(["ip", "link", "set", "tun0", "up"], check=True)
        self.port, self.first, self.acknowledged, self.heard = 40000, 1000, 0, 0

    def send(self, at, data, flags=ACK | PSH):
        """A segment whose first byte is the `at`-th."""
        tcp = struct.pack("!HHIIBBHHH", self.port, PORT, self.first + at, self.acknowledged, 5 << 4, flags, 65535, 0, 0)
        addresses = socket.inet_aton(PEER) + socket.inet_aton(SERVER)
        pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp) + len(data))
        tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp + data)) + tcp[18:]
        length = 20 + len(tcp) + len(data)
        head = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, socket.IPPROTO_TCP, 0) + addresses
        os.write(self.device, head[:10] + struct.pack("!H", checksum(head)) + head[12:] + tcp + data)

    def receive(self):
        """The next segment to us: its flags, sequence number and payload."""
        while True:
            packet = os.read(self.device, 65536)
            if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_TCP:
                tcp = packet[(packet[0] & 15) * 4 :]
                sequence = struct.unpack_from("!I", tcp, 4)[0]
                return tcp[13], sequence, tcp[(tcp[12] >> 4) * 4 :]

    def connect(self):
        self.send(-1, b"", SYN)
        flags, sequence, _ = self.receive()
        assert flags & SYN, flags
        self.acknowledged = self.heard = sequence + 1
        self.send(0, b"", ACK)

    def hear(self, count, at):
        """Acknowledge what the server sends, until so many bytes have come."""
        until = self.heard + count
        while self.heard < until:
            _, sequence, data = self.receive()
            if data and sequence == self.heard:
                self.acknowledged = self.heard = self.heard + len(data)
                self.send(at, b"", ACK)


def main():
    peer, sent = Peer(), 0
    with socket.create_server((SERVER, PORT)) as listener:
        peer.connect()
        connection, _ = listener.accept()
    with connection:
        for line in sys.stdin:
            order = json.loads(line)
            if isinstance(order, str):
                connection.sendall(bytes.fromhex(order))
                peer.hear(len(order) // 2, sent)
            else:
                for at, data in order:
                    peer.send(sent + at, bytes.fromhex(data))
                count = max(at + len(data) // 2 for at, data in order)
                sent += count
                while count:
                    count -= len(connection.recv(count))
            sys.stdout.write("ok\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
