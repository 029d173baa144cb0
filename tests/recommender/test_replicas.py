"""What is fast against what is plain."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.memory import _rises
from recommender.replicas import Replica, per_period

known = st.floats(1.0, 1e9)
maybe = st.one_of(known, st.just(math.nan))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(maybe, max_size=30))
def test_rises_are_the_first_known_value_and_each_that_is_higher_than_all_before(values):
    expected, highest = [], -math.inf
    for place, value in enumerate(values):
        if value > highest:
            expected.append(place)
            highest = value
    assert _rises(np.array(values, dtype=float)).tolist() == expected


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 90_000), known), min_size=1, max_size=40),
    st.integers(0, 5000),
    st.sampled_from([3600.0, 7200.0, 86_400.0]),
)
def test_a_period_has_the_highest_value_and_the_median_of_the_readings_in_it(steps, later, horizon):
    """Period k goes from k horizons before the end to k - 1; the end itself is in the first."""
    times = 1.7e9 + np.cumsum([float(step) for step, _ in steps])
    values = np.array([value for _, value in steps])
    end = float(times[-1]) + later
    life = Replica(times, values, values, None, 60.0, None)
    periods = np.maximum(1, np.ceil((end - times) / horizon))
    peaks, medians = per_period([[life]], [], end, horizon, with_medians=True)
    found = sorted(set(periods.tolist()), reverse=True)
    assert peaks.tolist() == [values[periods == period].max() for period in found]
    np.testing.assert_allclose(medians, [np.median(values[periods == period]) for period in found], rtol=1e-12)
