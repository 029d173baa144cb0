"""A Parquet store of any size -> recommendations: container by container, on two cores.

Each worker reads and sizes a chunk of containers and sends back what is kept of them; a chunk's
frames are gone before the next one is read. The order is that of the names, whoever was first.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from headroom.keep import Keep
from policies.schema import Policy
from profiles.errors import HeadroomError, StoreError
from profiles.parquet import ParquetReader, Stored
from recommender.admission import admitted
from recommender.curve import HeadroomCurve
from recommender.history import Container, Recording
from recommender.inputs.inventory_file import read_inventories
from recommender.inputs.parquet import Repairs, read_history, recording_of
from recommender.inventory import Declared, Inventory
from recommender.recommend import recommend_under, without_usage
from recommender.recommendation import Recommendation

#: Each holds the libraries and one container: 150 to 250 MB.
_WORKERS = 2
_CHUNK = 16
_SMALL_BYTES = 2**26  # of usage: some 150 containers of two weeks by the minute. Two workers take two seconds to start


@dataclass(frozen=True, slots=True)
class _Sized:
    """What a worker sends back; a sentence where it failed."""

    rows: list[Recommendation]
    repairs: Repairs
    failed: tuple[str, str] | None = None


def size_folder(
    folder: Path, policies: Sequence[Policy], *, only: str | None = None, keep: Keep = Keep.EVERYTHING
) -> tuple[Recording, list[Recommendation]]:
    """The recording in `folder` and a recommendation per container, by name.

    :param only: read the containers of that name or workload alone, if there are any
    :raises profiles.errors.HeadroomError: when the store cannot be read
    """
    # whole frames are not worth sending from process to process
    with _workers(folder, alone=keep is Keep.EVERYTHING or only is not None) as each:
        reader = ParquetReader(folder, each)
        containers = reader.containers
        inventories = read_inventories(folder)
        if only is not None:
            containers = _asked_for(containers, only, inventories) or containers
        declared = {container: each for own in inventories for container, each in own.by_container.items()}
        rows: list[Recommendation] = []
        repairs = Repairs()
        for sized in each(partial(_size, policies=policies, keep=keep), _chunks(containers, declared)):
            if sized.failed:
                raise StoreError(*sized.failed)
            rows += sized.rows
            repairs += sized.repairs
    recorded = {row.container for row in rows}
    if only is None:
        rows += [without_usage(each, policies) for each in declared.values() if each.container not in recorded]
        rows.sort(key=lambda row: row.container)
    for inventory in inventories:
        rows = admitted(rows, inventory)
    if only is not None:
        rows = [row for row in rows if row.container.is_called(only)] or rows
    histories = tuple(row.history for row in rows) if keep is Keep.EVERYTHING else ()
    return recording_of(reader.recordings(), histories, repairs), rows


@contextmanager
def _workers(folder: Path, *, alone: bool) -> Iterator[Callable[..., Iterable[Any]]]:
    """A ``map``: over two processes where the store is large enough to be worth their start."""
    if alone or sum(file.stat().st_size for file in folder.glob("usage/*.parquet")) < _SMALL_BYTES:
        yield map
        return
    with _quiet_libraries(), ProcessPoolExecutor(_WORKERS, multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool.map
        except BrokenProcessPool as error:
            raise HeadroomError(
                "A worker process was killed before its containers were sized.",
                "Look for the kernel's OOM killer in dmesg; each of the two needs about 250 MB.",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _asked_for(containers: Sequence[Stored], only: str, inventories: Sequence[Inventory]) -> tuple[Stored, ...]:
    """Those that are meant, and where a quota is shared, with whom they share it."""
    meant = [each for each in containers if Container(*each.key).is_called(only)]
    shared = {(own.cluster, quota.namespace) for own in inventories for quota in own.quotas}
    together = {each.key[:2] for each in meant} & shared
    return tuple(each for each in containers if each in meant or each.key[:2] in together)


_Chunk = Sequence[tuple[Stored, Declared | None]]


def _chunks(containers: Sequence[Stored], declared: Mapping[Container, Declared]) -> list[_Chunk]:
    together = [(stored, declared.get(Container(*stored.key))) for stored in containers]
    return [together[at : at + _CHUNK] for at in range(0, len(together), _CHUNK)]


def _size(chunk: _Chunk, policies: Sequence[Policy], keep: Keep) -> _Sized:
    rows, repairs = [], Repairs()
    try:
        for stored, declared in chunk:
            history = read_history(stored, repairs)
            rows.append(_kept(recommend_under(history, policies, declared), keep))
    except HeadroomError as error:  # does not survive pickling with its next step
        return _Sized([], repairs, (error.sentence, error.next_step))
    return _Sized(rows, repairs)


def _kept(row: Recommendation, keep: Keep) -> Recommendation:
    if keep is Keep.EVERYTHING:
        return row
    row = replace(row, history=row.history.without_rows(drawn=keep is Keep.DRAWN))
    if keep in (Keep.DRAWN, Keep.FIGURES):
        return row
    target = row.target
    return replace(
        row,
        curve=_around(row.curve, target.cpu_request_cores),
        busiest_curve=_around(row.busiest_curve, target.cpu_limit_cores),
    )


def _around(curve: HeadroomCurve | None, cores: float | None) -> HeadroomCurve | None:
    """The points to both sides of `cores`: all that is needed to read the curve there."""
    if curve is None or not curve.points:
        return curve
    limits = [point.limit_cores for point in curve.points]
    at = int(np.searchsorted(limits, cores or 0.0, side="right"))
    return replace(curve, points=curve.points[max(0, at - 1) : at + 1])


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Threads of libraries only get into the way of two workers on two cores, and pools of memory keep it."""
    wanted = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    wanted["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
