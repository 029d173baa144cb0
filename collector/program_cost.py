"""How long our programs run in the kernel: half a second in a minute, since timing them costs 50 ns a run itself."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence

from bpf.loader import BpfObject, enable_run_statistics
from collector.traffic import RequestDelta

log = logging.getLogger("headroom.agent")

_EVERY_SECONDS, _SAMPLE_SECONDS = 60.0, 0.5


class ProgramCost:
    """Samples of all programs of some objects."""

    def __init__(self, of_requests: Sequence[BpfObject], others: Sequence[BpfObject]) -> None:
        self._of_requests, self._others = of_requests, others
        self._due = time.monotonic() + 1.0
        self._timing: tuple[int, float, tuple[int, int]] | None = None  # descriptor, since when, spent until then
        self._sampled: tuple[float, float] | None = None  # cores: of programs that look at requests, of the others

    def tick(self) -> None:
        """Begin a sample, or end it, when it is time."""
        now = time.monotonic()
        if self._timing is not None:
            if now - self._timing[1] >= _SAMPLE_SECONDS:
                self._end(now)
        elif now >= self._due:
            self._due = now + _EVERY_SECONDS
            try:
                self._timing = enable_run_statistics(), now, self._spent_ns()
            except OSError as error:
                log.warning("what the programs cost is not known: %s (CAP_SYS_ADMIN allows it)", error.strerror)
                self._due = float("inf")

    def since_commit(self, seconds: float, deltas: Sequence[RequestDelta]) -> dict[str, float]:
        """Sums of a window of that length with these requests; none when the programs were not timed in it."""
        if self._sampled is None:
            return {}
        of_requests, others = self._sampled
        counts = [(delta.role == "server", delta.latency.total, delta.sums.latency_seconds) for delta in deltas]
        return {
            "program_seconds": seconds * (of_requests + others),
            "request_program_seconds": seconds * of_requests,
            "requests": float(sum(requests for _, requests, _ in counts)),
            "served": float(sum(requests for is_server, requests, _ in counts if is_server)),
            "served_seconds": math.fsum(latency for is_server, _, latency in counts if is_server),
        }

    def commit(self) -> None:
        """What was last read is stored."""
        self._sampled = None

    def close(self) -> None:
        """Stop timing."""
        if self._timing is not None:
            os.close(self._timing[0])
            self._timing = None

    def _end(self, now: float) -> None:
        assert self._timing is not None
        _, since, before = self._timing
        spent = self._spent_ns()
        self.close()
        of_requests, others = ((b - a) * 1e-9 / (now - since) for a, b in zip(before, spent, strict=True))
        self._sampled = of_requests, others

    def _spent_ns(self) -> tuple[int, int]:
        of_requests, others = (
            sum(spent for each in objects for spent, _ in each.run_statistics().values())
            for objects in (self._of_requests, self._others)
        )
        return of_requests, others
