"""Usage of one namespace's containers out of Prometheus, as cAdvisor tells it: rows of five minutes.

CPU     the raw counter, each sample once; its differences are taken here, since a rate on the server
        over windows of at least four scrapes would hide what happens in one of them. Of a row: the mean,
        and the highest of its readings. Scraped every 15 s or more often, rates over a minute are as good.
memory  the highest working set of each row
traffic (where agents tell their metrics) what was answered, failed and not answered in each row, P50 and P95
rest    (where there is any) the anonymous part, and the periods of the CPU limit: as of the row's end

Series of the same pod and container (two jobs, two replicas of Prometheus, a restarted container)
are merged by their maximum: adding them would count twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from profiles.errors import UsageError
from recommender.inputs.answers import Samples
from recommender.inputs.prometheus import Prometheus

ROW_SECONDS = 300
#: Points of one series in one answer; servers refuse 11,000.
MOST_POINTS = 10_000
CPU, MEMORY = "container_cpu_usage_seconds_total", "container_memory_working_set_bytes"
ANONYMOUS, PERIODS = "container_memory_rss", "container_cpu_cfs_periods_total"
THROTTLED = "container_cpu_cfs_throttled_periods_total"
OPTIONAL = (ANONYMOUS, PERIODS, THROTTLED)
_CONTAINERS = ('container!=""', 'container!="POD"')
_GAP = 5.0  # scrapes missed in a row: what happened meanwhile is not known
_LEAST_WINDOW = 4  # scrapes in the window of a rate
#: Of the agents (collector/served.py): answers, the server's errors among them, and requests without an answer.
REQUESTS = "headroom_server_latency_seconds_count"
ERRORS, UNANSWERED = "headroom_server_errors_total", "headroom_server_unanswered_total"
#: Since when an agent counts an instance's requests.
SINCE = "headroom_server_since_timestamp_seconds"
#: P50 and P95 of the last full five minutes.
LATENCY = "headroom_server_latency_seconds"
QUANTILES = {"0.5": "p50_seconds", "0.95": "p95_seconds"}
_COUNTERS = (PERIODS, THROTTLED, REQUESTS, ERRORS, UNANSWERED)
_TRAFFIC = (REQUESTS, ERRORS, UNANSWERED, *QUANTILES.values(), SINCE)
_TOLD_UNTIL = 290  # seconds after their end those of a row are told, and those of the next are not yet
_OF_USAGE, _OF_TRAFFIC = ("pod", "container"), ("service_instance_id", "k8s_container_name")
_USUAL_SCRAPE = 60.0
_SCRAPES = (5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_LATELY = 1200
_FEW = 0.01  # of the rows
_NAMESPACE = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Source:
    """What a server has.

    :ivar series: CPU series of containers, by namespace
    :ivar scrape_seconds: between two samples of most series, by namespace
    :ivar optional: those of :data:`OPTIONAL` that are there
    :ivar agents: namespaces of which agents tell requests
    """

    series: dict[str, int]
    scrape_seconds: dict[str, float]
    optional: tuple[str, ...]
    agents: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """Rows of one namespace: s series of a pod and container, r rows; NaN where it is not known.

    :ivar keys: (s,) pod and container
    :ivar cpu_cores, cpu_peak_cores: (s, r) mean of the row, and its highest reading
    :ivar memory_bytes: (s, r) highest working set
    :ivar optional: (s, r) by metric, and by name of the quantile
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
    :raises UsageError: when it has several clusters, and none was chosen
    """
    # the names come from the index: a job of ten minutes would fall between the points of a query
    told = prometheus.label_values("namespace", _select(prometheus, CPU), start, end)
    wanted = [name for name in told if _NAMESPACE.fullmatch(name)]  # anything else is no namespace of Kubernetes
    series = dict.fromkeys(sorted(set(wanted).intersection(namespaces) if namespaces else wanted), 1)
    if not series:
        return Source({}, {}, ())
    clusters = [name for name in prometheus.label_values("cluster", _select(prometheus, CPU), start, end) if name]
    if len(clusters) > 1:
        raise UsageError(
            f"This server has {len(clusters)} clusters, whose pods may share names: {', '.join(sorted(clusters)[:5])}.",
            f"Say which: --match cluster={min(clusters)}, and --cluster with its name.",
        )
    step = max(3600, (end - start) // 24)
    for each in (
        *prometheus.over(f"count by (namespace) ({_select(prometheus, CPU)})", start, end, step),
        *prometheus.at(f"count by (namespace) ({_select(prometheus, CPU)})", end),
    ):
        name = each.labels.get("namespace", "")
        if name in series:
            series[name] = max(series[name], int(each.values.max(initial=0)))
    for name in series:  # of jobs there are many more over the time than at any moment
        pods = prometheus.label_values("pod", _select(prometheus, CPU, f'namespace="{name}"'), start, end)
        series[name] = max(series[name], len(pods))
    there = [each for each in OPTIONAL if prometheus.over(f"count({_select(prometheus, each)})", start, end, step)]
    agents = prometheus.label_values("k8s_namespace_name", prometheus.select(REQUESTS), start, end)
    return Source(series, _scrape_seconds(prometheus, series, end), tuple(there), frozenset(agents))


def read_usage(prometheus: Prometheus, source: Source, namespace: str, start: int, end: int, samples: int) -> Usage:
    """The rows between two times, both on the grid of rows.

    :param samples: about how many may come in one answer
    :raises recommender.inputs.prometheus.PrometheusError: when the server does not answer
    """
    rows, series = (end - start) // ROW_SECONDS, max(1, source.series.get(namespace, 1))
    most = min(MOST_POINTS, max(1, samples // series))
    grid, of = _Grid(start, rows), f'namespace="{namespace}"'
    every = source.scrape_seconds.get(namespace, _USUAL_SCRAPE)
    for begin, until in _parts(start, end, most * ROW_SECONDS):
        query = f"max_over_time({_select(prometheus, MEMORY, of)}[{ROW_SECONDS}s])"
        grid.add(MEMORY, prometheus.over(query, begin + ROW_SECONDS, until, ROW_SECONDS))
        for metric in source.optional:  # of a counter the value before the first row, too
            first = begin + ROW_SECONDS * (metric not in _COUNTERS)
            grid.add(metric, prometheus.over(_select(prometheus, metric, of), first, until, ROW_SECONDS))
        if namespace in source.agents:
            _add_traffic(grid, prometheus, namespace, begin, until)
    if _LEAST_WINDOW * every <= 60:
        for begin, until in _parts(start, end, most * 60.0):
            grid.add_rates(prometheus.over(f"rate({_select(prometheus, CPU, of)}[1m])", begin + 60, until, 60))
        if grid.without_cpu <= _FEW:  # else another job scrapes less often than most
            return grid.usage()
        every = _USUAL_SCRAPE
    for begin, until in _parts(start, end, most * every):
        reach = round(until - begin + _GAP * every)
        grid.add_counters(prometheus.at(f"{_select(prometheus, CPU, of)}[{reach}s]", until), begin, every)
    return grid.usage()


def _add_traffic(grid: _Grid, prometheus: Prometheus, namespace: str, begin: int, until: int) -> None:
    of = f'k8s_namespace_name="{namespace}"'
    for metric in (REQUESTS, ERRORS, UNANSWERED):
        grid.add(metric, prometheus.over(prometheus.select(metric, of), begin, until, ROW_SECONDS))
    grid.add(SINCE, prometheus.over(prometheus.select(SINCE, of), begin, until, ROW_SECONDS))
    for quantile, column in QUANTILES.items():
        told = prometheus.select(LATENCY, of, f'quantile="{quantile}"')
        first, last = begin + ROW_SECONDS + _TOLD_UNTIL, until + _TOLD_UNTIL
        grid.add(column, prometheus.over(told, first, last, ROW_SECONDS))


def _select(prometheus: Prometheus, metric: str, *more: str) -> str:
    if metric == CPU:
        more = (*more, 'cpu=~"|total"')  # the sum, not a processor's share
    return prometheus.select(metric, *more, *_CONTAINERS)


def _parts(start: int, end: int, seconds: float) -> Iterator[tuple[int, int]]:
    """Whole rows, as many as go into `seconds`."""
    step = max(1, int(seconds) // ROW_SECONDS) * ROW_SECONDS
    for begin in range(start, end, step):
        yield begin, min(end, begin + step)


def _scrape_seconds(prometheus: Prometheus, series: Iterable[str], end: int) -> dict[str, float]:
    """By namespace, from how many samples most of its series have had lately."""
    counts = prometheus.at(
        f"quantile by (namespace) (0.1, count_over_time({_select(prometheus, CPU)}[{_LATELY}s]))", end
    )
    found = {each.labels.get("namespace", ""): _LATELY / max(1.0, float(each.values[-1])) for each in counts}
    usual = min(found.values(), default=_USUAL_SCRAPE)
    # the ends of the window may hold one sample more or less
    return {name: min(_SCRAPES, key=lambda each: abs(np.log(each / found.get(name, usual)))) for name in series}


class _Grid:
    """Rows of a namespace while its answers come in."""

    def __init__(self, start: int, rows: int) -> None:
        self._start, self._rows = start, rows
        self._place: dict[tuple[str, str], int] = {}
        self._columns: dict[str, dict[int, np.ndarray]] = {}  # by column, then place

    def add(self, column: str, found: Iterable[Samples]) -> None:
        """Values as of the ends of rows; of a counter what it grew by within each."""
        for each in found:
            rows = np.round(each.unix_seconds - self._start).astype(int) // ROW_SECONDS - 1
            values = each.values
            if column == SINCE:  # that was not told at a row's beginning says nothing of the row
                follows = np.diff(rows, prepend=np.inf) == 1
                values = np.where(follows, np.diff(values, prepend=0.0), np.inf)
            elif column in _COUNTERS:
                grown = np.diff(values)
                follows = np.diff(rows) == 1
                values, rows = np.where(grown < 0, values[1:], grown)[follows], rows[1:][follows]
            inside = (rows >= 0) & (rows < self._rows)
            self._merge(column, each, rows[inside], values[inside])

    def add_rates(self, found: Iterable[Samples]) -> None:
        """Rates over the minute before each point."""
        for each in found:
            self._add_readings(each, each.unix_seconds, each.values, np.full(len(each.values), 60.0))

    def add_counters(self, found: Iterable[Samples], begin: int, scrape_seconds: float) -> None:
        """Raw counters; their differences that end after `begin`."""
        for each in found:
            times, values = each.unix_seconds, each.values
            seconds, used = np.diff(times), np.diff(values)
            # it began again from zero; two replicas that disagree step back by a little
            used = np.where(used < 0, np.where(values[1:] < values[:-1] / 2, values[1:], 0.0), used)
            known = (times[1:] > begin) & (seconds > 0) & (seconds <= _GAP * scrape_seconds)
            with np.errstate(divide="ignore", invalid="ignore"):
                self._add_readings(each, times[1:][known], (used / seconds)[known], seconds[known])

    @property
    def without_cpu(self) -> float:
        """Share of the rows with memory that have no CPU."""
        usage = self.usage()
        there = ~np.isnan(usage.memory_bytes)
        return float((np.isnan(usage.cpu_cores) & there).sum() / max(1, there.sum()))

    def usage(self) -> Usage:
        """All rows."""
        unknown = np.full(self._rows, np.nan)
        places = range(len(self._place))
        columns = {
            name: np.array([rows.get(place, unknown) for place in places]) for name, rows in self._columns.items()
        }
        _without_begun(columns)
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
        names = _OF_TRAFFIC if column in _TRAFFIC else _OF_USAGE
        key = of.labels.get(names[0], ""), of.labels.get(names[1], "")
        if not key[0]:  # a container of no pod
            return
        place = self._place.setdefault(key, len(self._place))
        kept = self._columns.setdefault(column, {}).setdefault(place, np.full(self._rows, np.nan))
        kept[rows] = np.fmax(kept[rows], values)


def _without_begun(columns: dict[str, np.ndarray]) -> None:
    """Of a row in which an agent began to count, or another took over, nothing of traffic is known; nor parts of it.

    SINCE is how much later it is at the row's end than at its beginning; infinite where one tells it at the end alone.
    """
    grown, requests = columns.pop(SINCE, None), columns.get(REQUESTS)
    known = grown == 0 if grown is not None and requests is not None else False
    if requests is not None:
        known = known & ~np.isnan(requests)
    for name in _TRAFFIC:
        if name in columns:
            columns[name] = np.where(known, columns[name], np.nan)
