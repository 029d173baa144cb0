"""Usage of one namespace's containers out of Prometheus, as cAdvisor tells it: rows of five minutes.

CPU     the raw counter, each sample once; its differences are taken here, since a rate on the server
        over windows of at least four scrapes would hide what happens in one of them. Of a row: the mean,
        and the highest of its readings. Scraped every 15 s or more often, rates over a minute are as good.
memory  the highest working set of each row
rest    (where there is any) the anonymous part, and the periods of the CPU limit: as of the row's end

Series of the same pod and container (two jobs, two replicas of Prometheus, a restarted container)
are merged by their maximum: adding them would count twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recommender.inputs.answers import Samples
from recommender.inputs.prometheus import Prometheus

ROW_SECONDS = 300
#: Points of one series in one answer; servers refuse 11,000.
MOST_POINTS = 10_000
CPU, MEMORY = "container_cpu_usage_seconds_total", "container_memory_working_set_bytes"
ANONYMOUS, PERIODS = "container_memory_rss", "container_cpu_cfs_periods_total"
THROTTLED = "container_cpu_cfs_throttled_periods_total"
OPTIONAL = (ANONYMOUS, PERIODS, THROTTLED)
_CONTAINERS = 'container!="",container!="POD"'
_GAP = 5.0  # scrapes missed in a row: what happened meanwhile is not known
_LEAST_WINDOW = 4  # scrapes in the window of a rate


@dataclass(frozen=True, slots=True)
class Source:
    """What a server has.

    :ivar scrape_seconds: between two samples of a series
    :ivar series: CPU series of containers, by namespace
    :ivar optional: those of :data:`OPTIONAL` that are there
    """

    scrape_seconds: float
    series: dict[str, int]
    optional: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """Rows of one namespace: s series of a pod and container, r rows; NaN where it is not known.

    :ivar keys: (s,) pod and container
    :ivar cpu_cores, cpu_peak_cores: (s, r) mean of the row, and its highest reading
    :ivar memory_bytes: (s, r) highest working set
    :ivar optional: (s, r) by metric
    """

    keys: tuple[tuple[str, str], ...]
    start: int
    cpu_cores: np.ndarray
    cpu_peak_cores: np.ndarray
    memory_bytes: np.ndarray
    optional: dict[str, np.ndarray]


def look(prometheus: Prometheus, start: int, end: int, namespaces: Sequence[str] = ()) -> Source:
    """What can be asked for between two times; no series where there is no cAdvisor.

    :param namespaces: these alone; all when empty

    :raises recommender.inputs.prometheus.PrometheusError: when the server does not answer
    """
    step = max(3600, (end - start) // 24)
    counts = prometheus.over(f"count by (namespace) ({_select(CPU)})", start, end, step)
    counts += prometheus.at(f"count by (namespace) ({_select(CPU)})", end)
    series: dict[str, int] = {}
    for each in counts:
        name = each.labels.get("namespace", "")
        if namespaces and name not in namespaces:
            continue
        series[name] = max(series.get(name, 0), int(each.values.max(initial=0)))
    if not series:
        return Source(60.0, {}, ())
    there = [each for each in OPTIONAL if prometheus.at(f"count({_select(each)})", end)]
    return Source(_scrape_seconds(prometheus, end), dict(sorted(series.items())), tuple(there))


def read_usage(prometheus: Prometheus, source: Source, namespace: str, start: int, end: int, samples: int) -> Usage:
    """The rows between two times, both on the grid of rows.

    :param samples: about how many may come in one answer
    :raises recommender.inputs.prometheus.PrometheusError: when the server does not answer
    """
    rows, series = (end - start) // ROW_SECONDS, max(1, source.series.get(namespace, 1))
    grid = _Grid(start, rows)
    of = f'namespace="{namespace}"'
    is_often = _LEAST_WINDOW * source.scrape_seconds <= 60
    every = 60.0 if is_often else source.scrape_seconds
    for begin, until in _parts(start, end, min(MOST_POINTS, max(1, samples // series)) * every):
        if is_often:
            found = prometheus.over(f"rate({_select(CPU, of)}[1m])", begin + 60, until, 60)
            grid.add_rates(found)
        else:
            reach = round(until - begin + 2 * source.scrape_seconds)
            grid.add_counters(prometheus.at(f"{_select(CPU, of)}[{reach}s]", until), begin, source.scrape_seconds)
    points = min(MOST_POINTS, max(1, samples // series)) * ROW_SECONDS
    for begin, until in _parts(start, end, points):
        query = f"max_over_time({_select(MEMORY, of)}[{ROW_SECONDS}s])"
        grid.add(MEMORY, prometheus.over(query, begin + ROW_SECONDS, until, ROW_SECONDS))
        for metric in source.optional:
            grid.add(metric, prometheus.over(_select(metric, of), begin + ROW_SECONDS, until, ROW_SECONDS))
    return grid.usage()


def _select(metric: str, *more: str) -> str:
    return f"{metric}{{{','.join((*more, _CONTAINERS))}}}"


def _parts(start: int, end: int, seconds: float) -> Iterator[tuple[int, int]]:
    """Whole rows, as many as go into `seconds`."""
    step = max(1, int(seconds) // ROW_SECONDS) * ROW_SECONDS
    for begin in range(start, end, step):
        yield begin, min(end, begin + step)


def _scrape_seconds(prometheus: Prometheus, end: int) -> float:
    """The usual distance between the samples of a few series."""
    distances: list[np.ndarray] = []
    for each in prometheus.at(f"topk(5, {_select(CPU)})", end):
        exact = ",".join(f'{name}="{each.labels[name]}"' for name in ("namespace", "pod", "container"))
        distances += [np.diff(raw.unix_seconds) for raw in prometheus.at(f"{CPU}{{{exact}}}[1h]", end)]
    known = np.concatenate([*distances, np.array([])])
    return float(np.median(known)) if len(known) else 60.0


class _Grid:
    """Rows of a namespace while its answers come in."""

    def __init__(self, start: int, rows: int) -> None:
        self._start, self._rows = start, rows
        self._place: dict[tuple[str, str], int] = {}
        self._columns: dict[str, list[np.ndarray]] = {}

    def add(self, column: str, found: Iterable[Samples]) -> None:
        """Values as of the ends of rows."""
        for each in found:
            rows = np.round(each.unix_seconds - self._start).astype(int) // ROW_SECONDS - 1
            inside = (rows >= 0) & (rows < self._rows)
            self._merge(column, each, rows[inside], each.values[inside])

    def add_rates(self, found: Iterable[Samples]) -> None:
        """Rates over the minute before each point."""
        for each in found:
            self._add_readings(each, each.unix_seconds, each.values, np.full(len(each.values), 60.0))

    def add_counters(self, found: Iterable[Samples], begin: int, scrape_seconds: float) -> None:
        """Raw counters; their differences that end after `begin`."""
        for each in found:
            times, values = each.unix_seconds, each.values
            seconds, used = np.diff(times), np.diff(values)
            used = np.where(used < 0, values[1:], used)  # it began again from zero
            known = (times[1:] > begin) & (seconds > 0) & (seconds <= _GAP * scrape_seconds)
            with np.errstate(divide="ignore", invalid="ignore"):
                self._add_readings(each, times[1:][known], (used / seconds)[known], seconds[known])

    def usage(self) -> Usage:
        """All rows."""
        unknown = np.full(self._rows, np.nan)
        columns = {
            name: np.array([each if len(each) else unknown for each in self._padded(rows)]).reshape(-1, self._rows)
            for name, rows in self._columns.items()
        }
        nothing = np.full((len(self._place), self._rows), np.nan)
        return Usage(
            tuple(self._place),
            self._start,
            columns.pop("cpu", nothing),
            columns.pop("cpu_peak", nothing),
            columns.pop(MEMORY, nothing),
            columns,
        )

    def _add_readings(self, of: Samples, ends: np.ndarray, cores: np.ndarray, seconds: np.ndarray) -> None:
        rows = np.ceil((ends - self._start) / ROW_SECONDS).astype(int) - 1
        inside = (rows >= 0) & (rows < self._rows)
        rows, cores, seconds = rows[inside], cores[inside], seconds[inside]
        if not len(rows):
            return
        here, first = np.unique(rows, return_index=True)
        mean = np.add.reduceat(cores * seconds, first) / np.add.reduceat(seconds, first)
        self._merge("cpu", of, here, mean)
        self._merge("cpu_peak", of, here, np.maximum.reduceat(cores, first))

    def _merge(self, column: str, of: Samples, rows: np.ndarray, values: np.ndarray) -> None:
        key = of.labels.get("pod", ""), of.labels.get("container", "")
        place = self._place.setdefault(key, len(self._place))
        kept = self._columns.setdefault(column, [])
        while len(kept) <= place:
            kept.append(np.empty(0))
        if not len(kept[place]):
            kept[place] = np.full(self._rows, np.nan)
        kept[place][rows] = np.fmax(kept[place][rows], values)

    def _padded(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [*rows, *(np.empty(0) for _ in range(len(self._place) - len(rows)))]
