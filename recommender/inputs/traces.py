"""Usage series from files: CSV, CSV.gz, or a profile store (SQLite or Parquet).

A CSV needs a column with times and one with values. Times are unix seconds (or milliseconds), or dates
as ISO 8601. Which columns those are is found by their names, or said by the caller; where it is not
clear the file is refused and its columns are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from profiles.errors import UsageError
from recommender.backtest.replay import Workload
from recommender.inputs.recording import read_recording
from recommender.series import Series

_MOST_NAMED = 20
_GO_TIME = r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) ([+-]\d{4}).*$"
_TIME_NAMES = ("ts", "time", "timestamp", "unix_seconds", "start_unix_seconds", "datetime", "date", "interval_start")
_VALUE_NAMES = {
    "cpu": ("value", "cpu_cores", "cpu", "cpuusage(m)", "cpu_usage_container_max", "usage"),
    "memory": (
        "value",
        "memory_working_set_bytes",
        "memory",
        "memoryusage(mi)",
        "memory_usage_container_max",
        "usage",
    ),
}
_STORE_COLUMNS = {"cpu": "cpu_cores", "memory": "memory_working_set_bytes"}
_SUFFIXES = (".csv", ".csv.gz", ".db")
_MILLISECONDS = 1e11  # as seconds: the year 5138


@dataclass(frozen=True, slots=True)
class Columns:
    """Names that the caller gave; None to find them."""

    time: str | None = None
    value: str | None = None


def read_workloads(path: Path, resource: str, columns: Columns = Columns()) -> list[Workload]:
    """Every workload of a file, or of every trace in a folder, by name.

    :raises profiles.errors.HeadroomError: when there is none, or a file cannot be read
    """
    files = _files(path)
    workloads = [workload for file in files for workload in _read(file, resource, columns)]
    if not any(len(pod.known) > 1 for each in workloads for pod in each.pods):
        raise UsageError(f"{path} has no usage in it.", "Give a trace with at least two samples.")
    return workloads


def _files(path: Path) -> list[Path]:
    if path.is_dir() and not (path / "usage").is_dir():  # which would be a Parquet store
        found = sorted(file for file in path.iterdir() if file.name.lower().endswith(_SUFFIXES))
        if not found:
            raise UsageError(f"There is no trace in {path}.", f"Traces end in {', '.join(_SUFFIXES)}.")
        return found
    if not path.exists():
        raise UsageError(f"There is no {path}.", "Give a trace, a folder of traces, or a store.")
    return [path]


def _read(path: Path, resource: str, columns: Columns) -> Iterable[Workload]:
    if path.name.endswith(".db") or path.is_dir():
        return _from_store(path, resource)
    try:
        frame = pd.read_csv(path, dtype=str, skipinitialspace=True)
    except (OSError, UnicodeDecodeError, EOFError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UsageError(
            f"{path} cannot be read as CSV: {str(error).strip().splitlines()[0]}.",
            "A trace has a time and a value column.",
        ) from error
    name = path.name.split(".")[0]
    time, value = _chosen(path, frame, resource, columns)
    return [Workload(name, (Series.of(name, _times(path, frame[time]), _values(path, frame[value])),))]


def _from_store(path: Path, resource: str) -> list[Workload]:
    column = _STORE_COLUMNS[resource]
    workloads = []
    for history in read_recording(path).histories:
        pods = tuple(
            Series.of(str(instance), rows["start_unix_seconds"].to_numpy(), rows[column].to_numpy())
            for instance, rows in history.frame.groupby("instance", sort=True)
        )
        workloads.append(Workload(history.container.name, pods))
    return workloads


def _chosen(path: Path, frame: pd.DataFrame, resource: str, columns: Columns) -> tuple[str, str]:
    time = _column(path, frame, columns.time, _TIME_NAMES, "time", "--time-column")
    rest = [name for name in frame.columns if name != time]
    if columns.value is None and len(rest) == 1:
        return time, str(rest[0])
    return time, _column(path, frame[rest], columns.value, _VALUE_NAMES[resource], "value", "--column")


def _column(path: Path, frame: pd.DataFrame, wanted: str | None, usual: Sequence[str], what: str, option: str) -> str:
    names = [str(name) for name in frame.columns]
    if wanted is not None:
        if wanted not in names:
            raise UsageError(f"{path} has no column {wanted!r}.", f"Its columns are: {_named(names)}.")
        return wanted
    lower = {name.strip().lower(): name for name in reversed(names)}
    for name in usual:
        if name in lower:
            return lower[name]
    raise UsageError(
        f"{path}: which column holds the {what} is not clear.", f"Say {option} with one of: {_named(names)}."
    )


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _times(path: Path, column: pd.Series[str]) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().all():
        plain = column.str.strip().str.replace(_GO_TIME, r"\1\2", regex=True)
        dates = pd.to_datetime(plain, errors="coerce", utc=True, format="mixed")
        numbers = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    elif numbers.max() > _MILLISECONDS:
        numbers = numbers / 1000
    if numbers.isna().any():
        row = int(np.flatnonzero(numbers.isna())[0])
        raise UsageError(
            f"{path}, line {row + 2}: {str(column.iloc[row])[:40]!r} is no time.", "Use unix seconds or ISO 8601 dates."
        )
    return numbers.to_numpy(dtype=float)


def _values(path: Path, column: pd.Series[str]) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    odd = numbers.isna() & column.notna() & ~column.str.strip().str.lower().isin({"", "nan", "null", "none", "-"})
    if odd.any():
        row = int(np.flatnonzero(odd)[0])
        raise UsageError(
            f"{path}, line {row + 2}: {str(column.iloc[row])[:40]!r} is no number.", "Missing values are empty or NaN."
        )
    return numbers.to_numpy(dtype=float)
