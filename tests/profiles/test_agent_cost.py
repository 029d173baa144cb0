import pytest

from profiles.agent_cost import cost_over, merged_cost
from profiles.schema import Window


def window(seconds, **agent):
    return Window(0.0, seconds, agent=agent)


USED = {"cpu_seconds": 1.0, "resident_bytes": 5.0, "map_bytes": 7.0}
TIMED = {"program_seconds": 2.0, "request_program_seconds": 1.0, "requests": 1e6, "served": 5e5, "served_seconds": 50.0}


def test_programs_count_over_the_windows_in_which_they_were_timed():
    cost = cost_over([window(10, **USED), window(30, **USED | TIMED | {"resident_bytes": 4.0})])
    assert cost == pytest.approx(
        {
            "cpu_cores": 2 / 40,
            "resident_bytes": 5,
            "map_bytes": 7,
            "program_cores": 2 / 30,
            "program_seconds_per_request": 1e-6,
            "latency_share": 0.01,
        }
    )


def test_without_requests_there_is_no_share_of_them():
    none = {"requests": 0.0, "served": 0.0, "served_seconds": 0.0}
    assert set(cost_over([window(10, **USED | TIMED | none)])) == {
        "cpu_cores", "resident_bytes", "map_bytes", "program_cores"
    }  # fmt: skip


def test_nothing_measured_is_nothing_said():
    assert cost_over([]) == cost_over([window(10)]) == merged_cost([(10, {})]) == {}


def test_recordings_are_averaged_by_their_time():
    both = [
        (10, {"cpu_cores": 0.1, "map_bytes": 9.0}),
        (30, {"cpu_cores": 0.3, "latency_share": 0.5, "map_bytes": 2.0}),
    ]
    assert merged_cost(both) == pytest.approx({"cpu_cores": 0.25, "latency_share": 0.5, "map_bytes": 9})
