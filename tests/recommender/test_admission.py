"""What the cluster would refuse: sizes that LimitRange, quota, nodes and quality of service move."""

from dataclasses import replace

import pytest

from policies.schema import load_policies
from recommender.admission import admitted
from recommender.history import Container
from recommender.inventory import Autoscaler, Bounds, Declared, Inventory, Node, Quota
from recommender.recommend import without_usage
from recommender.recommendation import Verdict
from recommender.resources import PLACES, Resources

MIB = 2**20
BALANCED = load_policies("balanced")


def row(current, target, name="web", replicas=2, namespace="shop", vertical=None, container="app"):
    declared = Declared(
        Container("prod", namespace, "Deployment", name, container), "main", {}, {}, replicas, vertical=vertical
    )
    made = without_usage(declared, BALANCED)
    return replace(made, verdict=Verdict.RESIZE, current=Resources(*current), target=Resources(*target))


def inventory(*declaring, **more):
    """With what these rows have today as what is declared."""
    declared = []
    for each in declaring:
        groups = {"requests": {}, "limits": {}}
        for name, (group, resource) in PLACES.items():
            if getattr(each.current, name) is not None:
                groups[group][resource] = getattr(each.current, name)
        declared.append(replace(each.declared, **groups))
    return Inventory("prod", "api", tuple(declared), {}, **more)


def bounds(resource="cpu", least=None, most=None, ratio=None, default=None, of="Container"):
    return Bounds("shop", "lr", of, resource, least, most, ratio, default)


def of(found):
    (one,) = found
    return one.target, one.reasons


def test_a_size_is_kept_within_the_limit_range_and_the_reason_says_so():
    sized = row((0.2, 1.0, 64 * MIB, 128 * MIB), (3.0, 6.0, 64 * MIB, 128 * MIB))
    target, reasons = of(admitted([sized], inventory(bounds=(bounds(most=4.0),))))
    assert target == Resources(3.0, 4.0, 64 * MIB, 128 * MIB)
    assert reasons["cpu_limit_cores"].startswith("LimitRange lr allows no more than 4;")
    small = row((0.2, 1.0, 64 * MIB, 128 * MIB), (0.01, 1.0, 64 * MIB, 128 * MIB))
    target, reasons = of(admitted([small], inventory(bounds=(bounds(least=0.05),))))
    assert target.cpu_request_cores == 0.05
    assert "no less than 50m" in reasons["cpu_request_cores"]


def test_a_limit_range_of_another_namespace_or_of_whole_pods_does_not_move_a_container():
    sized = row((1.0, 2.0, None, None), (3.0, 6.0, None, None))
    other = replace(bounds(most=1.0), namespace="bank")
    assert of(admitted([sized], inventory(bounds=(other, bounds(most=1.0, of="Pod")))))[0] == sized.target


def test_where_the_limit_may_be_only_so_many_times_the_request_the_request_is_raised():
    sized = row((1.0, 2.0, None, None), (0.5, 2.0, None, None))
    target, reasons = of(admitted([sized], inventory(bounds=(bounds(ratio=2.0),))))
    assert target.cpu_request_cores == 1.0
    assert "at most 2 times" in reasons["cpu_request_cores"]


def test_a_default_limit_that_is_less_than_the_request_is_replaced_and_another_one_is_told():
    sized = row((0.2, None, None, None), (0.8, None, None, None))
    target, reasons = of(admitted([sized], inventory(bounds=(bounds(default=0.5),))))
    assert target.cpu_limit_cores == 0.8
    assert "LimitRange lr gives 500m" in reasons["cpu_limit_cores"]
    (less,) = admitted(
        [row((0.2, None, None, None), (0.3, None, None, None))], inventory(bounds=(bounds(default=0.5),))
    )
    assert less.target.cpu_limit_cores is None
    assert any("gives 500m to what has no limit" in note for note in less.notes)


def test_no_request_is_larger_than_the_largest_node():
    sized = row((1.0, None, 2**30, None), (20.0, None, 80 * 2**30, None))
    nodes = (Node("small", 4.0, 8 * 2**30), Node("large", 16.0, 64 * 2**30))
    target, reasons = of(admitted([sized], inventory(nodes=nodes)))
    assert (target.cpu_request_cores, target.memory_request_bytes) == (16.0, 64 * 2**30)
    assert "no node has more than 16 to give" in reasons["cpu_request_cores"]


def test_a_guaranteed_pod_stays_guaranteed():
    sized = row((1.0, 1.0, 256 * MIB, 256 * MIB), (0.4, 0.7, 100 * MIB, 125 * MIB))
    target, reasons = of(admitted([sized], inventory(sized)))
    assert target == Resources(0.7, 0.7, 125 * MIB, 125 * MIB)
    assert "Guaranteed" in reasons["memory_request_bytes"]


def test_a_pair_that_is_equal_in_a_pod_that_is_not_guaranteed_is_sized_freely():
    sized = row((1.0, 1.0, 128 * MIB, 256 * MIB), (0.4, 0.7, 100 * MIB, 125 * MIB))
    assert of(admitted([sized], inventory(sized)))[0] == sized.target
    alone = row((1.0, 1.0, 256 * MIB, 256 * MIB), (0.4, 0.7, 100 * MIB, 125 * MIB))
    beside = row((None, None, None, None), (None, None, None, None), container="proxy")
    assert of(admitted([alone], inventory(alone, beside)))[0] == alone.target


