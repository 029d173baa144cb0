"""What gathering a large cluster's depot costs: at first, and then each hour.

The hour of a node is a real one (rows of the recording that ships with headroom, pushed by the real command); it is
given to the other nodes and hours with its times, names and instances changed. Every node has a pod of each DaemonSet;
the others are of Deployments, whose pods are on many nodes. The steps, one after the other on the same store:

    first        all but the last two hours of `--days`
    hour         an hour more, of a day that has 22
    hour_listed  an hour more, when the depot and the store have `--known-days` days more that nothing came of
    next_day     an hour more, the first of its day
    nothing      nothing more

What days before hold is not read, so their parts are links: with `--days 1 --known-days 13` the last three steps are
those of two weeks. ``python -m benchmarks.gather --nodes 15 --days 1 --profile``
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.push import cost, write_node
from headroom.pushing import push
from profiles.depot import Depot
from profiles.gather import OF_NODES, gather
from profiles.parquet import ParquetReader, ParquetWriter
from profiles.parts import TABLES, Part, parts_in
from profiles.tables import Key
from recommender.history import busiest_rows

CLUSTER = "prod"
_HOUR, _HOURS, _DAY = 3600, 24, 86_400
_WINDOWS = 360
_KINDS = 5  # of servers in the recording, which pods have in turn
_LATE_HOURS = 2  # of the first days, that come afterwards
_TIMES = ("unix_seconds", "limit_since_unix_seconds", "start_unix_seconds", "end_unix_seconds")


@dataclass(frozen=True)
class Cluster:
    """Of which size.

    :ivar daemons: of the pods of a node, those of DaemonSets
    :ivar replicas: of a Deployment
    """

    nodes: int
    pods: int
    daemons: int
    replicas: int

    def workloads(self, node: int) -> Iterator[tuple[str, str, int]]:
        """Kind, name and number of that of each pod; no two of a node are of the same."""
        yield from (("DaemonSet", f"daemon-{number:02d}", number) for number in range(self.daemons))
        own = self.pods - self.daemons
        deployments = max(own, self.nodes * own // self.replicas)
        for pod in range(own):
            number = (node * own + pod) % deployments
            yield "Deployment", f"web-{number:04d}", number


@dataclass(frozen=True)
class Container:
    """Of the hour that was pushed."""

    tables: dict[str, pa.Table]

    def at(self, seconds: int, instance: str) -> dict[str, dict[str, pa.ChunkedArray]]:
        return {table: _moved(rows, seconds, instance) for table, rows in self.tables.items()}


@dataclass(frozen=True)
class Hour:
    """What a node pushed of an hour."""

    part: Part
    containers: tuple[Container, ...]
    recordings: tuple[dict, ...]

    @classmethod
    def pushed(cls, folder: Path, pods: int) -> Hour:
        """A real one, where each pod is a workload of its own."""
        write_node(folder / "node.db", 0, pods, pods)
        push(folder / "node.db", str(folder / "pushed"), "n0")
        (part,) = parts_in(folder / "pushed")
        found = ParquetReader(folder / "pushed")
        stored = sorted(found.containers, key=lambda each: int(each.key[3].split("-")[1]))
        tables = [{table: each.read(table) for table in ("usage", "profiles", "routes")} for each in stored]
        return cls(part, tuple(map(Container, tables)), tuple(found.recordings()))

    def write(self, depot: Path, of: Cluster, node_and_hour: tuple[int, int]) -> None:
        """The same hour of another node, `hour` hours later."""
        node, hour = node_and_hour
        seconds = hour * _HOUR
        part = replace(
            self.part,
            of=f"worker-{node:03d}",
            start=self.part.start + seconds,
            end=self.part.end + seconds,
            store=f"{node + 1:012x}",
            window=_WINDOWS * (hour + 1_000),
        )
        made: list[tuple[Key, dict]] = []
        for kind, workload, number in of.workloads(node):
            alike = len(self.containers) // _KINDS  # the same server, asked at other times
            container = self.containers[number % _KINDS + _KINDS * ((number + node + hour) % alike)]
            key = CLUSTER, "shop", kind, workload, "main"
            made.append((key, container.at(seconds, f"{workload}-{node:03d}-{number % 997:03d}")))
        with ParquetWriter(depot, part.prefix) as writer:
            for key, tables in sorted(made, key=lambda each: each[0]):
                writer.write(key, tables)
            writer.finish([_later(row, seconds) for row in self.recordings])


def _moved(rows: pa.Table, seconds: int, instance: str) -> dict[str, pa.ChunkedArray]:
    columns = {name: rows.column(name) for name in rows.column_names}
    for name in _TIMES:
        if name in columns:
            columns[name] = pa.chunked_array([columns[name].to_numpy() + seconds])
    if "instance" in columns:
        codes = pa.repeat(pa.scalar(0, pa.int32()), len(rows))
        columns["instance"] = pa.chunked_array([pa.DictionaryArray.from_arrays(codes, pa.array([instance]))])
    return columns


def _later(row: dict, seconds: int) -> dict:
    """A row of recordings; the writer says anew how many files there are."""
    kept = {name: value for name, value in row.items() if name not in ("files", "source")}
    return kept | {name: kept[name] + seconds for name in _TIMES if name in kept}


def add_hours(hour: Hour, depot: Path, of: Cluster, hours: Iterable[int]) -> None:
    """Every node pushes these."""
    wanted = [(node, each) for each in hours for node in range(of.nodes)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(partial(hour.write, depot, of), wanted, chunksize=8):
            pass


def add_known_days(depot: Path, fleet: Path, days: int) -> None:
    """Days before, of which all was gathered: files with the names, made of those of the first day that there is."""
    first = min(part.start for part in parts_in(depot)) // _DAY * _DAY
    for back in range(1, days + 1):
        earlier = partial(_earlier, days=back)
        for folder, source in ((depot, "node"), (fleet, OF_NODES)):
            _link(folder, source, first, earlier)
        ((held, earlier_held),) = (
            (part, earlier(part)) for part in parts_in(fleet) if part.source == OF_NODES and part.start == first
        )
        rows = ParquetReader.recordings_of(fleet, held.prefix)
        for row in rows:
            row["source"] = earlier(Part.of_file(f"{row['source']}-0.parquet")).prefix
        path = fleet / "recordings" / f"{held.prefix}-00000.parquet"
        changed = pa.Table.from_pylist(rows, schema=pq.read_schema(path))
        pq.write_table(changed, path.with_name(f"{earlier_held.prefix}-00000.parquet"))


def _earlier(part: Part, days: int) -> Part:
    return replace(part, start=part.start - days * _DAY, end=part.end - days * _DAY)


def _link(folder: Path, source: str, day: int, earlier: Callable[[Part], Part]) -> None:
    for table in TABLES:
        for file in list((folder / table).glob(f"{source}~*.parquet")):
            part = Part.of_file(file.name)
            if part.start // _DAY * _DAY == day and (table, source) != ("recordings", OF_NODES):
                os.link(file, file.with_name(file.name.replace(part.prefix, earlier(part).prefix)))


def listed(depot: Path) -> dict[str, float]:
    """Seconds to look into all of it, as each gathering that finds something does."""
    opened, begin = Depot.at(str(depot)), time.monotonic()
    parts, middle = len(opened.parts()), time.monotonic()
    files = sum(map(len, opened.listing().values()))
    seconds = {"parts_seconds": middle - begin, "listing_seconds": time.monotonic() - middle}
    return {"parts": parts, "files": files} | {name: round(value, 3) for name, value in seconds.items()}


def kept(folder: Path) -> dict[str, float]:
    """What the store of all nodes is."""
    files = list(folder.rglob(f"{OF_NODES}~*.parquet"))
    return {"files": len(files), "mb": round(sum(file.stat().st_size for file in files) / 1e6, 1)}


def measure(of: Cluster, days: int, known_days: int, profile: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="headroom-gather-") as name:
        depot, fleet = Path(name) / "depot", Path(name) / "fleet"
        hour = Hour.pushed(Path(name), of.pods)
        hours = days * _HOURS
        begin = time.monotonic()
        add_hours(hour, depot, of, range(hours - _LATE_HOURS))
        made = time.monotonic() - begin
        parts = (hours - _LATE_HOURS) * of.nodes
        size = sum(file.stat().st_size for file in depot.rglob("*.parquet"))
        result = {
            "nodes": of.nodes,
            "days": days,
            "pods_on_a_node": of.pods,
            "containers": len({each[:2] for node in range(of.nodes) for each in of.workloads(node)}),
            "made_in_seconds": round(made, 1),
            "depot_mb": round(size / 1e6, 1),
            "part_kb": round(size / parts / 1e3, 1),
            "listed": listed(depot),
        }
        if profile:
            result["profile"] = profiled(depot, Path(name) / "profiled")
        end = hour.part.start + hours * _HOUR
        result["first"] = _pulled(depot, fleet, end) | {"parts": parts, "kept": kept(fleet)}
        add_hours(hour, depot, of, [hours - 2])
        result["hour"] = _pulled(depot, fleet, end)
        if known_days:
            add_known_days(depot, fleet, known_days)
            result["listed_then"] = listed(depot)
        add_hours(hour, depot, of, [hours - 1])
        result["hour_listed"] = _pulled(depot, fleet, end)
        add_hours(hour, depot, of, [hours])
        result["next_day"] = _pulled(depot, fleet, end + _HOUR)
        result["nothing"] = _pulled(depot, fleet, end + _HOUR)
        result["kept_then"] = kept(fleet)
        return result


def _pulled(depot: Path, fleet: Path, until: int) -> dict[str, object]:
    """What the real command takes; it has to leave nothing out."""
    arguments = ["pull", "--profiles", str(depot), "--store", str(fleet), "--cluster", CLUSTER, "--until", str(until)]
    spent = cost(arguments)
    files = (fleet / "recordings").glob(f"{OF_NODES}~*.parquet")
    held = {source for file in files for source in pq.read_table(file, columns=["source"]).column(0).to_pylist()}
    there = {part.prefix for part in parts_in(depot)}
    assert held == there, f"{len(there - held)} parts were left out"
    return spent


def profiled(depot: Path, fleet: Path, shown: int = 25) -> list[str]:
    """Where a first gathering's time goes: functions by their own time."""
    fleet.mkdir()
    profiler = cProfile.Profile()
    profiler.enable()
    came = gather(Depot.at(str(depot)), fleet, CLUSTER, 0, 1e12, busiest_rows)
    profiler.disable()
    assert came.parts
    assert not came.left_out
    rows = sorted(pstats.Stats(profiler).stats.items(), key=lambda each: -each[1][2])[:shown]
    return [
        f"{own:8.2f} s own {seconds:8.2f} s {calls:9d} calls  {Path(file).name}:{line} {function}"
        for (file, line, function), (_, calls, own, seconds, _) in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--days", type=int, default=1, help="that are gathered at first")
    parser.add_argument("--known-days", type=int, default=0, help="before these, that were gathered already")
    parser.add_argument("--pods", type=int, default=30, help="on a node")
    parser.add_argument("--daemons", type=int, default=5, help="of the pods of a node, those of DaemonSets")
    parser.add_argument("--replicas", type=int, default=10, help="of a Deployment")
    parser.add_argument("--profile", action="store_true", help="gather once more, and say where the time goes")
    given = parser.parse_args()
    of = Cluster(given.nodes, given.pods, given.daemons, given.replicas)
    print(json.dumps(measure(of, given.days, given.known_days, given.profile), indent=2))


if __name__ == "__main__":
    main()
