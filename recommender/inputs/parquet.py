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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from profiles.errors import StoreError
from profiles.histogram import DELAY, LATENCY, Histogram, UnknownLayout
from profiles.limit_bank import REQUEST_PARTS
from profiles.parquet import USAGE_NUMBERS, ParquetReader, Stored
from recommender.evidence import BLOCKS, Banks, Evidence, Regime
from recommender.history import Container, History, Recording, Route

#: What was wrong, and how often.
Repairs = Counter[str]

_MOST = 2.0**63
_FRAME = ("start_unix_seconds", *USAGE_NUMBERS, "requests_per_second")
_NAMES = pd.Index(_FRAME, dtype=object)  # looked up faster than names that Arrow holds
_PLACE = {name: place for place, name in enumerate(_FRAME)}
_LATENCY_HEAD, _LATENCY_ENTRY = b"\x01\x00", np.dtype([("bucket", "<u2"), ("count", "<u8")])
_BURST_ENTRY, _BURST_BUCKETS = np.dtype([("bucket", "<u2"), ("count", "<u4")]), 32
# as LimitBank.to_bytes writes it, which the tests hold it to
_BANK_VERSION = 3
_BANK_HEAD = np.dtype(
    [("version", "u1"), ("limits", "u1"), ("periods", "<u4"), ("work_us", "<u8"), ("requests", "<u8")]
)


@dataclass(frozen=True, slots=True)
class _Stack:
    """Stored limit banks, one above the other: k banks, L candidates, e entries in all.

    :ivar row: (k,) of the table
    :ivar limits: (L,)
    :ivar periods, throttled: (k, L)
    :ivar bank, histogram: (e,) which bank, and which of its 2 L histograms: first of work, then of requests
    :ivar buckets, counts: (e,)
    """

    row: np.ndarray
    head: np.ndarray
    limits: np.ndarray
    periods: np.ndarray
    throttled: np.ndarray
    bank: np.ndarray
    histogram: np.ndarray
    buckets: np.ndarray
    counts: np.ndarray


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
    frame = _frame(stored.read("usage"), repairs)
    if not len(frame):
        raise StoreError(
            f"{stored.groups['usage'][0].path} has no usable row of {container.name}.",
            "Export it again, or take it out.",
        )
    heavy = stored.read("profiles")
    if not heavy.num_rows:
        repairs["containers_without_profiles"] += 1
    try:
        periods = _periods(heavy)
        everything = _evidence(periods, np.arange(heavy.num_rows))
        busiest = _evidence(periods, np.flatnonzero(periods.busiest))
        bursts = _bursts(heavy.column("burst_bins"))
        routes = _routes(stored.read("routes"))
        regimes = _regimes(periods, frame)
    except UnknownLayout as error:
        where = stored.groups.get("profiles", stored.groups["usage"])[0].path
        raise StoreError(
            f"{where} holds a profile of {container.name} that this headroom cannot read ({error}).",
            "Read it with the headroom that wrote it, or export it again.",
        ) from error
    busiest_windows = int(periods.rows[periods.busiest].sum())
    return History(container, frame, everything, busiest, busiest_windows, bursts, routes, regimes)


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
    costs = [(row["seconds"], cost) for row in known if (cost := json.loads(row["agent"]))]
    agent = {}
    if costs:
        recorded = math.fsum(each for each, _ in costs)
        agent = {
            "cpu_cores": math.fsum(each * cost["cpu_cores"] for each, cost in costs) / recorded,
            "resident_bytes": max(cost["resident_bytes"] for _, cost in costs),
            "map_bytes": max(cost["map_bytes"] for _, cost in costs),
        }
    return Recording(
        histories,
        sum(row["windows"] for row in known),
        min(row["start_unix_seconds"] for row in known),
        seconds,
        sum(row["clock_steps"] for row in known),
        dict(sorted(lost.items())),
        agent,
    )


# --- usage ---------------------------------------------------------------------


