"""All recommenders side by side on the same workloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from profiles.errors import UsageError
from recommender.backtest.replay import Day, Workload, judged_days, oracle, replay
from recommender.backtest.scores import FrontierPoint, Pair, Scores, frontier_point, pair, scores_of
from recommender.baselines import CPU, MEMORY, Rule, with_margin
from recommender.memory import rule as request_from_memory
from recommender.price import PRICE, request_by_price

OURS = "headroom"
ORACLE = "oracle"
WARMUP_DAYS = 3
MARGINS = (0.8, 0.9, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.75, 2.0, 2.5, 3.0)
PRICES = (2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 250.0)


@dataclass(frozen=True, slots=True)
class Judged:
    """One recommender.

    :ivar days: in order of workload and time
    :ivar frontier: its margin swept; our price swept
    :ivar pair: ours against it; None for ours and the oracle
    """

    name: str
    scores: Scores
    days: tuple[Day, ...]
    frontier: tuple[FrontierPoint, ...]
    pair: Pair | None


@dataclass(frozen=True, slots=True)
class Backtest:
    """Everything that a report says.

    :ivar days_left_out: days with under half their samples
    """

    resource: str
    workloads: tuple[Workload, ...]
    warmup_days: int
    days_left_out: int
    judged: tuple[Judged, ...]


def backtest(
    workloads: Sequence[Workload],
    resource: str = "cpu",
    warmup_days: int = WARMUP_DAYS,
    progress: Callable[[], None] = lambda: None,
) -> Backtest:
    """Run every recommender over `workloads`.

    :param resource: ``cpu`` or ``memory``
    :raises profiles.errors.UsageError: when the traces are too short to judge a single day
    :param progress: called once per recommender; see :func:`steps`
    """
    if not any(judged_days(each, warmup_days)[0] for each in workloads):
        longest = max((pod.days for each in workloads for pod in each.pods), default=0.0)
        raise UsageError(
            f"There is no day to judge: the longest trace has {longest:.1f} days, and {warmup_days} are to learn from.",
            "Give longer traces, or a smaller --warmup-days.",
        )
    peers: Mapping[str, Rule] = {name: rule for name, rule in _peers(resource).items() if name != "current"}
    best = [day for each in workloads for day in oracle(each, warmup_days)]
    progress()
    ours = _all(workloads, _ours(resource), warmup_days)
    if resource == "cpu":
        swept = [(price, _all(workloads, partial(request_by_price, price=price), warmup_days)) for price in PRICES]
    else:
        swept = [(margin, [day.scaled(margin) for day in ours]) for margin in MARGINS]
    frontier = tuple(frontier_point(setting, days, best) for setting, days in swept)
    judged = [Judged(OURS, scores_of(ours, best), tuple(ours), frontier, None)]
    progress()
    for name, rule in peers.items():
        days = _all(workloads, rule, warmup_days)
        plain = _all(workloads, with_margin(rule, 1.0), warmup_days)
        points = tuple(frontier_point(each, [day.scaled(each) for day in plain], best) for each in MARGINS)
        judged.append(Judged(name, scores_of(days, best), tuple(days), points, pair(ours, days)))
        progress()
    judged.append(Judged(ORACLE, scores_of(best, best), tuple(best), (), None))
    left_out = sum(judged_days(each, warmup_days)[1] for each in workloads)
    return Backtest(resource, tuple(workloads), warmup_days, left_out, tuple(judged))


def steps(resource: str) -> int:
    """How often ``progress`` is called."""
    return len(_peers(resource)) - 1 + 2


def _all(workloads: Sequence[Workload], rule: Rule, warmup_days: int) -> list[Day]:
    return [day for each in workloads for day in replay(each, rule, warmup_days)]


def _peers(resource: str) -> Mapping[str, Rule]:
    return CPU if resource == "cpu" else MEMORY


def _ours(resource: str) -> Rule:
    return partial(request_by_price, price=PRICE) if resource == "cpu" else request_from_memory
