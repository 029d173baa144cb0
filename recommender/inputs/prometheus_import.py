"""Prometheus -> a Parquet store: what the store lacks is asked for, what it has is not asked for again.

The names of the files say what has been read (:mod:`profiles.parts`, by namespace); a part is there only when it
is whole. So an import that was interrupted goes on where it stopped, and the next one reads what has happened since.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from profiles.parquet import ParquetWriter
from profiles.parts import PROMETHEUS, Part, delete_part, parts_in
from profiles.tables import SCHEMAS, USAGE_NUMBERS, Key
from recommender.history import Container
from recommender.inputs.cadvisor import (
    ANONYMOUS,
    ERRORS,
    PERIODS,
    QUANTILES,
    REQUESTS,
    ROW_SECONDS,
    THROTTLED,
    UNANSWERED,
    Source,
    Usage,
    read_usage,
)
from recommender.inputs.prometheus import Cost, Prometheus
from recommender.inventory import Inventory

_THREADS = 2
_MOST_CELLS = 4_000_000  # rows of a part, over all its series
_IN_FORCE = ("cpu_request_cores", "cpu_limit_cores", "memory_limit_bytes")


def missing_parts(
    folder: Path, cluster: str, source: Source, start: int, end: int, keep_seconds: float | None = None
) -> list[Part]:
    """What the store at `folder` does not hold of the time between.

    :param keep_seconds: parts that are wholly older than so long before `end` are deleted
    """
    held: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for part in sorted(parts_in(folder)):
        if (part.source, part.cluster) != (PROMETHEUS, cluster):
            continue
        if keep_seconds is not None and part.end <= end - keep_seconds:
            delete_part(folder, part)
        else:
            held[part.of].append((part.start, part.end))
    wanted = []
    for namespace, series in source.series.items():
        step = max(1, _MOST_CELLS // max(1, series)) * ROW_SECONDS
        for begin, until in _gaps(held[namespace], start, end):
            wanted += [
                Part(PROMETHEUS, cluster, namespace, at, min(until, at + step)) for at in range(begin, until, step)
            ]
    return wanted


def import_parts(
    connect: Callable[[Cost], Prometheus],
    folder: Path,
    inventory: Inventory,
    source: Source,
    parts: list[Part],
    samples: int,
) -> Iterator[tuple[Part, Cost]]:
    """Read the parts and write each as soon as it is whole; yields it with what it cost.

    :param connect: makes a connection for one thread
    :param samples: about how many may come in one answer
    :raises profiles.errors.HeadroomError: when the server does not answer or the folder cannot be written
    """

    def read(part: Part) -> tuple[Part, Usage, Cost]:
        cost = Cost()
        return part, read_usage(connect(cost), source, part.of, part.start, part.end, samples), cost

    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            waiting: deque[Future[tuple[Part, Usage, Cost]]] = deque()
            following = iter(parts)
            for _ in parts:
                waiting.extend(pool.submit(read, each) for each in islice(following, _THREADS + 1 - len(waiting)))
                part, usage, cost = waiting.popleft().result()
                _write(folder, part, usage, inventory)
                yield part, cost
        finally:
            pool.shutdown(cancel_futures=True)


def _gaps(held: list[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    at = start
    for begin, until in held:
        if begin > at:
            yield at, min(begin, end)
        at = max(at, until)
    if at < end:
        yield at, end


def _write(folder: Path, part: Part, usage: Usage, inventory: Inventory) -> None:
    containers: dict[Key, list[int]] = defaultdict(list)
    used = ~(np.isnan(usage.cpu_cores) & np.isnan(usage.memory_bytes)).all(axis=1)  # agents may know of more
    for place, (pod, container) in enumerate(usage.keys):
        if not used[place]:
            continue
        kind, workload = inventory.owner_of(part.of, pod)
        containers[part.cluster, part.of, kind, workload, container].append(place)
    with ParquetWriter(folder, part.prefix) as writer:
        for key in sorted(containers):
            places = sorted(containers[key], key=lambda place: usage.keys[place])
            writer.write(key, {"usage": _table(part, usage, places, inventory, key)})
        seconds = float(part.end - part.start)
        row = {"start_unix_seconds": float(part.start), "end_unix_seconds": float(part.end), "seconds": seconds}
        writer.finish([row | {"windows": int(seconds) // ROW_SECONDS, "clock_steps": 0, "lost": "{}", "agent": "{}"}])


def _table(part: Part, usage: Usage, places: list[int], inventory: Inventory, key: Key) -> dict[str, Any]:
    """Columns of table ``usage``: rows in order of time, then pod."""
    columns = {
        "cpu_cores": usage.cpu_cores,
        "cpu_peak_cores": usage.cpu_peak_cores,
        "memory_working_set_bytes": usage.memory_bytes,
        "memory_anon_bytes": usage.optional.get(ANONYMOUS),
        "periods": usage.optional.get(PERIODS),
        "throttled_periods": usage.optional.get(THROTTLED),
        "requests": usage.optional.get(REQUESTS),
        "errors": usage.optional.get(ERRORS),
        "unanswered": usage.optional.get(UNANSWERED),
        **{name: usage.optional.get(name) for name in QUANTILES.values()},
    }
    known = {name: values[places].T for name, values in columns.items() if values is not None}
    there = ~np.isnan(known["cpu_cores"]) | ~np.isnan(known["memory_working_set_bytes"])
    rows, pods = np.nonzero(there)
    names = [usage.keys[place][0] for place in places]
    made: dict[str, Any] = {
        "instance": pa.DictionaryArray.from_arrays(pa.array(pods.astype(np.int32)), pa.array(names)),
        "unix_seconds": part.start + ROW_SECONDS * rows,
        "duration_seconds": np.full(len(rows), ROW_SECONDS, np.float32),
    }
    schema = SCHEMAS["usage"]
    for name, values in known.items():
        made[name] = pa.array(values[there], mask=np.isnan(values[there])).cast(schema.field(name).type, safe=False)
    declared = inventory.by_container.get(Container(*key))
    alive = np.array([(part.of, name) in inventory.owners for name in names])
    for name in _IN_FORCE:  # of a pod that is gone it is not known
        value = getattr(declared.resources, name) if declared else None
        values = np.where(alive, np.nan if value is None else value, np.nan)[pods]
        made[name] = pa.array(values, mask=np.isnan(values)).cast(schema.field(name).type, safe=False)
    return made | {name: pa.nulls(len(rows)) for name in USAGE_NUMBERS if name not in made}