def _frame(table: pa.Table, repairs: Repairs) -> pd.DataFrame:
    block = np.empty((len(_FRAME), table.num_rows))
    block[0] = table.column("unix_seconds").to_numpy()
    for name in USAGE_NUMBERS:
        column, values = table.column(name), block[_PLACE[name]]
        if column.null_count == table.num_rows:
            values.fill(np.nan)
            continue
        values[:] = column.to_numpy()
        if pa.types.is_floating(column.type) and not (
            values.min(initial=0.0) >= 0 and values.max(initial=0.0) <= _MOST
        ):
            wrong = ~((values >= 0) & (values <= _MOST))  # NaN as well
            repairs["values_impossible"] += int(np.count_nonzero(wrong)) - column.null_count
            values[wrong] = np.nan
    for name in ("requests", "errors"):
        values = block[_PLACE[name]]
        if table.column(name).null_count:
            values[np.isnan(values)] = 0.0
    instance = table.column("instance").unify_dictionaries().combine_chunks()
    if isinstance(instance, pa.ChunkedArray):
        instance = instance.chunk(0) if instance.num_chunks else pa.array([], pa.string()).dictionary_encode()
    names = np.array(instance.dictionary.to_pylist(), dtype=object)
    codes = instance.indices.to_numpy()
    sizes = [len(chunk) for chunk in table.column("unix_seconds").chunks]
    block, codes = _in_order(block, codes, names, np.cumsum(sizes)[:-1], repairs)
    block[-1] = block[_PLACE["requests"]] / block[_PLACE["duration_seconds"]]
    frame = pd.DataFrame(block.T, columns=_NAMES, copy=False)
    frame["instance"] = pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object), validate=False)
    return frame


def _in_order(
    block: np.ndarray, codes: np.ndarray, names: np.ndarray, seams: np.ndarray, repairs: Repairs
) -> tuple[np.ndarray, np.ndarray]:
    """By time, then instance; of rows of the same minute and instance the larger values.

    :param seams: where one file ends and the next begins: no disorder
    """
    there = block[_PLACE["duration_seconds"]] > 0
    if not there.all():
        repairs["rows_without_duration"] += int(np.count_nonzero(~there))
        block, codes, seams = block[:, there], codes[there], np.cumsum(there)[seams - 1] if len(seams) else seams
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(names)] = np.arange(len(names))
    later = np.diff(block[0])
    further = np.diff(rank[codes]) if len(names) > 1 else np.zeros(len(later))
    wrong = (later < 0) | ((later == 0) & (further <= 0))
    if not wrong.any():
        return block, codes
    disorder = (later < 0) | ((later == 0) & (further < 0))
    inside = np.setdiff1d(np.flatnonzero(disorder) + 1, seams)
    repairs["rows_out_of_order"] += len(inside)
    order = np.lexsort((rank[codes], block[0]))
    block, codes = block[:, order], codes[order]
    first = np.flatnonzero((np.diff(block[0], prepend=-1.0) != 0) | (np.diff(codes, prepend=-1) != 0))
    if len(first) < len(codes):
        repairs["rows_duplicated"] += len(codes) - len(first)
        block, codes = np.fmax.reduceat(block, first, axis=1), codes[first]
    return block, codes


# --- profiles -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Periods:
    """Table ``profiles`` in order of time, decoded; n rows."""

    unix_seconds: np.ndarray
    busiest: np.ndarray
    limit_cores: np.ndarray
    limit_since: np.ndarray
    rows: np.ndarray
    seconds: np.ndarray
    cpu_seconds: np.ndarray
    latency_row: np.ndarray
    latency: np.ndarray
    banks: _Stack | None


