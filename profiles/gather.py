r"""What nodes left in a depot -> parts of a store, one for each day with all nodes in it.

    node~prod~worker-1~0h~1h   \
    node~prod~worker-1~1h~2h    >--  nodes~prod~all~0h~24h
    node~prod~worker-2~0h~1h   /

A node's hour is too short to tell when a container was busiest, and there are too many of them to open: so what
came of a day is put together with what is held of it, the busiest tenth is chosen anew, and heavy columns are
added up by six hours. Of many parts every so many are first put together as they are, so that few files are open.
"""

from __future__ import annotations

import bisect
import contextlib
import math
import shutil
import struct
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from profiles.depot import Depot
from profiles.errors import HeadroomError, StoreError, writing
from profiles.histogram import LATENCY, Histogram
from profiles.parquet import ParquetReader, ParquetWriter, Stored
from profiles.parts import TABLES, Part, delete_part, parts_in
from profiles.periods import PeriodRow, Stretch
from profiles.rollup import Busiest
from profiles.tables import IDENTITY, SCHEMAS

#: Of the parts in a depot, and of those in a store.
OF_NODE, OF_NODES = "node", "nodes"
_DAY, _PERIOD = 86_400, 21_600
_AT_ONCE = 8  # requests to an object store
_FILES_TOGETHER = 400  # of those that are kept open (profiles.parquet)
_Files = list[tuple[str, str]]  # table and name
_ROUTE = ("role", "protocol", "method", "route", "outcome", "status")


@dataclass(frozen=True, slots=True)
class Gathered:
    """What came.

    :ivar parts: new ones
    :ivar nodes: of how many the depot has any
    :ivar other_clusters: of which it has some as well
    :ivar left_out: what was not taken, and why
    """

    parts: int
    nodes: int
    other_clusters: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def gather(depot: Depot, folder: Path, cluster: str, since: float, until: float, choose: Busiest) -> Gathered:
    """Bring the store at `folder` up to date with what the nodes of `cluster` left in the depot.

    :param since, until: unix seconds; what ended before, or began after, is left there
    :param choose: which rows are the busiest (recommender.history.busiest_rows)
    :raises profiles.errors.HeadroomError: when the depot cannot be read, or the store not written
    """
    of_nodes = [part for part in depot.parts() if part.source == OF_NODE]
    there = [part for part in of_nodes if part.cluster == cluster and part.end > since and part.start < until]
    held = {part.start: part for part in parts_in(folder) if (part.source, part.cluster) == (OF_NODES, cluster)}
    by_day: dict[int, list[Part]] = defaultdict(list)
    for part in there:
        by_day[part.start // _DAY * _DAY].append(part)
    came, left_out = 0, list[str]()
    listing: dict[Part, _Files] = {}
    for day, parts in sorted(by_day.items()):
        known = _sources(folder, held[day]) if day in held else set()
        new, twice = _new(parts, known)
        left_out += [f"{part.prefix} has time that others of its node have" for part in twice]
        if new:
            listing = listing or depot.listing()
            new = [part for part in new if part in listing]  # one may have been deleted since
            into = Part(OF_NODES, cluster, "all", day, day + _DAY)
            damaged = _gather_day(depot, folder, into, {part: listing[part] for part in new}, choose)
            left_out += damaged
            came += len(new) - len(damaged)
    others = {part.cluster for part in of_nodes} - {cluster}
    return Gathered(came, len({part.of for part in there}), tuple(sorted(others)), tuple(left_out))


def forget(folder: Path, cluster: str, before_unix_seconds: float) -> None:
    """Delete the days of a store that ended before then.

    :raises profiles.errors.StoreError: when they cannot be
    """
    for part in list(parts_in(folder)):
        if (part.source, part.cluster) == (OF_NODES, cluster) and part.end < before_unix_seconds:
            delete_part(folder, part)


def _sources(folder: Path, part: Part) -> set[Part]:
    """The parts that it was made from."""
    names = {str(row["source"]) for row in ParquetReader.recordings_of(folder, part.prefix)}
    found = (Part.of_file(f"{name}-0.parquet") for name in names)
    return {each for each in found if each is not None}


def _new(parts: Iterable[Part], known: set[Part]) -> tuple[list[Part], list[Part]]:
    """Those to take; and those that have time which is known, or comes with another: nothing is counted twice."""
    chosen, twice = list[Part](), list[Part]()
    taken: dict[str, list[Part]] = defaultdict(list)
    for part in known:
        taken[part.of].append(part)
    for part in sorted(set(parts) - known, key=lambda each: (each.start, -each.end)):
        if any(part.overlaps(each) for each in taken[part.of]):
            twice.append(part)
        else:
            chosen.append(part)
            taken[part.of].append(part)
    return chosen, twice


def _gather_day(depot: Depot, folder: Path, day: Part, new: Mapping[Part, _Files], choose: Busiest) -> list[str]:
    """Put the new parts and what is held of that day together; says which of them cannot be read."""
    try:
        _write_day(depot, folder, day, new, choose)
    except HeadroomError:
        damaged = {part: why for part, files in new.items() if (why := _damage(depot, part, files))}
        if not damaged or len(damaged) == len(new) > 1:  # that all are is no damage
            raise
        whole = {part: files for part, files in new.items() if part not in damaged}
        if whole:
            _write_day(depot, folder, day, whole, choose)
        return [f"{part.prefix} cannot be read: {why}" for part, why in damaged.items()]
    return []


def _write_day(depot: Depot, folder: Path, day: Part, new: Mapping[Part, _Files], choose: Busiest) -> None:
    with _inputs(folder) as inputs:
        recordings = _taken(depot, inputs, new)
        recordings += ParquetReader.recordings_of(folder, day.prefix)
        for table in TABLES:
            for file in (folder / table).glob(f"{day.prefix}-*.parquet"):
                shutil.copyfile(file, inputs / table / file.name)
        with ParquetWriter(folder, day.prefix) as writer:
            for stored in _containers(inputs):
                writer.write(stored.key, _tables(stored, choose))
            writer.finish(recordings)


def _taken(depot: Depot, inputs: Path, new: Mapping[Part, _Files]) -> list[dict[str, Any]]:
    """Bring the parts; their rows of table ``recordings``."""
    batches, recordings = _batches(new), []
    for number, some in enumerate(batches):
        with contextlib.ExitStack() as ending:
            into = inputs if len(batches) == 1 else ending.enter_context(_inputs(inputs))
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda part, into=into: depot.take(new[part], into), some))
            recordings += [row for part in some for row in _recordings(into, part, new[part])]
            if into != inputs:
                _put_together(into, inputs, f"together{number}")
    return recordings


