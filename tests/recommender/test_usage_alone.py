"""Sizes by usage alone, from rows that are longer than a minute."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from policies.schema import Policy, load_policies
from recommender.evidence import Evidence
from recommender.history import Container, History, unseen
from recommender.inventory import Declared
from recommender.recommend import recommend, without_usage
from recommender.recommendation import Verdict

BALANCED = load_policies("balanced")[0]
START = 1_790_000_000
MINUTES = 7 * 1440


def usage(seed, kind):
    chance = np.random.default_rng(seed)
    day = 1 + 0.5 * np.sin(2 * np.pi * np.arange(MINUTES) / 1440)
    cores = 0.2 * day * np.exp(0.1 * chance.standard_normal(MINUTES))
    if kind == "bursty":
        starts = chance.random(MINUTES) < 0.003
        cores = cores * (1 + np.convolve(starts * (1 + chance.pareto(2.0, MINUTES)), np.ones(4))[:MINUTES])
    return cores


def history(cores, minutes, *, peaks=True, watched=False):
    """Two pods with the same usage, in rows of so many minutes."""
    rows = cores.reshape(-1, minutes)
    starts = np.repeat(START + 60 * minutes * np.arange(len(rows)), 2)
    frame = pd.DataFrame(
        {
            "start_unix_seconds": starts.astype(float),
            "duration_seconds": 60.0 * minutes,
            "instance": pd.Categorical(["a", "b"] * len(rows)),
            "requests": 0.0,
            "errors": 0.0,
            "requests_per_second": 0.0,
            "cpu_cores": np.repeat(rows.mean(axis=1), 2),
            "cpu_peak_cores": np.repeat(rows.max(axis=1) if peaks else np.full(len(rows), np.nan), 2),
            "memory_working_set_bytes": 1e8,
        }
    )
    nothing = Evidence.of([])
    return History(
        Container("c", "shop", "Deployment", "web", "app"), frame, nothing, nothing, 0, {}, (), watched=watched
    )


def request(of, **cpu):
    policy = Policy.model_validate({"name": "p", "cpu": cpu})
    return recommend(of, policy).uncapped.cpu_request_cores


@pytest.mark.parametrize("kind", ["smooth", "bursty"])
@pytest.mark.parametrize("seed", range(5))
def test_a_mean_and_its_highest_reading_are_as_good_as_the_minutes(seed, kind):
    cores = usage(seed, kind)
    by_minute = request(history(cores, 1))
    assert request(history(cores, 5)) == pytest.approx(by_minute, rel=0.08)


def test_means_alone_would_size_a_bursty_container_too_small():
    short = [request(history(usage(seed, "bursty"), 5, peaks=False)) for seed in range(5)]
    right = [request(history(usage(seed, "bursty"), 1)) for seed in range(5)]
    assert sum(short) < 0.97 * sum(right)


def test_the_price_decides_how_much_is_reserved():
    of = history(usage(1, "bursty"), 5)
    sizes = [request(of, price_of_minutes_over=price) for price in (0.5, 2.0, 8.0, 32.0)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 1.2 * sizes[0]


def test_without_an_agent_it_says_that_nobody_watched_and_promises_no_latency():
    found = recommend(history(usage(1, "smooth"), 5), load_policies("balanced")[0])
    assert "no agent watched its requests" in found.reasons["cpu_request_cores"]
    assert "not watched" in found.classification.evidence
    assert (found.limit_adds, found.request_adds) == (None, None)
    assert "bursts were not measured" in found.reasons["cpu_limit_cores"]
    seen = recommend(history(usage(1, "smooth"), 5, watched=True), load_policies("balanced")[0])
    assert "no HTTP request was seen" in seen.reasons["cpu_request_cores"]


def test_what_is_declared_but_was_not_seen_has_no_size_and_the_reason():
    declared = Declared(Container("c", "shop", "Deployment", "web", "app"), "main", {"cpu": "0.1"}, {"memory": "64Mi"})
    found = without_usage(declared, load_policies("balanced"))
    assert found.verdict is Verdict.REFUSE
    assert found.target == found.current == declared.resources
    assert set(found.reasons.values()) == {"it is declared, but nothing was recorded of it"}
    assert found.history.windows == unseen(declared.container).windows == 0


def test_few_requests_that_metrics_tell_are_no_reason_for_no_size(make_history):
    nothing = Evidence.of([])
    few = make_history(windows=200, rate=lambda _: 0.1)
    told = replace(few, by_metrics=True, everything=nothing, busiest=nothing, routes=())
    assert 0 < told.requests < BALANCED.evidence.requests
    assert recommend(few, BALANCED).target.cpu_request_cores is None
    sized = recommend(told, BALANCED)
    assert sized.target.cpu_request_cores > 0
    assert "no limit bank" in sized.reasons["cpu_request_cores"]
