"""Read a Parquet store, one :class:`recommender.history.History` at a time.

Columns go straight from Arrow into one block of numbers, blobs into sums over blocks of time;
there is no Python object per row of usage, so a container of 14 days takes milliseconds.

What is wrong with rows is repaired or left out, and counted: :data:`Repairs` ends up in
:attr:`recommender.history.Recording.lost`, beside what the agent could not count.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from profiles.agent_cost import merged_cost
from profiles.errors import StoreError
from profiles.histogram import LATENCY, Histogram, UnknownLayout
from profiles.parquet import ParquetReader, Stored
from profiles.parts import PROMETHEUS
from profiles.tables import USAGE_NUMBERS
from recommender.evidence import Regime
from recommender.history import Container, History, Recording, Route
from recommender.inputs.parquet_profiles import MOST, Periods, bursts_of, evidence_of, periods_of
from recommender.latency_steps import latency_steps

#: What was wrong, and how often.
Repairs = Counter[str]

_COUNTED = ("requests", "errors", "requests_per_second")
_OF_ANSWERS = ("client_errors", "unanswered", "p50_seconds", "p95_seconds")
_MOSTLY = 0.5
_SLACK_SECONDS = 1.0  # a window may begin a moment before the minute of its row
_FRAME = ("start_unix_seconds", *USAGE_NUMBERS, "requests_per_second")
_NAMES = pd.Index(_FRAME, dtype=object)  # looked up faster than names that Arrow holds
_PLACE = {name: place for place, name in enumerate(_FRAME)}


def stream_histories(path: Path) -> Iterator[History]:
    """Every container of the store at `path`, by name; one in memory at a time.

    :raises profiles.errors.StoreError: when the store cannot be read
    """
    for stored in ParquetReader(path).containers:
        yield read_history(stored, Counter())


def read_folder(path: Path) -> Recording:
    """Everything at once, as :func:`recommender.inputs.store.read_store` does: for stores that fit in memory.

    :raises profiles.errors.StoreError: when the store cannot be read
    """
    reader, repairs = ParquetReader(path), Repairs()
    histories = tuple(read_history(stored, repairs) for stored in reader.containers)
    return recording_of(reader.recordings(), histories, repairs)


def read_history(stored: Stored, repairs: Repairs) -> History:
    """One container; what had to be repaired is added to `repairs`.

    :raises profiles.errors.StoreError: when a file is damaged
    """
    container = Container(*stored.key)
    sources, sizes = zip(*stored.rows_by_source("usage"), strict=True)
    of_prometheus = np.repeat([source == PROMETHEUS for source in sources], sizes)
    frame, by_agent = _frame(stored.read("usage"), of_prometheus, repairs)
    if not len(frame):
        raise StoreError(
            f"{stored.groups['usage'][0].path} has no usable row of {container.name}.",
            "Export it again, or take it out.",
        )
    frame, unwatched = _of_agents(frame, by_agent)
    by_metrics = not by_agent.any()
    known = frame["requests"].notna()
    # of metrics: that nothing was asked in a few rows says little of the others
    watched = bool(known.any()) and not (by_metrics and known.mean() < _MOSTLY and not frame["requests"].sum())
    if not watched:
        frame[list(_COUNTED)] = 0.0
    heavy = stored.read("profiles")
    if watched and not by_metrics and not heavy.num_rows:
        repairs["containers_without_profiles"] += 1
    try:
        periods = periods_of(heavy)
        everything = evidence_of(periods, np.arange(heavy.num_rows))
        busiest = evidence_of(periods, np.flatnonzero(periods.busiest))
        bursts = bursts_of(heavy.column("burst_bins"))
        latency = latency_steps(*periods.latency_entries)
        routes = _routes(stored.read("routes"))
        regimes = _regimes(periods, frame)
    except UnknownLayout as error:
        where = stored.groups.get("profiles", stored.groups["usage"])[0].path
        raise StoreError(
            f"{where} holds a profile of {container.name} that this headroom cannot read ({error}).",
            "Read it with the headroom that wrote it, or export it again.",
        ) from error
    busiest_windows = int(periods.rows[periods.busiest].sum())
    return History(
        container,
        frame,
        everything,
        busiest,
        busiest_windows,
        bursts,
        routes,
        regimes,
        watched=watched,
        unwatched=unwatched,
        by_metrics=watched and by_metrics,
        latency=latency,
    )


def recording_of(
    rows: Iterable[Mapping[str, Any]], histories: tuple[History, ...], repairs: Mapping[str, int]
) -> Recording:
    """What was recorded, over all exports; time that several nodes recorded counts once."""
    known = list(rows)
    lost: Counter[str] = Counter()
    for row in known:
        lost.update(json.loads(row["lost"]))
    lost.update({f"stored_{name}": count for name, count in repairs.items() if count})
    seconds, reached = 0.0, -math.inf
    for row in known:  # by start
        overlap = max(0.0, min(reached, row["end_unix_seconds"]) - row["start_unix_seconds"])
        seconds += max(0.0, row["seconds"] - overlap)
        reached = max(reached, row["end_unix_seconds"])
    return Recording(
        histories,
        sum(row["windows"] for row in known),
        min(row["start_unix_seconds"] for row in known),
        max(row["end_unix_seconds"] for row in known),
        seconds,
        sum(row["clock_steps"] for row in known),
        dict(sorted(lost.items())),
        merged_cost((row["seconds"], json.loads(row["agent"])) for row in known),
    )


# --- usage ---------------------------------------------------------------------


def _frame(table: pa.Table, of_prometheus: np.ndarray, repairs: Repairs) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows, and which of them an agent recorded with requests."""
    block = np.empty((len(_FRAME) + 1, table.num_rows))
    block[0] = table.column("unix_seconds").to_numpy()
    for name in USAGE_NUMBERS:
        column, values = table.column(name), block[_PLACE[name]]
        if column.null_count == table.num_rows:
            values.fill(np.nan)
            continue
        values[:] = column.to_numpy()
        if pa.types.is_floating(column.type) and not (values.min(initial=0.0) >= 0 and values.max(initial=0.0) <= MOST):
            wrong = ~((values >= 0) & (values <= MOST))  # NaN as well
            repairs["values_impossible"] += int(np.count_nonzero(wrong)) - column.null_count
            values[wrong] = np.nan
    block[-1] = of_prometheus | np.isnan(block[_PLACE["requests"]])
    instance = table.column("instance").unify_dictionaries().combine_chunks()
    if isinstance(instance, pa.ChunkedArray):
        instance = instance.chunk(0) if instance.num_chunks else pa.array([], pa.string()).dictionary_encode()
    names = np.array(instance.dictionary.to_pylist(), dtype=object)
    codes = instance.indices.to_numpy()
    sizes = [len(chunk) for chunk in table.column("unix_seconds").chunks]
    block, codes = _in_order(block, codes, names, np.cumsum(sizes)[:-1], repairs)
    block[-2] = block[_PLACE["requests"]] / block[_PLACE["duration_seconds"]]
    frame = pd.DataFrame(block[:-1].T, columns=_NAMES, copy=False)
    frame["instance"] = pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object), validate=False)
    return frame, block[-1] == 0


