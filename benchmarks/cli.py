"""How long a command takes, as a whole process: median of several runs."""

from __future__ import annotations

import gzip
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import headroom.demo

RUNS = 7


def measure() -> dict[str, float]:
    packed = Path(headroom.demo.__file__).parent / "recording.db.gz"
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "profiles.db"
        with gzip.open(packed) as source, store.open("wb") as target:
            shutil.copyfileobj(source, target)
        return {
            "help_seconds": _median("--help"),
            "recommend_seconds": _median("recommend", "--store", str(store)),
        }


def _median(*arguments: str) -> float:
    command = [str(Path(sys.executable).parent / "headroom"), *arguments]
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
