"""The file format of what was recorded: a line of JSON per segment, gzip, appended cycle by cycle."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Segment:
    """Ten seconds or less of one server under one limit, or under none.

    :ivar limit_cores: the real CFS quota in force; None for the baseline
    :ivar start_ns: when the first bin begins, by the monotonic clock; requests count from `load_ns`
    :ivar latencies_us: per request in the order they were due, -1 for a failed one; zlib, base64
    :ivar bins_us: on-CPU time per 10 ms; zlib, base64
    :ivar bank, latency: the agent's own limit bank and server-side latency histogram of the baseline
    :ivar other_cpu_seconds: what everything else on the machine used meanwhile
    """

    cycle: int
    position: int
    limit_cores: float | None
    seed: int
    rate: float
    seconds: float
    start_ns: int
    load_ns: int
    cpu_seconds: float
    requests: int
    failed: int
    periods: int | None
    throttled_periods: int | None
    throttled_seconds: float | None
    other_cpu_seconds: float
    steal_seconds: float
    latencies_us: str
    bins_us: str | None = None
    bank: str | None = None
    latency: str | None = None


def packed(values: np.ndarray) -> str:
    """Integers as text."""
    return base64.b64encode(zlib.compress(values.astype("<i4").tobytes(), 9)).decode()


def unpacked(text: str) -> np.ndarray:
    """The inverse of :func:`packed`."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<i4")


def path_of(server: str, shape: str) -> Path:
    return DATA / f"{server}-{shape}.jsonl.gz"


def append(path: Path, segments: Iterable[Segment]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(asdict(segment), separators=(",", ":")) + "\n" for segment in segments)
    with path.open("ab") as file:
        file.write(gzip.compress(text.encode(), 9))


def read(path: Path) -> Iterator[Segment]:
    if not path.exists():
        return
    with gzip.open(path, "rt") as file:
        for line in file:
            yield Segment(**json.loads(line))
