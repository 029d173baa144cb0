import pytest

from policies.schema import load_policies
from recommender.guardrails import at_least_floor, keep_unless_worth_it, never_cut, raised_first, rounded_up
from recommender.size import Sized

POLICY = load_policies("balanced")[0]


def sized(value, lower=None, upper=None, **kinds):
    return Sized(value, "model", lower=lower, upper=upper, **kinds)


def test_the_floor_is_for_cpu():
    assert at_least_floor("cpu_request_cores", sized(0.001), POLICY).value == 0.010
    assert at_least_floor("memory_request_bytes", sized(0.001), POLICY).value == 0.001


def test_rounding_never_goes_down():
    assert rounded_up("cpu_request_cores", sized(0.1001)).value == 0.105


@pytest.mark.parametrize(("value", "expected"), [(0.5, 1.5), (1.5, 1.5), (3.0, 3.0)])
def test_a_limit_that_cuts_is_raised_but_not_above_what_is_needed(value, expected):
    assert raised_first(sized(value), 1.0, 1.5, "throttled").value == expected


def test_without_a_limit_there_is_nothing_to_raise():
    assert raised_first(sized(0.5), None, 1.5, "throttled").value == 0.5


def test_never_cut_keeps_what_there_is_and_lets_a_limit_go():
    assert never_cut(sized(0.5), 1.0, "short").value == 1.0
    assert never_cut(sized(2.0), 1.0, "short").value == 2.0
    assert never_cut(sized(None, unset=True), 1.0, "short").value is None  # no limit at all is no cut


@pytest.mark.parametrize(
    ("value", "upper", "current", "expected"),
    [
        (1.0, 1.0, 1.05, 1.05),  # within the band
        (1.0, 1.0, 0.95, 0.95),
        (1.0, 1.4, 1.3, 1.3),  # not proven that less is enough
        (1.0, 1.2, 1.3, 1.0),
        (1.0, 1.4, 0.8, 1.0),  # too small is never kept
        (1.0, None, None, 1.0),
    ],
)
def test_a_change_has_to_be_worth_it(value, upper, current, expected):
    assert keep_unless_worth_it(sized(value, value, upper), current, POLICY).value == expected


def test_a_value_that_leaves_half_the_margin_is_enough():
    held = Sized(1.25, "model", lower=1.0, upper=1.25, enough=1.1)
    assert keep_unless_worth_it(held, 1.12, POLICY).value == 1.12
    assert keep_unless_worth_it(held, 1.05, POLICY).value == 1.25