def _batches(new: Mapping[Part, _Files]) -> list[list[Part]]:
    """So many parts at a time as have their files open at once."""
    made: list[list[Part]] = [[]]
    files = 0
    for part, own in new.items():
        if files + len(own) > _FILES_TOGETHER and made[-1]:
            made.append([])
            files = 0
        made[-1].append(part)
        files += len(own)
    return made


def _put_together(parts: Path, into: Path, prefix: str) -> None:
    """One row group a container of all that the parts have of it."""
    with ParquetWriter(into, prefix) as writer:
        for stored in _containers(parts):
            read = {table: stored.read(table) for table in ("usage", "profiles", "routes")}
            writer.write(stored.key, {table: dict(zip(of.column_names, of, strict=True)) for table, of in read.items()})
        writer.finish([])


@contextlib.contextmanager
def _inputs(folder: Path) -> Iterator[Path]:
    """An empty store beside the one that is written."""
    with writing(folder), tempfile.TemporaryDirectory(prefix=".gather-", dir=folder) as name:
        for table in TABLES:
            (Path(name) / table).mkdir()
        yield Path(name)


def _recordings(inputs: Path, part: Part, files: _Files) -> list[dict[str, Any]]:
    """Its rows of that table.

    :raises StoreError: when it has other files than it had
    """
    rows = ParquetReader.recordings_of(inputs, part.prefix)
    there = sum(table != "recordings" for table, _ in files)
    if any(row["files"] not in (None, there) for row in rows):
        raise StoreError(f"{part.prefix} has {there} files and had more.", "Nothing has to be done; it is left out.")
    return [row | {"source": part.prefix} for row in rows]


def _damage(depot: Depot, part: Part, files: _Files) -> str | None:
    """Why a part cannot be read."""
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name)
        for table in TABLES:
            (inputs / table).mkdir()
        try:
            depot.take(files, inputs)
            _recordings(inputs, part, files)
            for stored in _containers(inputs):
                _tables(stored, lambda rates, _: np.arange(len(rates)))
        except HeadroomError as error:
            return error.sentence.replace(f"{name}/", "")
    return None


