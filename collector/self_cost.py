"""What observing costs: the agent measures itself, and stores that with every window."""

from __future__ import annotations

import os
import time
from pathlib import Path


class SelfCost:
    """CPU and memory of this process and of its kernel maps."""

    def __init__(self) -> None:
        self._stored_cpu_seconds = self._pending_cpu_seconds = time.process_time()

    def since_commit(self, map_bytes: int) -> dict[str, float]:
        """Cost since the last commit: ``cpu_seconds``, ``resident_bytes``, ``map_bytes``."""
        self._pending_cpu_seconds = time.process_time()
        return {
            "cpu_seconds": round(self._pending_cpu_seconds - self._stored_cpu_seconds, 6),
            "resident_bytes": resident_bytes(),
            "map_bytes": map_bytes,
        }

    def commit(self) -> None:
        """What was last read is stored."""
        self._stored_cpu_seconds = self._pending_cpu_seconds


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
