"""Pods of recommendations, how they grow, where they find room, and when that is over."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.prices import NodeType, Prices
from policies.schema import load_policies
from recommender.capacity import (
    Rules,
    Shape,
    _by_zone,
    case_of,
    largest,
    most_factor,
    runs_out,
    scaled,
    unplaced,
    zone_losses,
)
from recommender.growth import Growth, growth_of, growth_of_workload
from recommender.history import Container
from recommender.inventory import Autoscaler, Declared, Node
from recommender.pods import Pods, pods_of
from recommender.recommend import without_usage
from recommender.resources import Resources
from recommender.review import Question, Scenario, review, shapes_of

BALANCED = load_policies("balanced")
GIBIBYTE = 2**30
SCALER = Autoscaler("hpa", 2, 9, ())
NONE_FREE = Rules(0.0, 1)


def row(name, container="main", *, requests=("1", "1Gi"), role="main", history=None, target=None, kind="Deployment",
        declared=True, **more):  # fmt: skip
    """One container; what is not declared was seen alone."""
    of = Container("c", "shop", kind, name, container)
    written = {key: value for key, value in zip(("cpu", "memory"), requests, strict=True) if value is not None}
    made = without_usage(Declared(of, role, written, {}, **more), BALANCED)
    if history is not None:
        made = replace(made, history=replace(history, container=of))
    made = made if target is None else replace(made, target=Resources(*target))
    return made if declared else replace(made, declared=None)


def pods(name, replicas=1, cores=1.0, gib=1.0, *, kind="Deployment", autoscaled=False, follows=1.0):
    size = gib * GIBIBYTE
    return Pods(("c", kind, "shop", name), replicas, cores, size, cores, size, 99 if autoscaled else None, follows, 0)


def nodes(*sizes, zones="a", most=110):
    return [
        Node(f"n{place}", float(cores), gib * GIBIBYTE, f"t{cores:g}", zones[place % len(zones)], most)
        for place, (cores, gib) in enumerate(sizes)
    ]


def shape(cores=4.0, gib=16.0, most=110, hour=0.2, name="m"):
    return Shape(name, cores, gib * GIBIBYTE, most, hour, 0)


def needed(own, *shapes, rules=NONE_FREE):
    return case_of("x", 0, 1.0, lambda _: own, shapes or (shape(),), (), rules, 730.0).needs


# --- pods -----------------------------------------------------------------------------


def test_containers_of_a_pod_are_added_up_and_their_target_counts_where_there_is_one():
    (found,) = pods_of([row("web", "app", target=(0.5, None, None, None), replicas=3), row("web", "proxy")])
    assert (found.name, found.replicas) == ("shop/web", 3)
    assert (found.cores_now, found.bytes_now) == (2.0, 2.0 * GIBIBYTE)
    assert (found.cores, found.bytes) == (1.5, 2.0 * GIBIBYTE)


def test_of_init_containers_the_largest_counts_where_it_is_larger_than_all_that_run_together():
    rows = [row("web"), row("web", "a", role="init", requests=("3", "1Mi")), row("web", "b", role="init")]
    (found,) = pods_of(rows)
    assert (found.cores, found.bytes) == (3.0, 1.0 * GIBIBYTE)


def test_a_sidecar_runs_beside_the_others():
    (found,) = pods_of([row("web"), row("web", "mesh", role="sidecar", requests=("250m", "64Mi"))])
    assert found.cores == 1.25


def test_an_init_container_runs_beside_the_sidecars_that_were_started_before_it():
    """As the scheduler counts it since there are sidecars: KEP-753."""
    rows = [
        row("web"),
        row("web", "mesh", role="sidecar", requests=("500m", "64Mi"), position=0),
        row("web", "migrate", role="init", requests=("2", "64Mi"), position=1),
    ]
    assert pods_of(rows)[0].cores == 2.5


def test_who_requests_nothing_is_counted():
    (found,) = pods_of([row("web", requests=(None, "1Gi")), row("web", "x", requests=(None, None)), row("web", "y")])
    assert (found.cores, found.without_request) == (1.0, 2)


def test_a_request_that_is_to_be_removed_is_no_request_then():
    removed = replace(row("web"), unset=frozenset({"cpu_request_cores"}), target=Resources())
    (found,) = pods_of([removed])
    assert (found.cores_now, found.cores, found.bytes, found.without_request) == (1.0, 0.0, GIBIBYTE, 1)


def test_replicas_are_those_seen_at_once_and_without_a_recording_those_declared(make_history):
    seen = row("seen", history=make_history(windows=12, instances=3), replicas=7)
    found = pods_of([seen, row("told", replicas=4), row("batch", kind="CronJob")])
    assert {each.name: each.replicas for each in found} == {"shop/seen": 3, "shop/told": 4, "shop/batch": 0}


def test_kinds_and_autoscalers_are_told_apart():
    found = {each.name: each for each in pods_of([row("d", kind="DaemonSet"), row("web", autoscaler=SCALER)])}
    assert (found["shop/d"].is_daemon, found["shop/d"].autoscaled) == (True, False)
    assert (found["shop/web"].is_daemon, found["shop/web"].autoscaled) == (False, True)


def test_a_workload_is_autoscaled_also_where_its_first_container_is_an_injected_one():
    """Meshes inject containers that no template declares; ``envoy`` comes before ``main``."""
    (found,) = pods_of([row("web", "envoy", declared=False), row("web", "main", autoscaler=SCALER)])
    assert found.autoscaled


# --- more demand ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "factor", "by_requests", "replicas", "cores"),
    [
        (pods("auto", autoscaled=True), 2.5, False, 3, 1.0),
        (pods("three", 3), 1.5, False, 5, 1.0),
        (pods("three", 3), 1.0, False, 3, 1.0),
        (pods("one"), 2.5, False, 1, 2.5),
        (pods("one", follows=0.5), 3.0, True, 1, 2.0),
        (pods("one", follows=0.0), 3.0, True, 1, 1.0),
        (pods("three", 3, follows=0.0), 3.0, True, 3, 1.0),
        (pods("one"), 9.0, False, 3, 3.0),  # a node has 4 cores
        (pods("huge", cores=5.0), 2.0, False, 1, 10.0),  # was too large before
        (pods("agent", 6, kind="DaemonSet"), 3.0, False, 6, 1.0),
        (pods("gone", 0, cores=3.0), 2.0, False, 0, None),  # nobody is more than no one
    ],
)
def test_more_demand_is_more_replicas_or_more_cores(of, factor, by_requests, replicas, cores):
    (found,) = scaled([of], factor, 4.0, by_requests=by_requests)
    assert found.replicas == replicas
    assert cores is None or found.cores == pytest.approx(cores)
    assert found.bytes == of.bytes


def test_now_is_what_is_requested_and_else_what_is_recommended():
    of = replace(pods("web"), cores_now=3.0, bytes_now=5.0)
    assert [(each.cores, each.bytes) for each in scaled([of], 1.0, 4.0, now=True)] == [(3.0, 5.0)]
    assert scaled([of], 1.0, 4.0)[0].cores == 1.0


# --- room -----------------------------------------------------------------------------


def test_pods_find_room_on_nodes_that_differ():
    own = [pods("large", cores=7, gib=4), pods("small", 4, cores=1, gib=1)]
    assert unplaced(own, nodes((8, 8), (4, 8)), NONE_FREE) == Counter()
    assert unplaced(own, nodes((4, 8), (4, 8)), NONE_FREE) == {"shop/large": 1}
    assert unplaced(own, nodes((8, 8)), NONE_FREE) == {"shop/small": 3}
    assert unplaced(own, [], NONE_FREE) == {"shop/large": 1, "shop/small": 4}


def test_a_node_takes_no_more_pods_than_it_may_and_daemons_are_of_them():
    own = [pods("tiny", 10, 0.01, 0.01)]
    assert unplaced(own, nodes((4, 8), most=7), NONE_FREE) == {"shop/tiny": 3}
    assert (
        unplaced([*own, pods("agent", 1, 0, 0, kind="DaemonSet")], nodes((4, 8), most=7), NONE_FREE)["shop/tiny"] == 4
    )


def test_daemons_and_what_is_kept_free_are_taken_off_every_node():
    own = [pods("web", 6, cores=1), pods("agent", 1, cores=0.5, kind="DaemonSet")]
    three = nodes((4, 64), (4, 64), (4, 64))
    assert unplaced(own, three, NONE_FREE) == Counter()
    assert unplaced(own, three, Rules(0.5, 1)) == {"shop/web": 3}  # of 2 cores half a core is the agent's
    assert largest(own, [4.0, 2.0], Rules(0.5, 1)) == 1.5


def test_a_daemon_without_any_pod_takes_nothing():
    """A cloud's cluster has a dozen that are for other machines: drivers of GPUs, say."""
    assert largest([pods("gpu-driver", 0, cores=1.0, kind="DaemonSet")], [4.0], NONE_FREE) == 4.0


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0.1, 3.0), st.booleans()), min_size=1, max_size=8))
def test_up_to_the_most_factor_all_fits_and_above_it_something_does_not(workloads):
    own = [pods(f"w{at}", count, round(cores, 2), autoscaled=auto) for at, (count, cores, auto) in enumerate(workloads)]
    there = nodes((8, 32), (4, 16), (8, 64))
    most, cores = most_factor(own, there, NONE_FREE), largest(own, [8.0], NONE_FREE)
    assert most == 0 or not unplaced(scaled(own, most, cores), there, NONE_FREE)
    assert most == 8 or unplaced(scaled(own, most + 0.006, cores), there, NONE_FREE)


