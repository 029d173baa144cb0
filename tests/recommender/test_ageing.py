import numpy as np
import pytest

from recommender.ageing import ageing_of, generations_of
from recommender.leak import find_leak
from recommender.troughs import Life

BEGIN, DAY, STEP = 1.7e9, 86_400.0, 300.0
MIB = 2.0**20


def life(start_day, days, slope=0.0, seed=1, warm=0.0, share=0.01, level=500 * MIB):
    """Memory that starts up within hours by `warm`, then grows by `slope` of its level a day."""
    age = np.arange(int(days * DAY / STEP)) * STEP / DAY
    noise = share * np.random.default_rng(seed).standard_normal(len(age))
    shape = 1 + slope * age - warm * np.exp(-age / 0.2) + noise
    return Life(BEGIN + (start_day + age) * DAY, level * shape)


def restarts(slope, days=3.0, count=4, **shape):
    return [life(number * days, days - 0.01, slope, seed=number, **shape) for number in range(count)]


@pytest.mark.parametrize("slope", [-0.01, 0.0, 0.01])
def test_the_interval_holds_the_common_slope_of_lives_that_start_up(slope):
    inside, of_median = 0, slope / (1 + 1.45 * slope)
    for seed in range(40):
        lives = [life(3 * number, 2.9, slope, seed=10 * seed + number, warm=0.5) for number in range(4)]
        low, high = ageing_of(lives, BEGIN - DAY).interval(0.95)
        inside += low <= of_median <= high
    assert inside >= 34  # of 40; 38 expected


def test_levels_of_lives_are_their_own():
    lives = [life(3 * number, 2.9, 0.02, seed=number, level=(300 + 200 * number) * MIB) for number in range(4)]
    assert ageing_of(lives, BEGIN).slope == pytest.approx(0.02, abs=0.004)  # of the median


def test_one_percent_a_day_is_found_although_no_life_shows_it():
    leaky, stable = restarts(0.01, warm=0.3), restarts(0.0, warm=0.3)
    assert find_leak(leaky).leaking
    assert "in 4 lives" in find_leak(leaky).evidence
    assert not any(find_leak([each]).leaking for each in leaky)
    assert not find_leak(stable).leaking


def test_the_order_of_the_lives_does_not_matter():
    lives = restarts(0.01)
    assert find_leak(lives) == find_leak(lives[::-1])


def test_a_start_that_grows_by_the_logarithm_of_age_is_no_leak():
    age = np.arange(int(4 * DAY / STEP)) * STEP / DAY
    grown = 500 * MIB * (1 + 0.1 * np.log1p(20 * age))
    lives = [
        Life(BEGIN + (4.1 * number + age) * DAY, grown * (1 + 0.003 * np.random.default_rng(number).standard_normal()))
        for number in range(4)
    ]
    assert ageing_of(lives, BEGIN).bends
    assert not find_leak(lives).leaking


def test_replicas_that_move_together_prove_no_more_than_one():
    one = life(0, 14, 0.01)
    single, three = ageing_of([one], BEGIN), ageing_of([one] * 3, BEGIN)
    assert three.slope == pytest.approx(single.slope, rel=0.01)
    assert three.deviation >= 0.95 * single.deviation
    assert generations_of([one] * 3) == 1
    assert generations_of([one, life(5, 3)]) == 2


def test_constant_memory_does_not_age():
    found = ageing_of(restarts(0.0, share=0.0), BEGIN)
    assert found.slope == pytest.approx(0.0, abs=1e-9)
    assert not find_leak(restarts(0.0, share=0.0)).leaking


@pytest.mark.parametrize("lives", [[], [life(0, 0.01)], [life(0, 0.02), life(1, 0.02)]], ids=["none", "short", "two"])
def test_too_little_is_told_so(lives):
    found = ageing_of(lives, BEGIN)
    assert found is None or not found.slope > 10 * found.deviation
    assert not find_leak(lives).leaking
