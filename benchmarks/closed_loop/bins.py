"""Raw on-CPU time of one cgroup in 10 ms bins: see bins.bpf.c."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np

from bpf.layout import BIN_NS
from bpf.loader import BpfObject, load

_BINS = 2048


class RawBins:
    """Watches one group at a time."""

    def __init__(self) -> None:
        self._kernel: BpfObject = load("bins", folder=Path(__file__).parent)
        self._kernel.attach_tracepoint("charge_switch")
        self._kernel.attach_clock("charge_clock", BIN_NS)

    def start(self, cgroup_id: int) -> int:
        """Clear and watch `cgroup_id` from the next bin on; its start by the monotonic clock, in ns."""
        self._watch(0, 0)
        bins = self._kernel.map("bins")
        for index in range(_BINS):
            bins.put(struct.pack("<I", index), bytes(8))
        first = time.monotonic_ns() // BIN_NS + 1
        self._watch(cgroup_id, first)
        return first * BIN_NS

    def read(self, seconds: float) -> np.ndarray:
        """Microseconds of on-CPU time per bin since :meth:`start`."""
        bins = self._kernel.map("bins")
        values = [bins.get(struct.pack("<I", index)) for index in range(min(_BINS, round(seconds * 1e9 / BIN_NS)))]
        return np.array([struct.unpack("<Q", value or bytes(8))[0] // 1000 for value in values], dtype=np.uint32)

    def close(self) -> None:
        self._kernel.close()

    def _watch(self, cgroup_id: int, first: int) -> None:
        self._kernel.map("watched").put(bytes(4), struct.pack("<QQ", cgroup_id, first))
