"""The generator, a process in a cgroup of its own: a line of JSON in, a segment's latencies out.

Open loop: every request has a time at which it is due, and its latency counts from then.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time

from benchmarks.closed_loop.clients import Client, Http, Postgres, Redis
from benchmarks.closed_loop.shapes import requests

CLIENTS: dict[str, type[Client]] = {"http": Http, "postgres": Postgres, "redis": Redis}


async def segment(order: dict) -> dict:
    """Send one segment; latencies in microseconds in the order of the requests, -1 for a failed one."""
    calls = requests(order["shape"], order["seed"], order["seconds"], order["rate"], order["cycle"])
    latencies = [-1] * len(calls)
    waiting: asyncio.Queue[int | None] = asyncio.Queue()
    clients = [CLIENTS[order["protocol"]](order["port"]) for _ in range(order["connections"])]
    await asyncio.gather(*(client.connect() for client in clients))
    start_ns = time.monotonic_ns() + 20_000_000

    async def work(client: Client) -> None:
        while (index := await waiting.get()) is not None:
            try:
                well = await asyncio.wait_for(client.ask(calls[index][1]), 60)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                await client.connect()
                continue
            if well:
                due_ns = start_ns + calls[index][0] * 1e9
                latencies[index] = round((time.monotonic_ns() - due_ns) / 1000)

    workers = [asyncio.create_task(work(client)) for client in clients]
    for index, (due, _) in enumerate(calls):
        delay = start_ns / 1e9 + due - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        waiting.put_nowait(index)
    rest = start_ns / 1e9 + order["seconds"] - time.monotonic()
    await asyncio.sleep(max(0.0, rest))
    for _ in workers:
        waiting.put_nowait(None)
    await asyncio.gather(*workers)
    for client in clients:
        client.close()
    return {"start_ns": start_ns, "end_ns": time.monotonic_ns(), "latencies_us": latencies}


def main() -> None:
    gc.disable()
    for line in sys.stdin:
        print(json.dumps(asyncio.run(segment(json.loads(line)))), flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
