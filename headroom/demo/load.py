"""A load generator with a known count: keep-alive connections, seeded arrivals.

Open loop: each request has a time at which it is due, and its latency counts from then, so a
slow server cannot slow down the load that measures it (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

_BODY = b'{"items":3}'


@dataclass(frozen=True, slots=True)
class Call:
    """One request and when it is due; 0 for at once."""

    due_seconds: float
    method: str
    path: str

    def to_bytes(self) -> bytes:
        """As it goes over the wire."""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: demo\r\nAccept-Encoding: gzip\r\n"
        if self.method != "POST":
            return f"{head}\r\n".encode()
        return f"{head}Content-Length: {len(_BODY)}\r\n\r\n".encode() + _BODY


@dataclass(slots=True)
class LoadResult:
    """What the generator saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    failed: int = 0
    latencies_seconds: list[float] = field(default_factory=list)

    def latency_seconds(self, quantile: float) -> float:
        """Latency at `quantile`, nearest rank."""
        ordered = sorted(self.latencies_seconds)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


def arrivals(
    seed: int, seconds: float, rate: Callable[[float], float], choose: Callable[[random.Random], tuple[str, str]]
) -> Iterator[Call]:
    """Poisson arrivals at `rate` requests per second of the time since the start."""
    chance = random.Random(seed)
    now = 0.0
    while (now := now + chance.expovariate(rate(now))) < seconds:
        yield Call(now, *choose(chance))


async def send(port: int, calls: Iterable[Call], connections: int) -> LoadResult:
    """Send every call to 127.0.0.1:`port` over `connections` keep-alive connections."""
    result = LoadResult()
    waiting: asyncio.Queue[tuple[float, Call] | None] = asyncio.Queue()
    start = time.perf_counter()
    workers = [asyncio.create_task(_connection(port, waiting, start, result)) for _ in range(connections)]
    for call in calls:
        delay = start + call.due_seconds - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        waiting.put_nowait((call.due_seconds, call))
    for _ in workers:
        waiting.put_nowait(None)
    await asyncio.gather(*workers)
    return result


async def send_back_to_back(port: int, calls: Sequence[Call], connections: int) -> LoadResult:
    """Closed loop: each connection sends its share of the calls, one after the answer to the other."""
    result = LoadResult()

    async def worker(share: Sequence[Call]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for call in share:
            begin = time.perf_counter()
            writer.write(call.to_bytes())
            result.statuses[await _read_answer(reader)] += 1
            result.latencies_seconds.append(time.perf_counter() - begin)
        writer.close()

    await asyncio.gather(*(worker(calls[index::connections]) for index in range(connections)))
    return result


async def _connection(
    port: int, waiting: asyncio.Queue[tuple[float, Call] | None], start: float, result: LoadResult
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (item := await waiting.get()) is not None:
        due, call = item
        try:
            writer.write(call.to_bytes())
            status = await _read_answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            result.failed += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            continue
        result.statuses[status] += 1
        result.latencies_seconds.append(time.perf_counter() - start - due)
    writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    elif b"content-length:" in lower:
        await reader.readexactly(int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
    return int(head[9:12])