def _of_agents(frame: pd.DataFrame, by_agent: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The rows that an agent recorded requests in, and those of other times; all of them first where no agent did.

    A row of Prometheus' that overlaps one of the agent's says nothing new.
    """
    if by_agent.all() or not by_agent.any():
        return frame, None
    other = ~by_agent & ~_overlapping(frame, by_agent)
    watched, unwatched = frame[by_agent].reset_index(drop=True), frame[other].reset_index(drop=True)
    unwatched[[*_COUNTED, *_OF_ANSWERS]] = np.nan  # of metrics less is known than of profiles
    return watched, unwatched if len(unwatched) else None


def _overlapping(frame: pd.DataFrame, counted: np.ndarray) -> np.ndarray:
    """Which rows have one of the `counted` of their instance at the same time."""
    starts, seconds = (frame[name].to_numpy() for name in ("start_unix_seconds", "duration_seconds"))
    codes = frame["instance"].cat.codes.to_numpy()
    found = np.zeros(len(frame), dtype=bool)
    for code in np.unique(codes[counted]):
        own, rows = counted & (codes == code), np.flatnonzero(~counted & (codes == code))
        begins, ends = starts[own], np.maximum.accumulate(starts[own] + seconds[own])
        before = np.searchsorted(begins, starts[rows] + seconds[rows] - _SLACK_SECONDS)  # that began before its end
        found[rows] = (before > 0) & (ends[np.maximum(before - 1, 0)] > starts[rows] + _SLACK_SECONDS)
    return found


def _in_order(
    block: np.ndarray, codes: np.ndarray, names: np.ndarray, seams: np.ndarray, repairs: Repairs
) -> tuple[np.ndarray, np.ndarray]:
    """By time, instance and source; of rows of the same minute, instance and source the larger values.

    :param seams: where one file ends and the next begins: no disorder
    """
    there = block[_PLACE["duration_seconds"]] > 0
    if not there.all():
        repairs["rows_without_duration"] += int(np.count_nonzero(~there))
        block, codes, seams = block[:, there], codes[there], np.cumsum(there)[seams - 1] if len(seams) else seams
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(names)] = np.arange(len(names))
    source = 2 * rank[codes] + block[-1].astype(int)  # agent and Prometheus both begin at full minutes
    later, further = np.diff(block[0]), np.diff(source)
    wrong = (later < 0) | ((later == 0) & (further <= 0))
    if not wrong.any():
        return block, codes
    disorder = (later < 0) | ((later == 0) & (further < 0))
    inside = np.setdiff1d(np.flatnonzero(disorder) + 1, seams)
    repairs["rows_out_of_order"] += len(inside)
    order = np.lexsort((source, block[0]))
    block, codes, source = block[:, order], codes[order], source[order]
    first = np.flatnonzero((np.diff(block[0], prepend=-1.0) != 0) | (np.diff(source, prepend=-1) != 0))
    if len(first) < len(codes):
        repairs["rows_duplicated"] += len(codes) - len(first)
        block, codes = np.fmax.reduceat(block, first, axis=1), codes[first]
    return block, codes


def _regimes(of: Periods, frame: pd.DataFrame) -> tuple[Regime, ...]:
    """The stretches between one change of the CPU limit and the next; none when it never changed."""
    limits = np.where(np.isnan(of.limit_cores), np.inf, of.limit_cores)
    since, first, place = np.unique(of.limit_since, return_index=True, return_inverse=True)
    # exports that follow each other go on; infinite less infinite is no number
    changes = np.flatnonzero(np.concatenate([[True], limits[first][1:] != limits[first][:-1]]))
    if len(changes) < 2:
        return ()
    stretch = np.searchsorted(changes, place, side="right") - 1
    times = frame["start_unix_seconds"].to_numpy()
    edges = [*np.searchsorted(times, since[changes]), len(times)]
    counts = {name: np.nan_to_num(frame[name].to_numpy()) for name in ("periods", "throttled_periods")}
    return tuple(
        Regime(
            None if np.isinf(limits[first[change]]) else float(limits[first[change]]),
            float(since[change]),
            evidence_of(of, np.flatnonzero(stretch == number)),
            *(float(values[edges[number] : edges[number + 1]].sum()) for values in counts.values()),
        )
        for number, change in enumerate(changes)
    )


def _routes(table: pa.Table) -> tuple[Route, ...]:
    merged: dict[tuple[str, str, str, int, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        of = (row["role"], row["method"], row["route"], row["status"], row["outcome"], row["protocol"])
        merged[of].append(row)
    return tuple(
        Route(
            *key[:4],
            Histogram.merged(LATENCY, (Histogram.from_bytes(row["latency"]) for row in rows)),
            math.fsum(row["latency_seconds_sum"] for row in rows),
            key[4],
            math.fsum(row["transfer_seconds_sum"] for row in rows),
            key[5],
        )
        for key, rows in sorted(merged.items())
    )