def test_what_just_fits_now_suffices_for_exactly_today():
    assert most_factor([pods("web", 8, cores=1)], nodes((4, 64), (4, 64)), NONE_FREE) == pytest.approx(1.0, abs=0.005)
    assert most_factor([pods("web", 8, cores=1)], nodes((4, 64), (4, 64)), NONE_FREE) >= 1.0


# --- nodes needed ---------------------------------------------------------------------


def test_replicas_are_spread_evenly_over_zones():
    """Four of three quarters of a node over three zones: two in one of them, on two nodes."""
    (need,) = needed([pods("web", 4, cores=3)], rules=Rules(0.0, 3))
    assert (need.nodes, need.at_least) == (4, 4)
    (need,) = needed([pods("web", 6, cores=2)], rules=Rules(0.0, 3))
    assert (need.nodes, need.at_least) == (3, 3)


def test_single_replicas_fill_the_zones_one_after_the_other():
    own = [pods(f"w{place}", cores=2) for place in range(6)]
    assert needed(own, rules=Rules(0.0, 3))[0].nodes == 3
    zones = _by_zone([*own, pods("x", 7, cores=1)], Rules(0.0, 3), np.array([4.0, 16.0 * GIBIBYTE, 110.0]))
    assert [sum(zone.values()) for zone in zones] == [5, 4, 4]
    assert [zone[2.0, 1.0 * GIBIBYTE, 1.0] for zone in zones] == [2, 2, 2]


