"""Rows of table ``profiles`` in the making: what is heavy, added up over a period."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from profiles.columns import bursts_from_bytes, bursts_to_bytes
from profiles.histogram import LATENCY, Histogram
from profiles.limit_bank import LimitBank

_FOLD = 64  # of which the sum is kept: a bank is 20 kB as objects
#: Since when (unix seconds) a CPU limit is in force, and that limit in cores; infinite for none.
Stretch = tuple[int, float]


@dataclass(slots=True)
class PeriodRow:
    """One row.

    :ivar minutes: instance and begin of the rows of usage that it is made of
    :ivar more_rows: how many more those are
    """

    minutes: set[tuple[str, int]] = field(default_factory=set)
    more_rows: int = 0
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    latency: list[Histogram] = field(default_factory=list)
    banks: list[LimitBank] = field(default_factory=list)
    bursts: Counter[int] = field(default_factory=Counter)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row that was stored.

        :raises ValueError: when it does not decode
        """
        self.more_rows += row["rows"]
        self.seconds.append(row["seconds"])
        self.cpu_seconds.append(row["cpu_seconds"])
        self.add_latency(Histogram.from_bytes(row["latency"]))
        self.add_bank(LimitBank.from_bytes(row["limit_bank"]) if row["limit_bank"] is not None else None)
        self.bursts.update(bursts_from_bytes(row["burst_bins"]))

    def add_latency(self, latency: Histogram) -> None:
        """Add what was answered."""
        self.latency.append(latency)
        if len(self.latency) >= _FOLD:
            self.latency = [Histogram.merged(LATENCY, self.latency)]

    def add_bank(self, bank: LimitBank | None) -> None:
        """Add a limit bank, where there was one."""
        if bank is not None:
            self.banks.append(bank)
        if len(self.banks) >= _FOLD:  # with both kinds of weight the sum is of one, so kinds are summed apart
            weighed = [each for each in self.banks if each.by_request]
            others = [each for each in self.banks if not each.by_request]
            self.banks = [each for each in map(LimitBank.merged, (weighed, others)) if each is not None]

    def columns(self, start: int, busiest: bool, stretch: Stretch) -> dict[str, Any]:
        """As it is stored."""
        bank = LimitBank.merged(self.banks)
        return {
            "unix_seconds": start,
            "busiest": busiest,
            "cpu_limit_cores": None if math.isinf(stretch[1]) else stretch[1],
            "limit_since_unix_seconds": stretch[0],
            "rows": len(self.minutes) + self.more_rows,
            "seconds": math.fsum(self.seconds),
            "cpu_seconds": math.fsum(self.cpu_seconds),
            "latency": Histogram.merged(LATENCY, self.latency).to_bytes(),
            "limit_bank": bank.to_bytes() if bank else None,
            "burst_bins": bursts_to_bytes(self.bursts),
        }
