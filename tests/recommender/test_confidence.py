import dataclasses

import pytest

from recommender.confidence import confidence_of

HOUR, DAY = 3600.0, 86400.0


@pytest.mark.parametrize(
    ("seconds", "level", "said"),
    [
        (60, "low", "no daily peak"),
        (2 * HOUR, "low", "no daily peak"),
        (DAY, "medium", "no whole week"),
        (7 * DAY, "medium", "every weekday seen once"),
        (14 * DAY, "high", "every weekday seen twice"),
    ],
)
def test_what_is_said_by_the_time_seen(make_history, seconds, level, said):
    found = confidence_of(make_history(windows=60, seconds=seconds / 60, rate=lambda _: 1.0))
    assert found.level == level
    assert said in found.reason
    assert (found.missing is None) == (level == "high")


def test_the_interval_narrows_with_time(make_history):
    widths = [
        confidence_of(make_history(windows=60, seconds=each / 60, rate=lambda _: 1.0)).widening
        for each in (60, 2 * HOUR, 2 * DAY, 8 * DAY, 15 * DAY)
    ]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 5


def test_gaps_do_not_count_and_are_said(make_history):
    history = make_history(windows=60, seconds=HOUR, rate=lambda _: 1.0)
    kept = history.frame[(history.frame["window"] < 10) | (history.frame["window"] >= 50)]
    found = confidence_of(dataclasses.replace(history, frame=kept))
    assert found.reason.startswith("20 h recorded")
    assert "67% of the time" in found.reason
