"""Ten million segments that are no proper HTTP, over real sockets: does the agent bear it, and what is counted?

noise      random bytes, and what other protocols say first: not one request may be counted
mutants    HTTP/1 and HTTP/2 with bytes changed, cut, doubled and swapped; both ends must count the same
proper     afterwards, HTTP as it should be: everything is counted
"""

from __future__ import annotations

import multiprocessing
import random
import socket
import time
from collections import Counter

from benchmarks.stand import group
from collector.traffic import TrafficCounters
from headroom.demo.host import PARENT, hierarchies

SEGMENTS, POOL, PER_CONNECTION = 10_000_000, 4000, 200
_REQUEST = b"GET /fuzz HTTP/1.1\r\nHost: x\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
_CALL = bytes.fromhex("00000e010500000001") + b"\x82\x86\x41\x01x\x04\x05/fuzz\x88\xbe"
_SAID = (_REQUEST, _ANSWER, _PREFACE, _CALL, bytes.fromhex("000001010500000001") + b"\x88", _REQUEST * 20)
_OTHERS = (
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # PostgreSQL: may it be encrypted?
    b"Q\x00\x00\x00\x0dSELECT 1\x00",
    b"J\x00\x00\x00\x0a8.0.36\x00",
    b"*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n",
    b"+OK\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)


def measure(segments: int = SEGMENTS) -> dict[str, object]:
    """Two processes in a group of their own, which both ends of every connection are in."""
    top = next(each for each in hierarchies() if (each / "cgroup.controllers").exists())
    found: dict[str, object] = {}
    with group("fuzz") as fuzzed:
        counters = TrafficCounters.attach(top / PARENT / "fuzz")
        http2 = counters.attach_http2()
        lifecycle = counters.attach_lifecycle(http2)
        try:
            for kind in ("noise", "mutants"):
                begin = time.monotonic()
                _two_processes(fuzzed.name, kind, segments // 4)
                seconds = time.monotonic() - begin
                found[kind] = {"segments": segments // 2, "seconds": seconds} | _counted(counters)
            _two_processes(fuzzed.name, "proper", 1000)
            found["proper"] = _counted(counters)
        finally:
            lifecycle.close()
            http2.close()
            counters.kernel.close()
    return found


def _two_processes(name: str, kind: str, segments: int) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_send, args=(name, kind, segments, seed)) for seed in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
        if each.exitcode:
            raise RuntimeError(f"the sender of {kind} failed")


def _counted(counters: TrafficCounters) -> dict[str, object]:
    requests = Counter[str]()
    for delta in counters.read():
        requests[delta.role] += delta.latency.total
    lost = counters.losses()
    counters.commit()
    return {"requests": dict(requests), "losses": lost}


def _send(name: str, kind: str, segments: int, seed: int) -> None:
    for top in hierarchies():
        (top / PARENT / name / "cgroup.procs").write_text("0")
    chance = random.Random(seed)
    pool = [_segment(chance, kind) for _ in range(POOL)]
    while segments > 0:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            left = socket.create_connection(listener.getsockname())
            right, _ = listener.accept()
        with left, right:
            left.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            right.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(min(segments, PER_CONNECTION)):
                out_of_turn = kind != "proper" and chance.random() < 0.3
                here, there = (left, right) if number % 2 == 0 or out_of_turn else (right, left)
                here.sendall(_PROPER[number % 2] if kind == "proper" else chance.choice(pool))
                there.recv(1 << 16)
            segments -= PER_CONNECTION


_PROPER = (_REQUEST, _ANSWER)


def _segment(chance: random.Random, kind: str) -> bytes:
    if kind == "noise":
        some = chance.choice(_OTHERS) if chance.random() < 0.5 else b""
        return some + chance.randbytes(chance.choice([1, 7, 30, 200, 1400]))
    data = bytearray(chance.choice(_SAID))
    for _ in range(chance.randint(0, 4)):
        at, to = sorted((chance.randrange(len(data)), chance.randrange(len(data) + 1)))
        way = chance.choice(["change", "cut", "double", "swap"])
        if way == "change":
            data[at] = chance.randrange(256)
        elif way == "cut" and to - at < len(data):
            del data[at:to]
        elif way == "double":
            data[at:at] = data[at:to]
        else:
            data += bytes(chance.choice(_SAID))[: chance.randint(0, 20)]
    return bytes(data[:1400]) or b"\0"
