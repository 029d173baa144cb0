"""How a workload served lately, as a real Prometheus tells it."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from recommender.inputs.prometheus import Connection, Prometheus
from recommender.inputs.served import Served, Usual, served, usual
from tests.cluster import tsdb
from tests.cluster.tsdb import needs_prometheus, served_lines

END = tsdb.START
BEGIN = END - 3 * 3600
MEASURED = Usual(0.95, 60, 0.020, 0.001)


@pytest.fixture(scope="module")
def url():
    def scene(name, latency_at=lambda _: 0.015, begin=BEGIN, **more):
        return served_lines(name, begin, END + 60, latency_at, **more)

    scenes = [
        scene("even"),
        scene("slow", lambda _: 0.15),
        scene("even", lambda _: 0.7, namespace="bank"),
        scene("fails", errors_at=lambda moment: 0.1 if moment > END - 300 else 0.02),
        scene("rare", per_second=2),
        scene("very-rare", per_second=0.3),
        scene("young", begin=END - 300),
        scene("twice"),
        scene('odd"\\name'),
        scene("late", lambda moment: 0.15 if moment > END - 120 else 0.015),
        (text.replace("twice-0", "twice-1") for text in scene("twice", lambda _: 0.15)),
    ]
    with tsdb.prometheus(itertools.chain(*scenes)) as address:
        yield address


@pytest.fixture
def prometheus(url):
    return Prometheus(Connection(url))


def lately(prometheus, workload, *, window=60, windows=1, quantile=0.95, namespace="shop"):
    return served(prometheus, namespace, workload, END, window, quantile, windows)


@needs_prometheus
def test_requests_latency_and_errors_of_one_window(prometheus):
    found = lately(prometheus, "even")
    assert found.requests == pytest.approx([1200], rel=0.01)
    assert found.latency_seconds == pytest.approx([0.01 + 0.95 * 0.01], rel=1e-6)  # within its bucket, evenly
    assert found.error_share == pytest.approx([0.0])


@needs_prometheus
def test_the_quantile_is_the_one_asked_for(prometheus):
    assert lately(prometheus, "even", quantile=0.5).latency_seconds == pytest.approx([0.015], rel=1e-6)


@needs_prometheus
def test_two_workloads_and_two_namespaces_are_told_apart(prometheus):
    latency = [
        float(lately(prometheus, name, namespace=namespace).latency_seconds[0])
        for namespace, name in (("shop", "even"), ("shop", "slow"), ("bank", "even"))
    ]
    assert latency == pytest.approx([0.0195, 0.195, 0.975], rel=1e-3)


@needs_prometheus
def test_pods_of_one_workload_are_added_up(prometheus):
    found = lately(prometheus, "twice")
    assert found.requests == pytest.approx([2400], rel=0.01)
    assert 0.1 < found.latency_seconds[0] < 0.2  # of half the requests


@needs_prometheus
def test_windows_follow_each_other_and_the_last_ends_now(prometheus):
    found = lately(prometheus, "late", windows=5)
    assert found.requests == pytest.approx([1200] * 5, rel=0.01)
    assert list(found.latency_seconds[:3] < 0.02) == [True] * 3
    assert list(found.latency_seconds[-2:] > 0.1) == [True] * 2


@needs_prometheus
def test_the_share_of_errors_is_of_all_answers(prometheus):
    found = lately(prometheus, "fails", windows=10)
    assert found.error_share[[0, -1]] == pytest.approx([0.02, 0.1], rel=1e-3)


@needs_prometheus
def test_before_it_was_there_nothing_is_known(prometheus):
    found = lately(prometheus, "young", windows=10)
    assert np.isnan(found.requests[:4]).all()
    assert np.isnan(found.latency_seconds[:4]).all()
    assert found.requests[-1] == pytest.approx(1200, rel=0.01)


@needs_prometheus
def test_where_nothing_is_told_of_it_nothing_is_known(prometheus):
    found = lately(prometheus, "nobody", windows=3)
    assert np.isnan(found.requests).all()
    assert np.isnan(found.latency_seconds).all()
    assert not found.error_share.any()
    assert usual(prometheus, "shop", "nobody", END, 0.95) is None


@needs_prometheus
def test_a_name_is_no_part_of_a_query(prometheus):
    assert lately(prometheus, 'odd"\\name').requests == pytest.approx([1200], rel=0.01)
    assert np.isnan(lately(prometheus, 'x"} or up{job="').requests).all()


# --- what was usual ----------------------------------------------------------------------


@needs_prometheus
def test_what_was_usual_is_the_worst_of_the_hour_before_by_two_minutes(prometheus):
    found = usual(prometheus, "shop", "fails", END, 0.95)
    assert (found.quantile, found.window_seconds) == (0.95, 120)
    assert found.latency_seconds == pytest.approx(0.0195, rel=1e-3)
    assert found.error_share == pytest.approx(0.1, rel=1e-3)
    before = usual(prometheus, "shop", "fails", END - 400, 0.95)
    assert before.error_share == pytest.approx(0.02, rel=1e-3)


@needs_prometheus
def test_few_requests_are_counted_over_ten_minutes(prometheus):
    assert usual(prometheus, "shop", "rare", END, 0.95).window_seconds == 600


@needs_prometheus
@pytest.mark.parametrize("workload", ["very-rare", "young"])
def test_too_few_requests_say_nothing_of_what_is_usual(prometheus, workload):
    assert usual(prometheus, "shop", workload, END, 0.95) is None


@needs_prometheus
def test_what_changed_is_worse_than_what_was_usual_before_it(prometheus):
    before = usual(prometheus, "shop", "late", END - 180, 0.95)
    assert before.broken_by(lately(prometheus, "late"), 5.0).startswith("P95 is 195 ms, and was 19.5 ms at most")
    assert before.broken_by(lately(prometheus, "even"), 5.0) is None


# --- the budget --------------------------------------------------------------------------


def window(latency=0.020, errors=0.0, requests=1000.0, before=()):
    told = [*before, SimpleNamespace(latency=latency, errors=errors, requests=requests)]
    names = ("requests", "latency", "errors")
    return Served(*(np.array([getattr(each, name) for each in told], float) for name in names))


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (window(), None),
        (window(latency=0.0209), None),
        (window(latency=0.0212), "P95 is 21.2 ms, and was 20 ms at most; 5 % more is allowed"),
        (window(latency=np.nan), None),
        (window(errors=0.0109), None),
        (window(errors=0.02), "2.0% of its requests fail, and 0.1% did at most"),
        (window(latency=9.0, errors=0.5), "50.0% of its requests fail, and 0.1% did at most"),
        (window(latency=9.0, errors=0.5, requests=299.0), None),
        (window(latency=9.0, errors=0.5, requests=np.nan), None),
        (window(before=[SimpleNamespace(latency=9.0, errors=0.5, requests=1e4)]), None),  # the last one counts
        (Served(*[np.array([])] * 3), None),
    ],
)
def test_what_breaks_the_budget_is_said(now, said):
    assert MEASURED.broken_by(now, 5.0) == said


def test_a_larger_budget_allows_more():
    assert MEASURED.broken_by(window(latency=0.0255), 25.0) is not None
    assert MEASURED.broken_by(window(latency=0.0245), 25.0) is None
