import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.histogram import DELAY, LATENCY, Histogram, UnknownLayout

layouts = st.sampled_from([LATENCY, DELAY])
latencies = st.lists(st.floats(2e-6, 60), min_size=1, max_size=200)


def of(values):
    return Histogram.of(LATENCY, values)


@given(st.floats(2e-6, 60))
def test_a_value_comes_back_within_the_stated_relative_error(value):
    back = LATENCY.middle_seconds(LATENCY.bucket_of(value))
    assert abs(back - value) / value <= LATENCY.relative_error + 1e-9
    assert LATENCY.relative_error <= 0.05


@given(layouts, st.floats(0, 100))
def test_a_value_lies_between_the_edges_of_its_bucket(layout, value):
    bucket = layout.bucket_of(value)
    assert layout.lower_seconds(bucket) <= value + 1e-12
    if bucket < layout.buckets - 1:
        assert value < layout.lower_seconds(bucket + 1) + 1e-12


@given(layouts)
def test_edges_ascend_without_gaps(layout):
    edges = [layout.lower_seconds(bucket) for bucket in range(layout.buckets + 1)]
    assert all(a < b for a, b in itertools.pairwise(edges))


@given(latencies, st.floats(0.01, 1))
def test_a_quantile_is_within_the_error_of_the_nearest_rank(values, quantile):
    exact = sorted(values)[max(0, math.ceil(quantile * len(values) - 1e-9) - 1)]
    assert of(values).quantile_seconds(quantile) == pytest.approx(exact, rel=LATENCY.relative_error + 1e-9)


@given(latencies, latencies, latencies)
def test_the_order_of_merging_does_not_matter(a, b, c):
    assert of(a) + (of(b) + of(c)) == (of(c) + of(a)) + of(b) == of(a + b + c)


@given(latencies)
def test_bytes_keep_everything(values):
    assert Histogram.from_bytes(of(values).to_bytes()) == of(values)


def test_an_empty_histogram_has_no_quantile():
    assert Histogram(LATENCY).quantile_seconds(0.95) is None


@pytest.mark.parametrize("data", [b"", b"\x07\x00", b"\x01\x00abc"])
def test_an_unknown_layout_is_refused(data):
    with pytest.raises(UnknownLayout):
        Histogram.from_bytes(data)


def test_histograms_of_different_layouts_do_not_add():
    with pytest.raises(ValueError, match="cannot add"):
        Histogram.merged(LATENCY, [Histogram(DELAY, {1: 1})])
