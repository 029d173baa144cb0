"""A node's store -> parts in a depot: what the depot lacks, in whole minutes and in pieces of at most a day."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from profiles.depot import Depot
from profiles.errors import UsageError, writing
from profiles.gather import OF_NODE
from profiles.parquet import ParquetWriter
from profiles.parts import Part, checked_name
from profiles.rollup import export_store
from profiles.schema import Window
from profiles.sqlite import StoreReader
from recommender.history import busiest_rows

_ROW, _PERIOD, _DAY = 60, 3600, 86_400
_SCRATCH, _LEFT_OVER_SECONDS = "headroom-push-", 86_400.0
_SMALL_STEP_SECONDS = 3600.0  # by which a clock may be set back; after a larger one time begins anew


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was left, and where."""

    parts: int
    containers: int
    depot: str


def push(
    store: Path, depot_name: str, node: str, cluster: str | None = None, keep_seconds: float | None = None
) -> Pushed:
    """Leave what the depot lacks of `store`, up to the last whole minute.

    :param cluster: by default that of the rows
    :param keep_seconds: parts that are older are deleted there
    :raises profiles.errors.HeadroomError: when the store cannot be read, or the depot not be used
    """
    depot = Depot.at(depot_name)
    _tidy()
    with StoreReader(store) as reader:
        origin, windows = reader.origin() or "0", dict(reader.windows())
        cluster = cluster or reader.cluster()
    if cluster is None:
        raise UsageError(f"{store} does not say of which cluster it is: it has no container.", "Give --cluster.")
    of = Part(OF_NODE, checked_name(cluster, "--cluster"), checked_name(node, "--node"), 0, 0, origin)
    # what lies there says what was left: a list beside it could say something else
    own = [each for each in depot.parts() if replace(each, start=0, end=0, window=0) == of]
    containers = parts = 0
    last = max(own, key=lambda each: each.window, default=of)
    for after, part in _pieces(windows, last):
        containers = max(containers, _leave(store, after, part, depot))
        parts += 1
    if keep_seconds is not None:
        depot.forget(time.time() - keep_seconds)
    return Pushed(parts, containers, depot.name)


def _tidy() -> None:
    """Remove what a push that was killed left behind."""
    for path in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - _LEFT_OVER_SECONDS:
                shutil.rmtree(path)


def _leave(store: Path, after: int, part: Part, depot: Depot) -> int:
    """Roll up and copy one part; returns its containers."""
    with writing(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix=_SCRATCH) as name:
        folder = Path(name)
        with StoreReader(store, after, part.window) as reader, ParquetWriter(folder, part.prefix) as writer:
            if not any(True for _ in reader.windows()):
                return 0  # the agent has deleted them meanwhile
            found, _ = export_store(reader, writer, _ROW, busiest_rows, _PERIOD, part.start, part.of)
        depot.put(part, folder)
    return found


def _pieces(windows: Mapping[int, Window], last: Part) -> Iterator[tuple[int, Part]]:
    """Parts of what came after `last`, each with the window before it."""
    after = last.window
    minutes = list(_minutes(windows, last))
    while minutes:
        start, run = minutes[0].start, 1
        while (
            run < len(minutes)
            and minutes[run].start // _DAY == start // _DAY
            and minutes[run].start > minutes[run - 1].start
        ):
            run += 1
        yield after, replace(last, start=start, end=minutes[run - 1].end, window=minutes[run - 1].window)
        after, minutes = minutes[run - 1].window, minutes[run:]


@dataclass(frozen=True, slots=True)
class _Minute:
    """Windows that begin in the same minute; `end` is that of the last one, in whole minutes."""

    start: int
    end: int
    window: int


def _minutes(windows: Mapping[int, Window], last: Part) -> Iterator[_Minute]:
    """Those that are whole, on a clock that is not set back by a little."""
    at, found = float(last.end), None
    for number, window in windows.items():
        if number <= last.window:
            continue
        if not 0 <= at - window.start_unix_seconds < _SMALL_STEP_SECONDS:
            at = window.start_unix_seconds
        minute = int(at) // _ROW * _ROW
        if found is not None and found.start != minute:
            yield found
        at += window.duration_seconds
        found = _Minute(minute, max(minute + _ROW, int(at) // _ROW * _ROW), number)
    if found is not None and at >= found.end:
        yield found
