"""A recording from wherever it is kept: an SQLite file or a folder of Parquet files."""

from __future__ import annotations

from pathlib import Path

from profiles.errors import UsageError
from recommender.history import Recording
from recommender.inputs.store import read_store


def read_recording(path: Path, last_seconds: float | None = None) -> Recording:
    """Everything in the store at `path`, in memory, or the last so many seconds of it.

    :raises profiles.errors.StoreError: when it cannot be read
    :raises profiles.errors.UsageError: when a folder is asked for a part of its time
    """
    if not path.is_dir():
        return read_store(path, last_seconds)
    if last_seconds is not None:
        raise UsageError(
            f"The routes in {path} are added up over all of its time.", "Leave --last out, or ask the store of a node."
        )
    from recommender.inputs.parquet import read_folder  # noqa: PLC0415 - pyarrow is loaded only where it is needed

    return read_folder(path)
