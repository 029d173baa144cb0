"""Stores as agents of several nodes would have written them, and what a Parquet store adds up to.

Seconds are sixty-fourths, so that sums are the same in whatever order they are added up.
"""

import contextlib
import itertools
import json
import math
import random
from collections import Counter

from headroom.pushing import push
from profiles.columns import bursts_from_bytes
from profiles.depot import Depot
from profiles.gather import gather
from profiles.histogram import DELAY, LATENCY, Histogram
from profiles.limit_bank import Candidate, LimitBank
from profiles.parquet import ParquetReader, ParquetWriter
from profiles.parts import alone
from profiles.rollup import export_store
from profiles.schema import Identity, TrafficRow, UsageRow, Window
from profiles.sqlite import StoreReader, StoreWriter
from recommender.history import busiest_rows

HOUR, DAY = 3600, 86_400
MIDNIGHT = 1_794_700_800


def anything(at):
    """Requests in a window that begins then."""
    return random.Random(at).randrange(40)


def unlimited(at):
    return None


def record(path, begin, end, *, load=anything, limit=unlimited, **more):
    """Windows that begin 3.5 s past `begin`, and so until `end`; what is recorded from there on follows."""
    with contextlib.closing(StoreWriter(path)) as writer:
        for window, traffic, usage in windows(begin, end, load, limit, **more):
            writer.write(window, traffic, usage)
    return path


def windows(begin, end, load, limit, *, every=20, cluster="prod", names=("web",), instance="pod-a"):
    for at in range(begin, end, every):
        traffic, usage = [], []
        for number, name in enumerate(names):
            count, of = load(at) + number, Identity(cluster, "shop", "Deployment", name, "main", f"{name}-{instance}")
            traffic += served(of, count)
            row = UsageRow(
                of,
                (1 + count) / 64,
                bank(count),
                {2: 5, 3 + count % 4: 1},
                periods=100,
                throttled_periods=count,
                memory_working_set_bytes=1000 + count,
                cpu_limit_cores=limit(at),
            )
            usage.append(row)
        yield Window(at + 3.5, float(every), lost={"late": at % 7, "table_full": 1}), traffic, usage


def served(of, count):
    told = [("server", "/", 200, count, "answered"), ("server", "/", 503, count % 3, "answered")]
    told += [("server", "/", 0, count % 2, "reset"), ("client", f"/db/{count % 2}", 200, 2, "answered")]
    for role, route, status, requests, outcome in told:
        if requests:
            latency = Histogram.of(LATENCY, [0.001 * (1 + count)] * requests)
            yield TrafficRow(
                of, role, "http1", False, "GET", route, status, latency, requests / 64, 1, 1, outcome, requests / 128
            )


def bank(count):
    delays = Histogram(DELAY, {5: 100 + count, 9: 1}), Histogram(DELAY, {5: 40})
    candidates = tuple(Candidate(limit, 3, 2, *delays) for limit in (0.1, 0.2))
    return LimitBank(10, 1000, True, 1 + count, 300, candidates)


def pushed(depot, **stores):
    """Each of them, as the node of that name."""
    for node, store in stores.items():
        push(store, str(depot), node)
    return depot


def gathered(depot, store, cluster="prod", since=0.0, until=math.inf):
    with alone(store):
        return gather(Depot.at(str(depot)), store, cluster, since, until, busiest_rows)


def take(depot, parts, folder):
    """Whole parts, as a gather takes them."""
    listing = depot.listing()
    depot.take([file for part in parts for file in listing.get(part, ())], folder)


def exported(folder, *stores):
    """Each of them as it is, in one go."""
    for number, store in enumerate(stores):
        with StoreReader(store) as reader, ParquetWriter(folder, f"node-{number}") as writer:
            export_store(reader, writer, 60, busiest_rows)
    return folder


def totals(folder):
    """What a store comes to, however it is cut."""
    reader = ParquetReader(folder)
    return {"recordings": _recordings(reader)} | {each.key: _container(each) for each in reader.containers}


def _container(stored):
    usage = sorted(stored.read("usage").to_pylist(), key=lambda row: (row["unix_seconds"], row["instance"]))
    heavy, routes = stored.read("profiles").to_pylist(), {}
    for row in stored.read("routes").to_pylist():
        of = tuple(row[name] for name in ("role", "protocol", "method", "route", "status", "outcome"))
        told = Histogram.from_bytes(row["latency"]), row["latency_seconds_sum"], row["transfer_seconds_sum"]
        routes[of] = tuple(one + other for one, other in zip(routes[of], told, strict=True)) if of in routes else told
    bursts = Counter()
    for row in heavy:
        bursts.update(bursts_from_bytes(row["burst_bins"]))
    return {
        "usage": usage,
        "routes": routes,
        "latency": Histogram.merged(LATENCY, (Histogram.from_bytes(row["latency"]) for row in heavy)),
        "bank": LimitBank.merged(LimitBank.from_bytes(row["limit_bank"]) for row in heavy),
        "bursts": bursts,
        "sums": {name: math.fsum(row[name] for row in heavy) for name in ("rows", "seconds", "cpu_seconds")},
        "limits": _by_limit(heavy),
    }


def _by_limit(heavy):
    made = Counter()
    for row in heavy:
        made[row["cpu_limit_cores"]] += row["rows"]
    return made


def _recordings(reader):
    rows, lost = reader.recordings(), Counter()
    for row in rows:
        lost.update(json.loads(row["lost"]))
    sums = {name: math.fsum(row[name] for row in rows) for name in ("seconds", "windows", "clock_steps")}
    return sums | {
        "start": min(row["start_unix_seconds"] for row in rows),
        "end": max(row["end_unix_seconds"] for row in rows),
        "lost": dict(lost),
    }


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_told_twice(folder):
    """Pairs of minute and instance that more than one row is of."""
    made = Counter()
    for stored in ParquetReader(folder).containers:
        usage = stored.read("usage")
        pairs = zip(usage.column("unix_seconds").to_pylist(), usage.column("instance").to_pylist(), strict=True)
        made.update((stored.key, *pair) for pair in pairs)
    return list(itertools.islice((each for each, times in made.items() if times > 1), 3))