def _periods(table: pa.Table) -> _Periods:
    order = np.argsort(table.column("unix_seconds").to_numpy(), kind="stable")
    latency, banks = (table.column(name).to_pylist() for name in ("latency", "limit_bank"))
    decoded = _Periods(
        table.column("unix_seconds").to_numpy()[order],
        table.column("busiest").to_numpy().astype(bool)[order],
        table.column("cpu_limit_cores").to_numpy().astype(float)[order],
        table.column("limit_since_unix_seconds").to_numpy()[order],
        table.column("rows").to_numpy()[order],
        table.column("seconds").to_numpy()[order],
        table.column("cpu_seconds").to_numpy()[order],
        *_latency([latency[row] for row in order]),
        _stack([banks[row] for row in order]),
    )
    for name in ("rows", "seconds", "cpu_seconds"):
        values = getattr(decoded, name)
        if not ((values >= 0) & (values <= _MOST)).all():
            raise UnknownLayout(f"{name} is {values[~((values >= 0) & (values <= _MOST))][0]:g}")
    return decoded


def _evidence(of: _Periods, chosen: np.ndarray) -> Evidence:
    """Arrays over the chosen rows, in blocks of whole periods that follow each other."""
    periods, place = np.unique(of.unix_seconds[chosen], return_inverse=True)
    number = min(BLOCKS, max(1, len(periods)))
    begins = np.array([part[0] for part in np.array_split(np.arange(len(periods)), number) if len(part)], dtype=int)
    blocks = np.searchsorted(begins, place, side="right") - 1
    block_of_row = np.full(len(of.rows), -1)
    block_of_row[chosen] = blocks
    at = block_of_row[of.latency_row]
    cells = at * LATENCY.buckets + of.latency["bucket"]
    counts = of.latency["count"].astype(float)
    latency = np.bincount(cells[at >= 0], counts[at >= 0], number * LATENCY.buckets).astype(float)
    return Evidence(
        latency.reshape(number, LATENCY.buckets),
        _banks(of, block_of_row, number, float(latency.sum())),
        np.bincount(blocks, of.cpu_seconds[chosen], number),
        np.bincount(blocks, of.seconds[chosen], number),
    )


def _regimes(of: _Periods, frame: pd.DataFrame) -> tuple[Regime, ...]:
    """The stretches between one change of the CPU limit and the next; none when it never changed."""
    limits = np.where(np.isnan(of.limit_cores), np.inf, of.limit_cores)
    since, first, place = np.unique(of.limit_since, return_index=True, return_inverse=True)
    changes = np.flatnonzero(np.diff(limits[first], prepend=-1.0) != 0)  # exports that follow each other go on
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
            _evidence(of, np.flatnonzero(stretch == number)),
            *(float(values[edges[number] : edges[number + 1]].sum()) for values in counts.values()),
        )
        for number, change in enumerate(changes)
    )


def _banks(of: _Periods, block_of_row: np.ndarray, number: int, requests_seen: float) -> Banks | None:
    """The sum by block; weighted by requests where the banks saw at least half of them, as in Evidence.of."""
    stack = of.banks
    if stack is None:
        return None
    at = block_of_row[stack.row]
    there = at >= 0
    if not there.any():
        return None
    head = stack.head[there]
    by_request = float(head["requests"].sum(dtype=float)) >= max(1.0, 0.5 * requests_seen)
    limits = len(stack.limits)
    keep = (stack.histogram >= limits) == by_request
    if not there.all():
        keep &= there[stack.bank]
    cells = (at[stack.bank[keep]] * limits + stack.histogram[keep] % limits) * DELAY.buckets + stack.buckets[keep]
    delayed = np.bincount(cells, stack.counts[keep], number * limits * DELAY.buckets)
    periods, throttled = np.zeros((number, limits)), np.zeros((number, limits))
    np.add.at(periods, at[there], stack.periods[there])
    np.add.at(throttled, at[there], stack.throttled[there])
    weight = head["requests" if by_request else "work_us"].astype(float)
    return Banks(
        stack.limits,
        periods,
        throttled,
        np.bincount(at[there], weight, number),
        delayed.reshape(number, limits, DELAY.buckets) / (REQUEST_PARTS if by_request else 1),
        by_request,
    )