@pytest.mark.parametrize("current", [(0.5, 1.0, None, None), (0.5, None, None, None), (None, None, None, None)])
def test_a_burstable_pod_may_be_sized_freely(current):
    sized = row(current, (0.4, 0.7, 100 * MIB, 125 * MIB))
    assert of(admitted([sized], inventory()))[0] == sized.target


def test_raises_that_a_quota_has_no_room_for_are_kept_back_in_order_and_cuts_make_room():
    quota = Quota("shop", "rq", {"requests.cpu": 4.0}, {"requests.cpu": 3.5})
    rows = [
        row((0.5, None, None, None), (1.0, None, None, None), "a"),  # one core more, over two replicas
        row((1.0, None, None, None), (0.7, None, None, None), "b"),  # 0.6 less
        row((0.2, None, None, None), (0.4, None, None, None), "c"),  # 0.4 more: does not fit any more
    ]
    found = admitted(rows, inventory(quotas=(quota,)))
    assert [each.target.cpu_request_cores for each in found] == [1.0, 0.7, 0.2]
    assert found[2].verdict is Verdict.KEEP
    assert "quota rq has no room for more requests.cpu: 100m left" in found[2].reasons["cpu_request_cores"]


def test_a_quota_of_another_namespace_or_resource_holds_nothing_back():
    rows = [row((0.5, None, None, None), (1.0, None, None, None))]
    for quota in (
        Quota("bank", "rq", {"requests.cpu": 1.0}, {"requests.cpu": 1.0}),
        Quota("shop", "rq", {"pods": 1.0}, {}),
    ):
        assert admitted(rows, inventory(quotas=(quota,))) == rows


def test_another_clusters_rows_are_not_touched():
    rows = [row((0.5, None, None, None), (9.0, None, None, None))]
    other = replace(inventory(nodes=(Node("n", 1.0, 1.0),)), cluster="test")
    assert admitted(rows, other) == rows


def test_a_vertical_autoscaler_that_is_on_is_told():
    (on,) = admitted([row((0.5, None, None, None), (1.0, None, None, None), vertical="Recreate")], inventory())
    assert any("VerticalPodAutoscaler is Recreate" in note for note in on.notes)
    (off,) = admitted([row((0.5, None, None, None), (1.0, None, None, None), vertical="Off")], inventory())
    assert off.notes == ()


def test_what_is_kept_as_it_is_is_not_moved():
    kept = replace(row((5.0, 6.0, None, None), (5.0, 6.0, None, None)), verdict=Verdict.KEEP)
    assert admitted([kept], inventory(bounds=(bounds(most=1.0),))) == [kept]


def test_the_autoscaler_of_a_row_survives():
    scaler = Autoscaler("web", 1, 3, ())
    sized = row((0.5, None, None, None), (1.0, None, None, None))
    sized = replace(sized, declared=replace(sized.declared, autoscaler=scaler))
    assert admitted([sized], inventory())[0].declared.autoscaler is scaler


# --- what a review found -----------------------------------------------------------


def test_a_raise_that_a_quota_keeps_back_does_not_leave_a_limit_below_its_request():
    quota = Quota("shop", "rq", {"limits.memory": 400 * MIB}, {"limits.memory": 400 * MIB})
    sized = row((None, None, 100 * MIB, 200 * MIB), (None, None, 480 * MIB, 600 * MIB))
    target, _ = of(admitted([sized], inventory(quotas=(quota,))))
    assert target.memory_request_bytes <= target.memory_limit_bytes == 200 * MIB


def test_a_guaranteed_pod_stays_one_though_a_quota_or_a_node_keeps_one_of_the_pair_back():
    sized = row((1.0, 1.0, 512 * MIB, 512 * MIB), (1.0, 1.0, 1499 * MIB, 1499 * MIB))
    for more in (
        {"quotas": (Quota("shop", "rq", {"limits.memory": 2**30}, {"limits.memory": 2**30}),)},
        {"nodes": (Node("n", 4.0, 900_000 * 1024),)},
    ):
        target, _ = of(admitted([sized], inventory(sized, **more)))
        assert target.memory_request_bytes == target.memory_limit_bytes


def test_what_is_not_to_be_exceeded_is_rounded_down():
    sized = row((None, None, 100 * MIB, None), (None, None, 2**31, None))
    target, _ = of(admitted([sized], inventory(bounds=(bounds("memory", most=1e9),))))
    assert target.memory_request_bytes == 953 * MIB
    target, _ = of(admitted([sized], inventory(nodes=(Node("n", 4.0, 900_000 * 1024),))))
    assert target.memory_request_bytes == 878 * MIB


def test_under_a_quota_on_limits_none_is_removed():
    quota = Quota("shop", "rq", {"limits.cpu": 8.0}, {"limits.cpu": 2.0})
    sized = replace(row((0.5, 1.0, None, None), (0.3, None, None, None)), unset=frozenset({"cpu_limit_cores"}))
    (found,) = admitted([sized], inventory(quotas=(quota,)))
    assert found.target.cpu_limit_cores == 1.0
    assert found.unset == frozenset()
    assert "wants a limit of every container" in found.reasons["cpu_limit_cores"]