def test_at_least_is_no_more_than_another_even_spread_takes():
    """Two small pods of two workloads may both be in one zone, and are then on one node."""
    (need,) = needed([pods("a", cores=1), pods("b", cores=1)], rules=Rules(0.0, 2))
    assert need.at_least == 1


def test_types_are_sorted_by_what_they_cost_a_month_and_a_too_small_one_names_the_workload():
    own = [pods("web", 4, cores=3), pods("large", cores=6)]
    found = needed(own, shape(8, 64, hour=0.5, name="8"), shape(16, 64, hour=0.6, name="16"), shape(name="4"))
    assert [(each.shape, each.nodes) for each in found] == [("16", 2), ("8", 3), ("4", None)]
    assert found[0].month == pytest.approx(2 * 0.6 * 730)
    assert (found[2].month, found[2].too_large) == (None, ("shop/large",))


def test_every_node_has_its_daemons_and_its_share_kept_free():
    (need,) = needed([pods("web", 4, 1), pods("agent", 1, 1.6, kind="DaemonSet")], rules=Rules(0.1, 1))
    assert need.nodes == 2  # 3.6 less 1.6: two of one core


def test_types_are_those_of_the_price_file_and_those_that_are_there():
    prices = Prices(nodes=(NodeType(name="t4", hour=0.1, cores=4, memory="16Gi"),))
    found = shapes_of(nodes((4, 16), (8, 32)), prices)
    assert [(each.name, each.there, round(each.hour, 3)) for each in found] == [("t4", 1, 0.1), ("t8", 1, 0.368)]