def _stack(blobs: list[bytes | None]) -> _Stack | None:
    row = np.array([index for index, blob in enumerate(blobs) if blob is not None], dtype=int)
    known = [blob for blob in blobs if blob is not None]
    if not known:
        return None
    size = _BANK_HEAD.itemsize
    for blob in known:
        if len(blob) < size or blob[0] != _BANK_VERSION:
            raise UnknownLayout(f"unknown limit bank version {blob[:1].hex() or '(empty)'}")
    limits = known[0][1]
    fixed = size + 18 * limits
    if any(len(blob) < fixed or blob[1] != limits for blob in known) or not limits:
        raise UnknownLayout("a limit bank that ends too early, or has other candidates than the first")
    columns = np.frombuffer(b"".join([blob[:fixed] for blob in known]), np.uint8).reshape(len(known), fixed)
    head = columns[:, :size].copy().view(_BANK_HEAD)[:, 0]
    cores = columns[:, size : size + 8 * limits].copy().view("<f8")
    throttled = columns[:, size + 8 * limits : size + 12 * limits].copy().view("<u4").astype(float)
    backlog = columns[:, size + 12 * limits : size + 16 * limits].copy().view("<u4").astype(float)
    sizes = columns[:, size + 16 * limits :]
    entries = sizes.sum(axis=1, dtype=int)
    if any(len(blob) != fixed + 9 * count for blob, count in zip(known, entries.tolist(), strict=True)):
        raise UnknownLayout("limit bank that ends too early")
    if (cores != cores[0]).any():
        raise UnknownLayout("limit banks with different candidates")
    pairs = list(zip(known, (fixed + entries).tolist(), strict=True))
    buckets = np.frombuffer(b"".join([blob[fixed:end] for blob, end in pairs]), np.uint8)
    counts = np.frombuffer(b"".join([blob[end:] for blob, end in pairs]), "<u8").astype(float)
    if not ((cores[0] > 0) & (cores[0] < 1e5)).all() or (
        len(buckets) and not 0 < buckets.min() <= buckets.max() < DELAY.buckets
    ):
        raise UnknownLayout("limit bank with a limit or a bucket that cannot be")
    bank = np.repeat(np.arange(len(known)), entries)
    histogram = np.repeat(np.tile(np.arange(2 * limits), len(known)), sizes.ravel())
    return _Stack(row, head, cores[0], head["periods"][:, None] + backlog, throttled, bank, histogram, buckets, counts)


def _latency(blobs: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The entries of all histograms, and the row that each belongs to."""
    size = _LATENCY_ENTRY.itemsize
    if any(blob[:2] != _LATENCY_HEAD or (len(blob) - 2) % size for blob in blobs):
        raise UnknownLayout("unknown latency histogram")
    entries = np.frombuffer(b"".join([blob[2:] for blob in blobs]), _LATENCY_ENTRY)
    if len(entries) and entries["bucket"].max() >= LATENCY.buckets:
        raise UnknownLayout("latency histogram with a bucket past its last")
    return np.repeat(np.arange(len(blobs)), [len(blob) // size for blob in blobs]), entries


def _bursts(column: pa.ChunkedArray) -> dict[int, int]:
    data = b"".join(column.to_pylist())
    if len(data) % _BURST_ENTRY.itemsize:
        raise UnknownLayout("burst bins that end too early")
    entries = np.frombuffer(data, _BURST_ENTRY)
    if len(entries) and entries["bucket"].max() >= _BURST_BUCKETS:
        raise UnknownLayout("burst bins with a bucket that does not exist")
    counts = np.bincount(entries["bucket"], entries["count"].astype(float))
    return {int(bucket): int(counts[bucket]) for bucket in np.flatnonzero(counts)}


def _routes(table: pa.Table) -> tuple[Route, ...]:
    merged: dict[tuple[str, str, str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        merged[row["role"], row["method"], row["route"], row["status"]].append(row)
    return tuple(
        Route(
            *key,
            Histogram.merged(LATENCY, (Histogram.from_bytes(row["latency"]) for row in rows)),
            math.fsum(row["latency_seconds_sum"] for row in rows),
        )
        for key, rows in sorted(merged.items())
    )
