"""Table ``profiles`` of a Parquet store: blobs into sums over blocks of time, without a Python object per blob.

rows  --decoded, column by column-->  Periods  --chosen, in blocks-->  Evidence
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from profiles.histogram import DELAY, LATENCY, UnknownLayout
from profiles.limit_bank import REQUEST_PARTS, VERSION
from recommender.evidence import BLOCKS, Banks, Evidence

MOST = 2.0**63  # above it nothing is a reading
_LATENCY_HEAD, _LATENCY_ENTRY = b"\x01\x00", np.dtype([("bucket", "<u2"), ("count", "<u8")])
_BURST_ENTRY, _BURST_BUCKETS = np.dtype([("bucket", "<u2"), ("count", "<u4")]), 32
#: The totals of a limit bank, as LimitBank.to_bytes writes them: the tests hold it to that.
BANK_HEAD = np.dtype(
    [
        ("version", "u1"),
        ("limits", "u1"),
        ("by_request", "u1"),
        ("periods", "<u4"),
        ("work_us", "<u8"),
        ("requests", "<u8"),
        ("busy_weight", "<u8"),
    ]
)


@dataclass(frozen=True, slots=True)
class _Stack:
    """Stored limit banks, one above the other: k banks, L candidates, e entries in all.

    :ivar row: (k,) of the table
    :ivar limits: (L,)
    :ivar periods, throttled: (k, L)
    :ivar bank, histogram: (e,) which bank, and which of its 2 L histograms: first of all, then of busy moments
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


@dataclass(frozen=True, slots=True)
class Periods:
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

    @property
    def latency_entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Start of the row, bucket and count of each entry of the latencies."""
        return self.unix_seconds[self.latency_row], self.latency["bucket"].astype(int), self.latency["count"]


def periods_of(table: pa.Table) -> Periods:
    """All rows of a container.

    :raises UnknownLayout: when another version of headroom wrote them, or they are damaged
    """
    order = np.argsort(table.column("unix_seconds").to_numpy(), kind="stable")
    latency, banks = (table.column(name).to_pylist() for name in ("latency", "limit_bank"))
    decoded = Periods(
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
        if not ((values >= 0) & (values <= MOST)).all():
            raise UnknownLayout(f"{name} is {values[~((values >= 0) & (values <= MOST))][0]:g}")
    return decoded


def evidence_of(of: Periods, chosen: np.ndarray) -> Evidence:
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
        _banks(of, block_of_row, number),
        np.bincount(blocks, of.cpu_seconds[chosen], number),
        np.bincount(blocks, of.seconds[chosen], number),
    )


def _banks(of: Periods, block_of_row: np.ndarray, number: int) -> Banks | None:
    """The sum by block; once one of them weighs requests only those that do have a weight, as in LimitBank.merged."""
    stack = of.banks
    if stack is None:
        return None
    at = block_of_row[stack.row]
    there = at >= 0
    if not there.any():
        return None
    requests = stack.head["requests"].astype(float)
    of_requests = stack.head["by_request"] > 0
    by_request = bool(of_requests[there].any())
    weighed = there & of_requests if by_request else there
    limits = len(stack.limits)
    keep = slice(None) if weighed.all() else weighed[stack.bank]
    bank, kind = stack.bank[keep], stack.histogram[keep]
    of_busy, limit = kind // limits, kind % limits
    cells = ((of_busy * number + at[bank]) * limits + limit) * DELAY.buckets + stack.buckets[keep]
    delayed = np.bincount(cells, stack.counts[keep], 2 * number * limits * DELAY.buckets)
    periods, throttled = np.zeros((number, limits)), np.zeros((number, limits))
    np.add.at(periods, at[there], stack.periods[there])
    np.add.at(throttled, at[there], stack.throttled[there])
    one = REQUEST_PARTS if by_request else 1
    work = requests if by_request else stack.head["work_us"].astype(float)
    busy = stack.head["busy_weight"].astype(float) / one
    every, of_busy_moments = delayed.reshape(2, number, limits, DELAY.buckets) / one
    return Banks(
        stack.limits,
        periods,
        throttled,
        np.bincount(at[weighed], work[weighed], number),
        np.bincount(at[weighed], busy[weighed], number),
        every,
        of_busy_moments,
        by_request,
    )


def _stack(blobs: list[bytes | None]) -> _Stack | None:
    row = np.array([index for index, blob in enumerate(blobs) if blob is not None], dtype=int)
    known = [blob for blob in blobs if blob is not None]
    if not known:
        return None
    size = BANK_HEAD.itemsize
    for blob in known:
        if len(blob) < size or blob[0] != VERSION:
            raise UnknownLayout(f"unknown limit bank version {blob[:1].hex() or '(empty)'}")
    limits = known[0][1]
    fixed = size + 18 * limits
    if any(len(blob) < fixed or blob[1] != limits for blob in known) or not limits:
        raise UnknownLayout("a limit bank that ends too early, or has other candidates than the first")
    columns = np.frombuffer(b"".join([blob[:fixed] for blob in known]), np.uint8).reshape(len(known), fixed)
    head = columns[:, :size].copy().view(BANK_HEAD)[:, 0]
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


def bursts_of(column: pa.ChunkedArray) -> dict[int, int]:
    """10 ms bins by sixteenths of one CPU, over all rows.

    :raises UnknownLayout: when they are damaged
    """
    data = b"".join(column.to_pylist())
    if len(data) % _BURST_ENTRY.itemsize:
        raise UnknownLayout("burst bins that end too early")
    entries = np.frombuffer(data, _BURST_ENTRY)
    if len(entries) and entries["bucket"].max() >= _BURST_BUCKETS:
        raise UnknownLayout("burst bins with a bucket that does not exist")
    counts = np.bincount(entries["bucket"], entries["count"].astype(float))
    return {int(bucket): int(counts[bucket]) for bucket in np.flatnonzero(counts)}