def test_nodes_of_one_type_are_one_type_though_their_memory_differs_by_a_page():
    """Allocatable memory is never the same to the byte: the kernel's own part differs from boot to boot."""
    there = [Node(f"n{place}", 4.0, 16 * GIBIBYTE - 4096 * place, "t4") for place in range(5)]
    assert [each.name for each in shapes_of(there, Prices())] == ["t4"]


# --- zones ----------------------------------------------------------------------------


def test_a_lost_zone_leaves_pods_without_room_and_says_what_would_do():
    own = [pods("web", 12, cores=1)]
    lost = zone_losses(own, nodes(*[(4, 64)] * 4, zones="ab"), NONE_FREE)
    assert [(each.zone, each.nodes, each.unplaced, each.workloads, each.more_nodes) for each in lost] == [
        ("a", 2, 4, ("shop/web",), 1),
        ("b", 2, 4, ("shop/web",), 1),
    ]
    assert [each.more_nodes for each in zone_losses(own[:0], nodes((4, 64), (4, 64), zones="ab"), NONE_FREE)] == [0, 0]
    assert zone_losses(own, nodes((4, 64), (4, 64)), NONE_FREE) == ()


def test_no_number_of_nodes_is_given_where_none_would_do():
    """Its pod fits the one large node alone, and that is gone."""
    there = [*nodes((4, 64), (4, 64), zones="b"), Node("large", 16.0, 64 * GIBIBYTE, "t16", "a")]
    (lost, _) = zone_losses([pods("large", cores=10)], there, NONE_FREE)
    assert (lost.zone, lost.unplaced, lost.more_nodes) == ("a", 1, None)


# --- growth ---------------------------------------------------------------------------


def growth(days=30, seed=0):
    chance = np.random.default_rng(seed)
    middle = 1 + 0.02 * np.cumsum(chance.uniform(-0.5, 1, days))
    places = (0.6, 0.8, 0.9, 0.95, 0.99, 0.999)
    upper = middle + np.cumsum(chance.uniform(0.01, 0.2, (len(places), days)), axis=0)
    return Growth(days, middle, places, upper, np.arange(-7, 0), np.ones(7), "made")


@pytest.mark.parametrize("seed", range(3))
def test_the_highest_rises_with_certainty_and_with_days_and_agrees_with_the_chance(seed):
    of = growth(seed=seed)
    places = (0.5, 0.6, 0.8, 0.9, 0.95, 0.99)
    table = np.array([[of.highest(place, days) for days in range(1, 31)] for place in places])
    assert (np.diff(table, axis=0) >= 0).all()
    assert (np.diff(table, axis=1) >= 0).all()
    assert table[0, 0] == pytest.approx(of.middle[0])
    for place, line in zip(places[1:], table[1:], strict=True):
        for days in (1, 7, 30):
            assert of.chance_above(line[days - 1], days) == pytest.approx(1 - place, abs=1e-6)


def test_it_runs_out_on_the_first_day_that_is_above():
    of = growth()
    enough = of.highest(0.9, 11)
    assert runs_out(of, enough, 0.9) == next(day for day in range(1, 31) if of.highest(0.9, day) > enough) > 11
    assert (runs_out(of, 0.1, 0.9), runs_out(of, 99.0, 0.9)) == (1, None)


