"""What a Prometheus and a cluster have to size by: each part is asked for, and what is missing has a next step."""

from __future__ import annotations

from collections.abc import Iterator

from profiles.check import Check
from profiles.depot import Depot
from profiles.errors import HeadroomError
from profiles.gather import OF_NODE
from recommender.inputs.access import Access
from recommender.inputs.cadvisor import CPU, MEMORY, OPTIONAL, look
from recommender.inputs.kube_state import read_kube_state
from recommender.inputs.prometheus import Prometheus

_DAY = 86_400
_SILENT_SECONDS = 3 * 3600.0
_AGENT = "headroom_build_info"
_CONTAINER = 'container!=""'


def examine_prometheus(prometheus: Prometheus, unix_seconds: float, days: float) -> Iterator[Check]:
    """Every check, in an order in which the first failure explains the later ones."""
    end, start = int(unix_seconds), int(unix_seconds - days * _DAY)
    try:
        prometheus.at("vector(1)", end)
        yield Check("prometheus", "ok", "it answers")
        source = look(prometheus, start, end)
        if not source.series:
            yield Check("usage", "failed", f"{CPU} is not there", "Scrape the kubelets' /metrics/cadvisor.")
            return
        every = ", ".join(f"{each:g} s" for each in sorted(set(source.scrape_seconds.values())))
        series = sum(source.series.values())
        yield Check("usage", "ok", f"{len(source.series)} namespaces, {series} containers, scraped every {every}")
        yield _memory(prometheus, end)
        yield _reach(prometheus, start, end, days)
        yield _twice(prometheus, end)
        yield _throttling(source.optional)
        yield _declared(prometheus, end)
        yield _agents(prometheus, end)
    except HeadroomError as error:
        yield Check("prometheus", "failed", error.sentence, error.next_step)


def examine_depot(name: str, cluster: str, unix_seconds: float) -> Iterator[Check]:
    """Whether nodes leave their profiles there, and which have stopped."""
    try:
        parts = [part for part in Depot.at(name).parts() if (part.source, part.cluster) == (OF_NODE, cluster)]
    except HeadroomError as error:
        yield Check("profiles", "failed", error.sentence, error.next_step)
        return
    newest: dict[str, int] = {}
    for part in parts:
        newest[part.of] = max(newest.get(part.of, 0), part.end)
    silent = sorted(node for node, end in newest.items() if end < unix_seconds - _SILENT_SECONDS)
    if not newest:
        yield Check("profiles", "missing", f"no node of {cluster} left any", "Run headroom push on the nodes.")
    elif silent:
        finding = f"{len(silent)} of {len(newest)} nodes left none for three hours: {', '.join(silent[:5])}"
        yield Check("profiles", "missing", finding, "Look at the log of their container profiles, if they still run.")
    else:
        yield Check("profiles", "ok", f"of {len(newest)} nodes, all in the last three hours")


def examine_cluster(access: Access) -> Iterator[Check]:
    """Whether the API server may be asked for what is declared."""
    from recommender.inputs.cluster import read_cluster  # noqa: PLC0415 - only where the API server is asked

    try:
        inventory = read_cluster(access, "cluster")
    except HeadroomError as error:
        yield Check("api server", "failed", error.sentence, error.next_step)
        return
    yield Check("api server", "ok", f"{len(inventory.containers)} containers declared, {len(inventory.owners)} pods")
    for each in inventory.missing:
        yield Check("api server", "missing", each, "Give it the role that deploy/ has: get and list.")


def _memory(prometheus: Prometheus, end: int) -> Check:
    if prometheus.at(f"count({prometheus.select(MEMORY, _CONTAINER)})", end):
        return Check("memory", "ok", "working sets are there")
    return Check("memory", "missing", f"{MEMORY} is not there: memory gets no size", "Do not drop it when scraping.")


def _reach(prometheus: Prometheus, start: int, end: int, days: float) -> Check:
    """How far back there is usage; asked for at one moment a day."""
    query = f"count({prometheus.select(CPU, _CONTAINER)})"
    found = prometheus.over(query, start, end, max(3600, (end - start) // 28))
    first = min((float(each.unix_seconds[0]) for each in found if len(each.unix_seconds)), default=float(end))
    there = (end - first) / _DAY
    if there >= min(days, 7) - 0.6:
        return Check("history", "ok", f"{there:.1f} days of usage")
    step = "Wait, or raise its retention: a week would show weekends, two weeks how weeks differ."
    return Check("history", "missing", f"only {there:.1f} of {days:g} days of usage", step)


def _twice(prometheus: Prometheus, end: int) -> Check:
    series = prometheus.select(CPU, 'container!=""', 'container!="POD"', 'cpu=~"|total"')
    found = prometheus.at(f"count(count by (namespace, pod, container) ({series}) > 1)", end)
    if not found:
        return Check("series", "ok", "each container has one")
    number = int(found[0].values[-1])
    return Check("series", "ok", f"{number} containers have several (two jobs or replicas): the larger counts")


def _throttling(optional: tuple[str, ...]) -> Check:
    missing = [name for name in OPTIONAL if name not in optional]
    if not missing:
        return Check("throttling", "ok", "periods of CPU limits, and anonymous memory, are there")
    what = "usage that a limit cuts is not seen as such"
    return Check("throttling", "missing", f"{', '.join(missing)} not there: {what}", "Do not drop them when scraping.")


def _declared(prometheus: Prometheus, end: int) -> Check:
    told = read_kube_state(prometheus, "cluster", end)
    if told is None:
        finding = "kube-state-metrics is not there: owners are guessed, requests and limits are not known"
        return Check("declared", "missing", finding, "Install it, or let pull ask the API server: --kubeconfig.")
    scaled = {each.autoscaler.name for each in told.containers if each.autoscaler}
    return Check(
        "declared", "ok", f"{len(told.containers)} containers, {len(scaled)} autoscalers in kube-state-metrics"
    )


def _agents(prometheus: Prometheus, end: int) -> Check:
    found = prometheus.at(f"count({prometheus.select(_AGENT)})", end)
    if found:
        return Check("agents", "ok", f"{int(found[0].values[-1])} tell their metrics")
    finding = "no agent tells its metrics: sizes go by usage alone, and no latency is promised"
    return Check("agents", "missing", finding, "Install the DaemonSet (deploy/).")
