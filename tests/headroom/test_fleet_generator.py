"""The benchmark's generated fleet is a store that the command sizes: a new column must reach it too."""

from benchmarks.fleet import generate
from headroom.sizing import size_store


def test_a_generated_fleet_is_sized(tmp_path):
    rows = generate(tmp_path, 6, days=3)
    recording, sized = size_store(tmp_path, "balanced")
    assert rows == 6 * 3 * 1440
    assert recording.lost == {}
    assert len(sized) == 6
    assert any(row.verdict == "resize" and row.curve is not None for row in sized)
