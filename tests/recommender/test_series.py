import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.series import Coverage, Series


def test_a_clean_series_is_kept_as_it_is():
    series = Series.of("web-0", [60, 120, 180], [0.1, 0.2, 0.3])
    assert series.unix_seconds.tolist() == [60, 120, 180]
    assert series.values.tolist() == [0.1, 0.2, 0.3]
    assert (series.name, series.step_seconds, len(series)) == ("web-0", 60, 3)
    assert series.coverage == Coverage(3, 0, 0, 0, 0, 0, 0, 1.0)


def test_everything_that_is_repaired_is_counted():
    times = [0, 120, 60, 60, 180, 240, 300, 600]
    series = Series.of("web-0", times, [1, 3, 2, 5, np.nan, -1, np.inf, 4])
    assert series.unix_seconds.tolist() == [0, 60, 120, 180, 240, 300, 600]
    np.testing.assert_array_equal(series.values, [1, 5, 3, np.nan, np.nan, np.nan, 4])
    assert series.coverage == Coverage(
        samples=7, missing=1, duplicates=1, negative=1, infinite=1, out_of_order=1, gaps=1, share=4 / 11
    )
    assert series.known.tolist() == [1, 5, 3, 4]
    assert series.without_missing().unix_seconds.tolist() == [0, 60, 120, 600]


def test_of_two_samples_at_one_time_the_larger_known_one_stays():
    series = Series.of("web-0", [60, 60, 0, 0, 0], [np.nan, 2, 1, np.inf, -3])
    assert series.values.tolist() == [1, 2]
    assert (series.coverage.duplicates, series.coverage.infinite, series.coverage.negative) == (3, 1, 1)


def test_minus_infinity_is_infinite_and_not_negative():
    coverage = Series.of("web-0", [0, 1], [-np.inf, 1]).coverage
    assert (coverage.infinite, coverage.negative) == (1, 0)


def test_an_empty_series_and_one_sample_have_no_step():
    empty, one = Series.of("web-0", [], []), Series.of("web-0", [60], [1])
    assert (len(empty), empty.step_seconds, empty.days, empty.coverage.share) == (0, 0, 0, 0)
    assert (len(one), one.step_seconds, one.days, one.coverage.share) == (1, 0, 0, 1)
    assert empty.before(9).known.tolist() == []
    assert Series.of("web-0", [60], [np.nan]).coverage.share == 0


def test_parts_are_views_with_their_borders_at_the_start():
    series = Series.of("web-0", range(0, 600, 60), range(10))
    assert series.before(120).values.tolist() == [0, 1]
    assert series.since(480).values.tolist() == [8, 9]
    assert series.between(60, 180).values.tolist() == [1, 2]
    assert len(series.between(180, 60)) == 0
    part = series.between(60, 180)
    assert np.shares_memory(part.values, series.values)
    assert (part.coverage, part.step_seconds) == (series.coverage, 60)


def test_a_day_of_minutes_is_one_day():
    assert Series.of("web-0", np.arange(1440) * 60.0, np.ones(1440)).days == 1


def test_it_cannot_be_written_to_and_does_not_hold_the_callers_arrays():
    values = np.ones(3)
    series = Series.of("web-0", [0, 60, 120], values)
    values[0] = 7
    assert series.values[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        series.values[0] = 7


@pytest.mark.parametrize(
    ("times", "values"), [([0, 1], [1]), ([[0, 1]], [[1, 2]]), ([0, np.nan], [1, 2]), ([0, np.inf], [1, 2])]
)
def test_what_is_no_series_is_refused_by_name(times, values):
    with pytest.raises(ValueError, match=r"^web-0: "):
        Series.of("web-0", times, values)


samples = st.lists(
    st.tuples(st.integers(-50, 50), st.one_of(st.floats(allow_nan=True, allow_infinity=True, width=32))), max_size=40
)


@given(samples)
def test_whatever_comes_in_the_invariants_hold(pairs):
    series = Series.of("web-0", [time for time, _ in pairs], [value for _, value in pairs])
    assert (np.diff(series.unix_seconds) > 0).all()
    assert (series.known >= 0).all()
    assert np.isfinite(series.known).all()
    assert series.coverage.samples + series.coverage.duplicates == len(pairs)
    assert 0 <= series.coverage.share <= 1


@given(samples, st.randoms())
def test_the_order_in_which_samples_come_does_not_matter(pairs, chance):
    shuffled = list(pairs)
    chance.shuffle(shuffled)
    one, two = (Series.of("web-0", [t for t, _ in each], [v for _, v in each]) for each in (pairs, shuffled))
    np.testing.assert_array_equal(one.unix_seconds, two.unix_seconds)
    np.testing.assert_array_equal(one.values, two.values)


def test_a_million_samples_out_of_order_take_less_than_a_second():
    chance = np.random.default_rng(1)
    times, values = chance.permutation(1_000_000), chance.random(1_000_000)
    start = time.process_time()
    assert len(Series.of("web-0", times, values)) == 1_000_000
    assert time.process_time() - start < 1
