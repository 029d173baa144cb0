"""What each instance served, all routes together: a few series from which Prometheus tells requests and latency.

    windows --counts--> totals                             requests, errors, without an answer
            --latency--> five minutes --when they end--> P50 and P95, told until the next have ended

The histograms by route are many, and nothing below 5 ms can be told apart in them. Five minutes are by the wall clock
(12:05 to 12:10), so that they are the rows that a recommender makes of Prometheus' answers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from collector.exposition import Labels, head, line, metric, whose
from profiles.histogram import LATENCY, Histogram
from profiles.schema import Identity, TrafficRow, Window

LATENCY_SECONDS = "headroom_server_latency_seconds"
SINCE = "headroom_server_since_timestamp_seconds"
QUANTILES = (0.5, 0.95)
_LONGEST_WINDOW_SECONDS = 90.0  # a minute, and what it may be late
SLOT_SECONDS = 300
_COUNTS = {
    "errors": "Answers that are the server's fault: 5xx, or a failed call.",
    "unanswered": "Requests whose connection ended before an answer.",
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What is kept of a server's traffic row until its window is stored.

    :ivar latency: answers by bucket of the store's histogram
    """

    latency: Mapping[int, int]
    seconds: float
    errors: int
    unanswered: int

    @classmethod
    def of(cls, row: TrafficRow) -> Answers:
        """Of one row."""
        if not row.answered:
            return cls({}, 0.0, 0, row.requests)
        return cls(row.latency.counts, row.latency_seconds_sum, row.requests if row.server_error else 0, 0)


class Served:
    """Totals and latencies by instance.

    Windows much longer than a minute would put requests into rows that they are not of: then counting begins anew.
    """

    def __init__(self) -> None:
        self._totals: dict[Identity, Counter[str]] = {}
        self._seconds: dict[Identity, float] = {}
        self._since: dict[Identity, float] = {}
        self._latency: dict[Identity, Counter[int]] = defaultdict(Counter)
        self._told: dict[Identity, tuple[float, ...]] = {}
        self._slot: int | None = None
        self._seen_whole = False  # these five minutes, from their beginning
        self._window_start = 0.0
        self._is_long = False

    def begin(self, window: Window) -> None:
        """A window comes: in other five minutes than the one before, or after the end of those."""
        self._window_start = window.start_unix_seconds
        self._is_long = window.duration_seconds > _LONGEST_WINDOW_SECONDS
        if self._is_long:
            self.forget(list(self._totals))
            self._window_start += window.duration_seconds
        self._be_in(self._window_start)

    def end(self, window: Window) -> None:
        """It was counted: what it has ended is told."""
        self._be_in(window.start_unix_seconds + window.duration_seconds)

    def _be_in(self, unix_seconds: float) -> None:
        slot = int(unix_seconds // SLOT_SECONDS)
        if slot == self._slot:
            return
        follows = self._slot is not None and slot == self._slot + 1
        self._told = dict(self._quantiles()) if follows and self._seen_whole else {}
        self._latency.clear()
        self._slot, self._seen_whole = slot, follows

    def see(self, identity: Identity) -> None:
        """An instance that is watched; what asks it nothing is told, too."""
        if identity not in self._totals:
            self._totals[identity], self._seconds[identity] = Counter(requests=0, errors=0, unanswered=0), 0.0
            self._since[identity] = self._window_start

    def add(self, identity: Identity, answers: Answers) -> None:
        """Count what it served."""
        self.see(identity)
        if self._is_long:
            return
        count = sum(answers.latency.values())
        self._totals[identity].update(requests=count, errors=answers.errors, unanswered=answers.unanswered)
        self._seconds[identity] += answers.seconds
        if count:
            self._latency[identity].update(answers.latency)

    def forget(self, gone: Iterable[Identity]) -> None:
        """Drop who has ended."""
        for identity in gone:
            for known in (self._totals, self._seconds, self._since, self._latency, self._told):
                known.pop(identity, None)

    def text(self) -> Iterator[str]:
        """The exposition."""
        since: dict[Labels, float] = {whose(identity): start for identity, start in self._since.items()}
        yield metric(SINCE, "gauge", "Since when the instance's requests are counted.", since)
        if self._totals:
            what = "Latency of what was answered; the quantiles are of the last full five minutes (12:05 to 12:10)."
            yield head(LATENCY_SECONDS, "summary", what)
        for identity, totals in self._totals.items():
            labels = whose(identity)
            for quantile, seconds in zip(QUANTILES, self._told.get(identity, ()), strict=False):
                yield line(LATENCY_SECONDS, (*labels, ("quantile", f"{quantile:g}")), seconds)
            yield line(f"{LATENCY_SECONDS}_sum", labels, self._seconds[identity])
            yield line(f"{LATENCY_SECONDS}_count", labels, totals["requests"])
        for which, what in _COUNTS.items():
            told: dict[Labels, float] = {whose(identity): totals[which] for identity, totals in self._totals.items()}
            yield metric(f"headroom_server_{which}_total", "counter", what, told)

    def _quantiles(self) -> Iterator[tuple[Identity, tuple[float, ...]]]:
        for identity, counts in self._latency.items():
            latency = Histogram(LATENCY, counts)
            yield identity, tuple(latency.quantile_seconds(quantile) or 0.0 for quantile in QUANTILES)
