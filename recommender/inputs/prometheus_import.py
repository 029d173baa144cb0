"""Prometheus -> a Parquet store: what the store lacks is asked for, what it has is not asked for again.

    fleet/usage/prometheus~prod~shop~1794700800~1795305600-00000.parquet
                           |    |    |          `- until
                           |    |    `- from, in unix seconds
                           |    `- namespace
                           `- cluster

The names of the files say what has been read; a file is visible only when it is whole. So an import
that was interrupted goes on where it stopped, and the next one reads what has happened since.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from profiles.errors import StoreError, UsageError
from profiles.parquet import SCHEMAS, USAGE_NUMBERS, Key, ParquetWriter
from recommender.history import Container
from recommender.inputs.cadvisor import ANONYMOUS, PERIODS, ROW_SECONDS, THROTTLED, Source, Usage, read_usage
from recommender.inputs.prometheus import Cost, Prometheus
from recommender.inventory import Inventory

_PART = re.compile(
    r"prometheus~(?P<cluster>[^~]+)~(?P<namespace>[^~]+)~(?P<start>\d+)~(?P<end>\d+)-\d+\.parquet(\.part)?"
)
_CLUSTER = re.compile(r"\w[\w.:@-]*")
_THREADS = 2
_MOST_CELLS = 4_000_000  # rows of a part, over all its series
_IN_FORCE = ("cpu_request_cores", "cpu_limit_cores", "memory_limit_bytes")


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Rows of one namespace that are asked for together, and stand in files of one name."""

    cluster: str
    namespace: str
    start: int
    end: int

    @property
    def prefix(self) -> str:
        """How its files are called."""
        return f"prometheus~{self.cluster}~{self.namespace}~{self.start}~{self.end}"


def checked_cluster(name: str) -> str:
    """A name that can stand in the names of files.

    :raises UsageError: when it cannot
    """
    if not _CLUSTER.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a cluster.", "Give --cluster with letters, digits, . _ : @ or -.")
    return name


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else pulls into the store meanwhile; what a pull that was killed left is removed.

    :raises StoreError: when somebody does, or the folder cannot be used
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".pull").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"Another pull into {folder} is under way.", "Wait for its end.") from error
        with _writing(folder):
            whole = set(_parts(folder, "recordings", "parquet"))
            for table in SCHEMAS:
                for part in {*_parts(folder, table, "part"), *_parts(folder, table, "parquet")} - whole:
                    _delete(folder, part)
        yield


def missing_parts(
    folder: Path, cluster: str, source: Source, start: int, end: int, keep_seconds: float | None = None
) -> list[Part]:
    """What the store at `folder` does not hold of the time between.

    :param keep_seconds: parts that are wholly older than so long before `end` are deleted
    """
    held: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for part in sorted(_parts(folder, "recordings", "parquet")):
        if part.cluster != cluster:
            continue
        if keep_seconds is not None and part.end <= end - keep_seconds:
            _delete(folder, part)
        else:
            held[part.namespace].append((part.start, part.end))
    wanted = []
    for namespace, series in source.series.items():
        step = max(1, _MOST_CELLS // max(1, series)) * ROW_SECONDS
        for begin, until in _gaps(held[namespace], start, end):
            wanted += [Part(cluster, namespace, at, min(until, at + step)) for at in range(begin, until, step)]
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
        return part, read_usage(connect(cost), source, part.namespace, part.start, part.end, samples), cost

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


def _parts(folder: Path, table: str, suffix: str) -> Iterator[Part]:
    if not (folder / table).is_dir():
        return
    for file in (folder / table).iterdir():
        if file.name.endswith(f".{suffix}") and (match := _PART.fullmatch(file.name)):
            yield Part(match["cluster"], match["namespace"], int(match["start"]), int(match["end"]))


def _delete(folder: Path, part: Part) -> None:
    with _writing(folder):
        for table in ("recordings", *SCHEMAS):  # first what says that the rest is there
            for file in (folder / table).glob(f"{part.prefix}-*"):
                file.unlink(missing_ok=True)


def _write(folder: Path, part: Part, usage: Usage, inventory: Inventory) -> None:
    containers: dict[Key, list[int]] = defaultdict(list)
    for place, (pod, container) in enumerate(usage.keys):
        kind, workload = inventory.owner_of(part.namespace, pod)
        containers[part.cluster, part.namespace, kind, workload, container].append(place)
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
    alive = np.array([(part.namespace, name) in inventory.owners for name in names])
    for name in _IN_FORCE:  # of a pod that is gone it is not known
        value = getattr(declared.resources, name) if declared else None
        values = np.where(alive, np.nan if value is None else value, np.nan)[pods]
        made[name] = pa.array(values, mask=np.isnan(values)).cast(schema.field(name).type, safe=False)
    return made | {name: pa.nulls(len(rows)) for name in USAGE_NUMBERS if name not in made}


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}.", "Give --store a folder with room that you own."
        ) from error
