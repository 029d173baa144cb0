"""A recording from wherever it is kept: an SQLite file or a folder of Parquet files."""

from __future__ import annotations

from pathlib import Path

from recommender.history import Recording
from recommender.inputs.store import read_store


def read_recording(path: Path) -> Recording:
    """Everything in the store at `path`, in memory.

    :raises profiles.errors.StoreError: when it cannot be read
    """
    if not path.is_dir():
        return read_store(path)
    from recommender.inputs.parquet import read_folder  # noqa: PLC0415 - pyarrow is loaded only where it is needed

    return read_folder(path)