def _containers(folder: Path) -> tuple[Stored, ...]:
    """None where the nodes had no container."""
    return ParquetReader(folder).containers if any((folder / "usage").iterdir()) else ()


def _tables(stored: Stored, choose: Busiest) -> dict[str, Mapping[str, Any]]:
    try:
        usage = stored.read("usage")
        return {"usage": _usage(usage), "profiles": _profiles(stored, usage, choose), "routes": _routes(stored)}
    except (ValueError, struct.error) as error:
        raise StoreError(
            f"A node's profile of {stored.name} cannot be read by this headroom ({error}).",
            "Take the same version on all nodes, or move the older parts away.",
        ) from error


def _usage(table: pa.Table) -> Mapping[str, pa.ChunkedArray]:
    """In order of time, then of instance."""
    codes = []
    names: dict[str, int] = {}
    for chunk in table.column("instance").chunks:
        own = np.array([names.setdefault(name, len(names)) for name in chunk.dictionary.to_pylist()], dtype=np.int64)
        codes.append(own[chunk.indices.to_numpy()])
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(np.array(list(names), dtype=str))] = np.arange(len(names))
    order = np.lexsort((rank[np.concatenate(codes)], table.column("unix_seconds").to_numpy()))
    table = table.take(order)
    return {name: table.column(name) for name in table.column_names}


def _profiles(stored: Stored, usage: pa.Table, choose: Busiest) -> Mapping[str, list[Any]]:
    rows = stored.read("profiles").to_pylist()
    if not rows:
        return {}
    busiest, (begins, limits) = _busiest(rows, choose), _stretches(usage)
    made: dict[tuple[int, bool, Stretch], PeriodRow] = defaultdict(PeriodRow)
    for place, row in enumerate(rows):
        at = max(row["unix_seconds"], row["limit_since_unix_seconds"])
        number = max(0, bisect.bisect_right(begins, at) - 1)
        stretch = begins[number], limits[number]
        made[row["unix_seconds"] // _PERIOD * _PERIOD, place in busiest, stretch].add(row)
    return _columns("profiles", [made[key].columns(*key) for key in sorted(made)])


def _busiest(rows: list[dict[str, Any]], choose: Busiest) -> frozenset[int]:
    """Places of the rows in which the busiest tenth of what they are made of is."""
    sizes = np.array([row["rows"] for row in rows])
    requests = np.array([Histogram.from_bytes(row["latency"]).total for row in rows], dtype=float)
    seconds = np.array([row["seconds"] for row in rows])
    place = np.repeat(np.arange(len(rows)), sizes)
    chosen = choose((requests / np.maximum(seconds, 1e-9))[place], (requests / np.maximum(sizes, 1))[place])
    return frozenset(map(int, np.unique(place[chosen])))


def _stretches(usage: pa.Table) -> tuple[list[int], list[float]]:
    """Since when each CPU limit was in force, the largest of the instances', as in one export of all of it."""
    times = usage.column("unix_seconds").to_numpy()
    if not len(times):
        return [0], [math.inf]
    limits = usage.column("cpu_limit_cores").to_numpy()
    order = np.argsort(times, kind="stable")
    limits = np.where(np.isnan(limits), np.inf, limits)[order]
    minutes, first = np.unique(times[order], return_index=True)
    largest = np.maximum.reduceat(limits, first)
    begins = np.flatnonzero(np.concatenate([[True], largest[1:] != largest[:-1]]))
    return [int(minute) for minute in minutes[begins]], [float(limit) for limit in largest[begins]]


def _routes(stored: Stored) -> Mapping[str, list[Any]]:
    merged: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in stored.read("routes").to_pylist():
        merged[tuple(row[name] for name in _ROUTE)].append(row)
    made = [
        dict(zip(_ROUTE, of, strict=True))
        | {"latency": Histogram.merged(LATENCY, (Histogram.from_bytes(row["latency"]) for row in rows)).to_bytes()}
        | {name: math.fsum(row[name] for row in rows) for name in ("latency_seconds_sum", "transfer_seconds_sum")}
        for of, rows in sorted(merged.items())
    ]
    return _columns("routes", made)


def _columns(table: str, rows: Iterable[Mapping[str, Any]]) -> Mapping[str, list[Any]]:
    made = list(rows)
    return {name: [row[name] for row in made] for name in SCHEMAS[table].names if name not in IDENTITY}