def test_nothing_and_next_to_nothing_is_no_forecast(make_history):
    assert growth_of([], 28) is None
    assert growth_of([row("told")], 28) is None
    one = row("one", history=make_history(windows=1))
    assert growth_of([one], 28) is None
    assert growth_of_workload(one, 28) is None
    idle = row("idle", history=make_history(windows=60, cpu_cores=0.0))
    assert growth_of([idle], 28) is None


def test_the_whole_is_the_sum_of_what_all_instances_used(make_history):
    both = [row(name, history=make_history(windows=48, seconds=3600.0, instances=2)) for name in ("a", "b")]
    whole, one = growth_of(both, 14), growth_of_workload(both[0], 14)
    np.testing.assert_allclose(whole.middle, one.middle, rtol=1e-6)
    assert whole.past.max() == pytest.approx(1.0)
    assert list(whole.past_days) == [-2.0, -1.0]


# --- all of it ------------------------------------------------------------------------


def test_a_workload_that_came_or_went_is_no_growth(make_history):
    """The rest is as it was for two weeks, and so is the new one since it is there."""
    day = {"seconds": 10_800.0, "rate": lambda now: 20 + 5 * np.sin(2 * np.pi * now / 86_400)}
    whole, part = make_history(windows=112, **day), make_history(windows=24, **day)
    late = part.frame.assign(start_unix_seconds=part.frame["start_unix_seconds"] + 11 * 86_400)
    alone = growth_of([row("old", history=whole)], 28).highest(0.5, 28)
    for other in (part, replace(part, frame=late)):
        both = growth_of([row("old", history=whole), row("other", history=other)], 28)
        assert both.highest(0.5, 28) < 1.3 * alone


def answered(rows, there, **how):
    return review("c", rows, there, Prices(), Question(**{"days": 14, "headroom": 0.0} | how))


def test_a_scenario_that_fits_has_no_end():
    """The search for what suffices ends at eight times; a scenario may ask for more."""
    found = answered(
        [row("web", requests=("10m", "1Mi"), replicas=1)], nodes((64, 64)), scenarios=(Scenario("x", 20.0, 90),)
    )
    assert found.cases[-1].unplaced == 0
    assert found.scenario_ends[0].days is None


def test_a_scenario_that_does_not_fit_ends_on_its_share_of_the_way(make_history):
    """One core on two: traffic twice as high is all that fits, a third of the way to four times in 90 days."""
    rows = [row("web", history=make_history(windows=12))]
    scenarios = (Scenario("x", 4.0, 90), Scenario("y", 4.0, None), Scenario("z", 1.5, 90))
    ends = answered(rows, nodes((2, 64)), scenarios=scenarios).scenario_ends
    assert [each.factor for each in ends] == [pytest.approx(2.0, abs=0.01)] * 3
    assert ends[0].days in (29, 30)
    assert [each.days for each in ends[1:]] == [None, None]


def test_one_node_without_a_zone_is_no_zone_of_its_own_and_is_said():
    there = [*nodes((4, 16), (4, 16), zones="ab"), Node("n9", 4.0, 16 * GIBIBYTE)]
    found = answered([row("web", replicas=6)], there)
    assert found.cases[0].needs[-1].at_least <= 2
    assert found.zone_losses or any("zone" in each for each in found.notes)


def test_a_certainty_of_one_half_asks_nothing_twice(make_history):
    rows = [row("web", history=make_history(windows=48, seconds=3600.0))]
    names = [each.name for each in answered(rows, nodes((4, 16)), quantile=0.5).cases]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("there", [[Node("n", 0.0, 0.0)], [Node("n", 0.0, 0.0, pods=0)], nodes((4, 16))])
@pytest.mark.parametrize("requests", [("1", "1Gi"), ("0", "0"), (None, None)])
def test_odd_nodes_and_requests_are_answered(there, requests):
    found = answered([row("web", requests=requests, replicas=2), row("none"), row("d", kind="DaemonSet")], there)
    assert all(math.isfinite(case.cores) for case in found.cases)
    assert 0 <= found.enough_for <= 8
