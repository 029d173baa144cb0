"""Store, policy and prices -> a capacity review of one cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headroom import __version__
from headroom.keep import Keep
from headroom.reporting import nodes_of, read_prices
from headroom.sizing import size_store
from policies.prices import Prices
from profiles.errors import UsageError
from recommender.history import Recording
from recommender.recommendation import Recommendation
from recommender.review import Question, Scenario, review
from reports import plan

_DAY, _WEEK = 86_400, 7


def review_of(
    store: Path,
    policy_name: str,
    prices_file: Path | None,
    cluster: str | None,
    question: Callable[[float], Question],
) -> dict[str, Any]:
    """The review as plain data.

    :param question: from the end of the recording, in unix seconds
    :raises profiles.errors.HeadroomError: when something cannot be read, or there are no nodes to plan with
    """
    prices = read_prices(prices_file)
    recording, rows = size_store(store, policy_name, keep=Keep.DRAWN)
    return review_of_rows(recording, rows, store, prices, cluster, question)


def review_of_rows(
    recording: Recording,
    rows: Sequence[Recommendation],
    store: Path,
    prices: Prices,
    cluster: str | None,
    question: Callable[[float], Question],
) -> dict[str, Any]:
    """The review of what has been sized already.

    :raises profiles.errors.HeadroomError: when there are no nodes to plan with, or several clusters
    """
    names = sorted({row.container.cluster for row in rows})
    if (cluster is None and len(names) > 1) or (cluster is not None and cluster not in names):
        problem = "The store has several clusters" if cluster is None else f"Cluster {cluster} is not in this store"
        raise UsageError(f"{problem}.", f"Give --cluster: {', '.join(names)}.")
    chosen = cluster or names[0]
    own = [row for row in rows if row.container.cluster == chosen]
    nodes = nodes_of(store, chosen)
    if not nodes and not prices.nodes:
        raise UsageError(
            "There is no node to plan with: the store has no inventory of any, and the price file no type.",
            "Pull with --kubeconfig or --objects (kubectl get nodes -o json), or give --prices with nodes.",
        )
    return plan.as_document(
        review(chosen, own, nodes, prices, question(recording.end_unix_seconds)), prices.currency, __version__
    )


def question_of(
    weeks: int,
    certainty_percent: float,
    free_percent: float,
    zones: int | None,
    traffic: Sequence[tuple[float, float | None]],
    end_unix_seconds: float,
) -> Question:
    """As it was typed.

    :param traffic: factors, and by when in unix seconds
    :param end_unix_seconds: of the recording: days are counted from there
    :raises UsageError: when a date is past
    """
    scenarios = tuple(_scenario(factor, by, end_unix_seconds) for factor, by in traffic)
    return Question(weeks * _WEEK, certainty_percent / 100, free_percent / 100, zones, scenarios)


def _scenario(factor: float, by: float | None, end: float) -> Scenario:
    if by is None:
        return Scenario(f"traffic x {factor:g}", factor, None)
    try:
        date = f"{datetime.fromtimestamp(by, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError("No calendar has that date.", "Write --traffic 1.5@2027-03-01.") from error
    days = math.ceil((by - end) / _DAY)
    if days < 1:
        raise UsageError(f"{date} is before the end of the recording.", "Give --traffic FACTOR@DATE a later date.")
    return Scenario(f"traffic x {factor:g} by {date}", factor, days)
