"""The whole way from rows to numbers of one workload, as text."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from profiles.schema import Runtime
from recommender.curve import SATURATION_RATIO
from recommender.demand import DemandFit
from recommender.history import History
from recommender.recommendation import Recommendation
from recommender.resources import MEBIBYTE, RESOURCE_NAMES, format_cores, format_resource
from reports.apis import milliseconds
from reports.patch import Patch
from reports.table import overhead


def explain(row: Recommendation, patch: Patch | None) -> str:
    """One screen: seen, fitted, allowed, decided, to undo."""
    sections = [
        (row.container.name, [f"{row.verdict.value}: {row.classification.name.value} ({row.classification.evidence})"]),
        ("What was seen", _seen(row)),
        ("Demand", [_demand(row), *_route_costs(row)]),
        ("Headroom curve", _curve(row)),
        ("Earlier predictions", _checks(row)),
        ("Memory", _memory(row)),
        ("Network", _network(row)),
        (f"Policy {row.policy.name}", _policy(row)),
        ("Decided", _decided(row)),
        ("Notes", list(row.notes)),
        ("To apply", [patch.command] if patch else []),
        ("To undo", [patch.rollback_command] if patch else []),
    ]
    return "\n".join("\n".join([title, *(f"  {line}" for line in lines), ""]) for title, lines in sections if lines)


_RUNTIMES = {
    Runtime.NATIVE: "none that shows (C, Rust, or Go since 1.26)",
    Runtime.CPP: "C++",
    Runtime.GO: "Go",
    Runtime.JVM: "JVM",
    Runtime.NODE: "Node",
    Runtime.PYTHON: "Python",
    Runtime.RUBY: "Ruby",
    Runtime.DOTNET: ".NET",
    Runtime.PHP: "PHP",
    Runtime.BEAM: "BEAM (Erlang, Elixir)",
}


def _seen(row: Recommendation) -> list[str]:
    history = row.history
    cores = history.frame["cpu_cores"].dropna()
    lines = [
        f"{history.windows} windows, {history.seconds:.0f} s, instances: {history.instances}",
        f"{history.requests} requests answered, {int(history.frame['errors'].sum())} of them server errors"
        + (f"; {history.unanswered} got no answer" if history.unanswered else ""),
        *([f"runtime: {_RUNTIMES[history.runtime]}"] if history.runtime else []),
        *_deployed(row),
        f"confidence {row.confidence.level}: {row.confidence.reason}",
        *([f"missing: {row.confidence.missing}"] if row.confidence.missing else []),
    ]
    if len(cores):
        lines.append(f"CPU mean {format_cores(float(cores.mean()))}, highest window {format_cores(float(cores.max()))}")
    if history.unwatched is not None:
        lines.append(_unwatched(history))
    if history.by_metrics:
        lines.append(_by_metrics(history))
    latency = history.everything.histogram
    if latency.total:
        known = ((q, latency.quantile_seconds(q) or 0.0) for q in (0.5, 0.95, 0.99))
        lines.append(f"latency {', '.join(f'P{q * 100:g} {milliseconds(seconds)}' for q, seconds in known)}")
    return lines


def _deployed(row: Recommendation) -> list[str]:
    """Versions that came while it was recorded."""
    times = row.declared.deployed_unix_seconds if row.declared else ()
    starts = row.history.column("start_unix_seconds")
    came = [each for each in times if len(starts) and float(starts.min()) < each <= float(starts.max())]
    if not came:
        return []
    last = datetime.fromtimestamp(came[-1], UTC)
    return [f"{len(came)} new versions meanwhile, the last of {last:%Y-%m-%d %H:%M} UTC"]


def _unwatched(history: History) -> str:
    """Usage from when no agent watched it."""
    hours = (history.whole.seconds - history.seconds) / 3600
    cores = history.whole.column("cpu_cores")[~np.isfinite(history.whole.column("requests"))]
    cores = cores[np.isfinite(cores)]
    told = f"; CPU mean {format_cores(float(cores.mean()))}, highest {format_cores(float(cores.max()))}"
    return f"usage of {hours:.1f} h more, when no agent watched it" + (told if len(cores) else "")


def _by_metrics(history: History) -> str:
    """Of quantiles of rows no quantile of all can be made: the usual one and the worst."""
    p95 = history.column("p95_seconds")
    p95 = p95[np.isfinite(p95)]
    worst = f"{milliseconds(float(np.median(p95)))} in the median, {milliseconds(float(p95.max()))}" if len(p95) else ""
    return "requests as its agent's metrics tell them" + (f"; P95 of five minutes {worst} at most" if worst else "")


def _demand(row: Recommendation) -> str:
    fit = row.demand
    if not isinstance(fit, DemandFit):
        return f"not told: {fit.reason}"
    low, high = fit.cost_interval
    return (
        f"CPU = {fit.base_cores * 1000:.1f}m + {milliseconds(fit.seconds_per_request)} per request "
        f"(95 %: {milliseconds(low)} to {milliseconds(high)}), R2 {fit.r_squared:.2f}, {fit.windows} windows"
    )


def _route_costs(row: Recommendation) -> list[str]:
    """CPU per request of each route class, or why it cannot be told."""
    if not isinstance(row.demand, DemandFit):
        return []
    return [
        f"  {route.name}: {route.reason}"
        if route.seconds_per_request is None or route.interval is None
        else f"  {route.name}: {milliseconds(route.seconds_per_request)} "
        f"(95 %: {milliseconds(route.interval[0])} to {milliseconds(route.interval[1])})"
        for route in row.demand.routes
    ]


def _curve(row: Recommendation) -> list[str]:
    if row.curve is None or row.busiest_curve is None:
        return []
    quantile = row.policy.latency.quantile
    gate = SATURATION_RATIO * row.curve.mean_cores
    measured = f"P{quantile * 100:g} is {milliseconds(row.curve.latency_seconds[quantile])}"
    weight = "requests" if row.curve.by_request else "work (no answer was seen by the limit bank)"
    drift = f"cost per request drifted by {row.curve.drift:.1%}; delays weighted by {weight}"
    pairs = [
        pair for pair in zip(row.curve.points, row.busiest_curve.points, strict=True) if pair[0].limit_cores >= gate
    ]
    settled = next((index for index, pair in enumerate(pairs) if pair[1].upper_adds[quantile] == 0), len(pairs))
    return [
        f"{measured}; {drift}; below {format_cores(gate)} it is too close to saturation",
        f"{'limit':>8} {'adds':>12} {'when busiest':>13} {'at most':>12} {'throttled':>10}",
        *(
            f"{format_cores(every.limit_cores):>8} {overhead(every.adds[quantile]):>12} "
            f"{overhead(busiest.adds[quantile]):>13} {overhead(busiest.upper_adds[quantile]):>12} "
            f"{every.throttled_share:>10.1%}"
            for every, busiest in pairs[: settled + 1]
        ),
    ]


def _memory(row: Recommendation) -> list[str]:
    fit = row.memory
    if fit is None:
        return ["not seen"]
    return [
        *fit.reasons,
        f"next peak: {fit.lower_bytes / MEBIBYTE:.1f} MiB in every second case; size: {fit.upper_bytes / MEBIBYTE:.1f}",
        f"{fit.oom_kills} OOM kills, {fit.restarts} restarts; leak: {fit.leak.evidence}",
    ]


def _network(row: Recommendation) -> list[str]:
    """TCP events; whether latency is higher where segments were sent again, which no CPU would cure."""
    history = row.history
    if not np.isfinite(history.column("tcp_retransmits")).any():
        return []
    names = ("opened", "accepted", "refused", "failed", "ended")
    opened, accepted, refused, failed, ended = (_sum(history, f"connections_{name}") for name in names)
    sent, received, again = (_sum(history, f"tcp_{name}") for name in ("resets_sent", "resets_received", "retransmits"))
    connections = f"connections: {opened} opened, {accepted} accepted, {refused} refused, {failed} not answered"
    lines = [f"{connections}; resets: {sent} sent, {received} received"]
    if ended:
        mean = float(np.nansum(history.column("round_trips_seconds"))) / ended
        lines.append(f"mean round trip {milliseconds(mean)}, at the end of {ended} connections")
    p95, with_any = history.column("p95_seconds"), history.column("tcp_retransmits") > 0
    known = np.isfinite(p95)
    lines.append(f"{again} segments were sent again")
    if (known & with_any).any() and (known & ~with_any).any():
        beside = (milliseconds(float(np.median(p95[known & each]))) for each in (with_any, ~with_any))
        lines[-1] += ": P95 is {} in the median of windows with any, {} in the others".format(*beside)
    if history.drops:
        most = sorted(history.drops.items(), key=lambda each: (-each[1], each[0]))
        lines.append("packets that the kernel dropped: " + ", ".join(f"{packets} {reason}" for reason, packets in most))
    return lines


def _sum(history: History, name: str) -> int:
    return int(np.nansum(history.column(name)))


def _policy(row: Recommendation) -> list[str]:
    policy, latency = row.policy, row.policy.latency
    adds = f"{latency.limit_adds_percent:g} %, and a full node {latency.request_adds_percent:g} %"
    return [
        f"a limit may add {adds} to P{latency.quantile * 100:g}; CPU limit: {policy.cpu.limit}",
        f"memory: next peak + {policy.memory.margin_percent:g} %, limit = request x {policy.memory.limit_ratio:g}",
        *(f"{key} by {source}" for key, source in sorted(row.policy_sources.items())),
    ]


def _decided(row: Recommendation) -> list[str]:
    lines = []
    for name in RESOURCE_NAMES:
        before, after = (format_resource(name, getattr(each, name)) or "-" for each in (row.current, row.target))
        lines.append(f"{name.rpartition('_')[0].replace('_', ' '):15} {before:>7} -> {after:<7} {row.reasons[name]}")
        lower, upper = (format_resource(name, bound) for bound in row.bounds[name])
        if lower and upper:
            uncapped = format_resource(name, getattr(row.uncapped, name)) or "-"
            lines.append(f"{'':15} lower {lower}, upper {upper}, before guardrails {uncapped}")
    return lines


def _checks(row: Recommendation) -> list[str]:
    """What was predicted for earlier limits, and what came of it."""
    return [
        f"limit {format_cores(check.limit_cores)}: P95 +{check.predicted_adds:.1%} predicted, "
        f"{check.measured_adds:+.1%} measured; throttled {check.throttled_error:+.1%} against predicted"
        for check in row.checks
    ]
