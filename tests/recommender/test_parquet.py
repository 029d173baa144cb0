"""A Parquet store gives the histories, and the sizes, that the SQLite store gives."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headroom import fleet
from headroom.keep import Keep
from headroom.sizing import size_store
from profiles.errors import HeadroomError, StoreError
from profiles.histogram import DELAY, LATENCY, Histogram
from profiles.limit_bank import Candidate, LimitBank
from profiles.parquet import ParquetReader, ParquetWriter
from profiles.rollup import export_store
from profiles.sqlite import StoreReader
from profiles.tables import USAGE_NUMBERS
from recommender.evidence import Evidence, Observation
from recommender.history import busiest_rows
from recommender.inputs.parquet import Repairs, read_folder, read_history, stream_histories
from recommender.inputs.store import read_store
from recommender.resources import RESOURCE_NAMES

KEY = ("c", "shop", "Deployment", "web", "main")
RECORDING = {
    "start_unix_seconds": 1.7e9,
    "end_unix_seconds": 1.7e9 + 180,
    "seconds": 180.0,
    "windows": 3,
    "clock_steps": 0,
    "lost": '{"late": 1}',
    "agent": '{"cpu_cores": 0.01, "resident_bytes": 5, "map_bytes": 6}',
}


@pytest.fixture
def both(recorded, tmp_path):
    """The recording that ships with headroom, as SQLite and as Parquet; its windows are of a second."""
    with StoreReader(recorded) as reader, ParquetWriter(tmp_path / "fleet", "host") as writer:
        export_store(reader, writer, 1, busiest_rows)
    return recorded, tmp_path / "fleet"


def same_evidence(one, other):
    np.testing.assert_array_equal(one.latency, other.latency)
    np.testing.assert_allclose(one.cpu_seconds, other.cpu_seconds, rtol=1e-12)
    np.testing.assert_allclose(one.seconds, other.seconds, rtol=1e-12)
    assert (one.banks is None) == (other.banks is None)
    if one.banks is not None:
        assert one.banks.by_request == other.banks.by_request
        for name in ("limits_cores", "periods", "throttled", "work", "delayed"):
            np.testing.assert_array_equal(getattr(one.banks, name), getattr(other.banks, name), err_msg=name)


def test_the_histories_are_those_of_the_sqlite_store(both):
    sqlite, parquet = (read(path) for read, path in zip((read_store, read_folder), both, strict=True))
    assert (sqlite.windows, sqlite.seconds, sqlite.lost) == (parquet.windows, parquet.seconds, parquet.lost)
    assert sqlite.agent == pytest.approx(parquet.agent)
    for one, other in zip(sqlite.histories, parquet.histories, strict=True):
        assert one.container == other.container
        assert (one.windows, one.instances, one.requests) == (other.windows, other.instances, other.requests)
        assert (one.busiest_windows, one.burst_bins, one.routes) == (
            other.busiest_windows,
            other.burst_bins,
            other.routes,
        )
        same_evidence(one.everything, other.everything)
        same_evidence(one.busiest, other.busiest)
        names = [name for name in one.frame.columns if name in other.frame.columns and name != "instance"]
        assert {"requests", "errors", "cpu_cores", "p95_seconds", "memory_working_set_bytes", "periods"} <= set(names)
        for name in set(names) - {"start_unix_seconds"}:
            np.testing.assert_allclose(one.frame[name], other.frame[name], rtol=1e-6, err_msg=name)
        assert list(other.frame["instance"].astype(str)) == list(one.frame["instance"])


def test_the_recommendations_are_those_of_the_sqlite_store(both):
    (_, sqlite), (_, parquet) = (size_store(path, "balanced") for path in both)
    for one, other in zip(sqlite, parquet, strict=True):
        assert (one.verdict, one.target, one.current) == (other.verdict, other.target, other.current)
        assert one.classification.name == other.classification.name
        for name in RESOURCE_NAMES:
            before, after = getattr(one.uncapped, name), getattr(other.uncapped, name)
            assert before == after or before == pytest.approx(after, rel=1e-4)
        assert one.limit_adds == other.limit_adds or one.limit_adds == pytest.approx(other.limit_adds, rel=1e-3)


@pytest.mark.parametrize("keep", [Keep.FIGURES, Keep.SIZES])
def test_what_is_kept_says_the_same_as_everything(both, keep):
    _, whole = size_store(both[1], "balanced")
    recording, rows = size_store(both[1], "balanced", keep=keep)
    assert recording.histories == ()
    for one, other in zip(whole, rows, strict=True):
        assert (one.target, one.reasons, one.notes) == (other.target, other.reasons, other.notes)
        assert (one.limit_adds, one.request_adds) == (other.limit_adds, other.request_adds)
        before, after = one.history, other.history
        assert (before.windows, before.seconds, before.instances, before.requests) == (
            after.windows,
            after.seconds,
            after.instances,
            after.requests,
        )
        assert before.frame["errors"].sum() == after.frame["errors"].sum()
        assert before.everything.histogram == after.everything.histogram
        assert len(after.frame) == 1
        if keep is Keep.FIGURES:
            assert one.curve == other.curve


def test_two_processes_say_what_one_says_in_the_same_order(both, monkeypatch):
    _, alone = size_store(both[1], "balanced", keep=Keep.SIZES)
    monkeypatch.setattr(fleet, "_SMALL_BYTES", 1)
    monkeypatch.setattr(fleet, "_CHUNK", 2)
    _, together = size_store(both[1], "balanced", keep=Keep.SIZES)
    assert [(row.container, row.target, row.limit_adds) for row in alone] == [
        (row.container, row.target, row.limit_adds) for row in together
    ]


def test_one_container_is_read_alone(both):
    _, rows = size_store(both[1], "balanced", only="checkout")
    assert [row.container.workload for row in rows] == ["checkout"]
    _, rows = size_store(both[1], "balanced", only="chekout")
    assert len(rows) == 5


def test_the_commands_take_the_folder(both, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "headroom", *map(str, arguments), "--store", str(both[1])]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "checkout" in run("recommend").stdout
    assert len(json.loads(run("recommend", "-o", "json").stdout)["recommendations"]) == 5
    assert "checkout" in run("explain", "checkout").stdout
    assert len(run("patch", "--out", tmp_path / "p").stdout.splitlines()) == 5
    assert run("report", "--out", tmp_path / "r.html").returncode == 0
    exported = subprocess.run(
        [sys.executable, "-m", "headroom", "export", "--store", str(both[0]), "--out", str(tmp_path / "again")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (exported.returncode, exported.stdout) == (0, "")
    assert exported.stderr.startswith("5 containers, 10 rows of 60 s")


# --- what the arrays are ------------------------------------------------------------

counts = st.dictionaries(st.integers(1, DELAY.buckets - 1), st.integers(1, 2**40), max_size=6)


@st.composite
def observations(draw):
    made = []
    for _ in range(draw(st.integers(1, 20))):
        latency = Histogram(LATENCY, draw(st.dictionaries(st.integers(0, 431), st.integers(1, 9), max_size=4)))
        bank = None
        if draw(st.booleans()):
            candidates = tuple(
                Candidate(
                    limit,
                    draw(st.integers(0, 99)),
                    draw(st.integers(0, 99)),
                    Histogram(DELAY, draw(counts)),
                    Histogram(DELAY, draw(counts)),
                )
                for limit in (0.05, 0.1, 0.2)
            )
            bank = LimitBank(
                draw(st.integers(0, 999)),
                draw(st.integers(0, 10**9)),
                draw(st.booleans()),
                draw(st.integers(0, 2)),
                draw(st.integers(0, 999)),
                candidates,
            )
        made.append(Observation(latency, bank, draw(st.floats(0, 10)), 60.0))
    return made


def written(folder, usage=None, profiles=None):
    rows = len(usage["unix_seconds"]) if usage else 3
    plain = {
        "instance": ["pod"] * rows,
        "duration_seconds": [60.0] * rows,
        "requests": [5] * rows,
        "errors": [0] * rows,
    }
    numbers = dict.fromkeys(USAGE_NUMBERS, pa.nulls(rows))
    made = numbers | plain | {"unix_seconds": [60 * row for row in range(rows)]} | (usage or {})
    with ParquetWriter(folder, "host") as writer:
        writer.write(KEY, {"usage": made} | ({"profiles": profiles} if profiles else {}))
        writer.finish([RECORDING])
    (stored,) = ParquetReader(folder).containers
    return stored


def profile_rows(made, busiest=None):
    rows = len(made)
    return {
        "unix_seconds": [60 * row for row in range(rows)],
        "busiest": busiest or [False] * rows,
        "cpu_limit_cores": [None] * rows,
        "limit_since_unix_seconds": [0] * rows,
        "rows": [1] * rows,
        "seconds": [each.seconds for each in made],
        "cpu_seconds": [each.cpu_seconds for each in made],
        "latency": [each.latency.to_bytes() for each in made],
        "limit_bank": [each.bank.to_bytes() if each.bank else None for each in made],
        "burst_bins": [b""] * rows,
    }


@settings(max_examples=40, deadline=None)
@given(observations())
def test_blobs_decode_to_what_the_objects_add_up_to(tmp_path_factory, made):
    busiest = [index % 3 == 0 for index in range(len(made))]
    stored = written(tmp_path_factory.mktemp("store"), profiles=profile_rows(made, busiest))
    history = read_history(stored, Repairs())
    same_evidence(history.everything, Evidence.of(made))
    same_evidence(history.busiest, Evidence.of(made[::3]))
    assert history.busiest_windows == len(made[::3])


def test_a_change_of_the_limit_makes_regimes(tmp_path):
    made = [Observation(Histogram(LATENCY, {9: 10 + row}), None, 1.0, 60.0) for row in range(6)]
    rows = profile_rows(made) | {
        "cpu_limit_cores": [None, None, 0.5, 0.5, 0.5, 1.0],
        "limit_since_unix_seconds": [0, 0, 120, 120, 240, 300],  # at 240 another export begins
    }
    usage = {
        "unix_seconds": [60 * row for row in range(6)],
        "periods": [600] * 6,
        "throttled_periods": [0, 0, 1, 2, 3, 0],
    }
    history = read_history(written(tmp_path, usage, rows), Repairs())
    assert [each.limit_cores for each in history.regimes] == [None, 0.5, 1.0]
    assert [each.start_unix_seconds for each in history.regimes] == [0, 120, 300]
    assert [each.throttled_periods for each in history.regimes] == [0, 6, 0]
    assert [each.evidence.latency.sum() for each in history.regimes] == [21, 39, 15]


# --- what is wrong with rows is repaired and counted ----------------------------------


def repaired(repairs):
    return {name: count for name, count in repairs.items() if count and name != "containers_without_profiles"}


def test_rows_out_of_order_are_sorted_and_counted(tmp_path):
    repairs = Repairs()
    stored = written(tmp_path, {"unix_seconds": [120, 0, 60], "requests": [3, 1, 2]})
    frame = read_history(stored, repairs).frame
    assert list(frame["start_unix_seconds"]) == [0, 60, 120]
    assert list(frame["requests"]) == [1, 2, 3]
    assert repairs["rows_out_of_order"] == 1


def test_of_rows_that_are_there_twice_the_larger_values_count(tmp_path):
    repairs = Repairs()
    columns = {"unix_seconds": [0, 60, 60], "requests": [1, 2, 3], "cpu_cores": [0.1, 0.9, None]}
    frame = read_history(written(tmp_path, columns), repairs).frame
    assert list(frame["requests"]) == [1, 3]
    assert frame["cpu_cores"].iloc[1] == pytest.approx(0.9)
    assert frame["requests_per_second"].iloc[1] == pytest.approx(3 / 60)
    assert repaired(repairs) == {"rows_duplicated": 1}


def test_the_same_minute_of_two_instances_is_two_rows(tmp_path):
    repairs = Repairs()
    frame = read_history(written(tmp_path, {"unix_seconds": [0, 0, 60], "instance": ["a", "b", "a"]}), repairs).frame
    assert list(frame["instance"].astype(str)) == ["a", "b", "a"]
    assert repaired(repairs) == {}


@pytest.mark.parametrize("value", [float("nan"), -1.0, float("inf"), 1e30])
def test_values_that_cannot_be_are_unknown_and_counted(tmp_path, value):
    repairs = Repairs()
    columns = {"unix_seconds": [0, 60, 120], "cpu_cores": pa.array([0.1, value, None], pa.float32())}
    frame = read_history(written(tmp_path, columns), repairs).frame
    assert list(frame["cpu_cores"].isna()) == [False, True, True]
    assert repaired(repairs) == {"values_impossible": 1}


def test_a_row_without_duration_is_left_out_and_counted(tmp_path):
    repairs = Repairs()
    columns = {"unix_seconds": [0, 60, 120], "duration_seconds": [60.0, 0.0, float("nan")]}
    frame = read_history(written(tmp_path, columns), repairs).frame
    assert list(frame["start_unix_seconds"]) == [0]
    assert repairs["rows_without_duration"] == 2


def test_what_was_repaired_is_said_with_what_was_lost(tmp_path):
    written(tmp_path, {"unix_seconds": [60, 0, 120]})
    recording = read_folder(tmp_path)
    assert recording.lost == {"late": 1, "stored_containers_without_profiles": 1, "stored_rows_out_of_order": 1}
    assert recording.agent == {"cpu_cores": 0.01, "resident_bytes": 5, "map_bytes": 6}


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("limit_bank", b"\x09abc", "unknown limit bank version"),
        ("limit_bank", None, ""),
        ("latency", b"\x01\x00\x01", "unknown latency histogram"),
        ("latency", b"\x01\x00\xff\xff" + bytes(8), "past its last"),
        ("burst_bins", b"\x01", "end too early"),
        ("burst_bins", b"\xff\xff" + bytes(4), "does not exist"),
        ("cpu_seconds", -1.0, "cpu_seconds is -1"),
    ],
)
def test_profiles_that_cannot_be_are_one_sentence(tmp_path, column, value, words):
    made = [Observation(Histogram(LATENCY, {9: 1}), None, 1.0, 60.0)]
    stored = written(tmp_path, profiles=profile_rows(made) | {column: [value]})
    if not words:
        assert read_history(stored, Repairs()).everything.banks is None
        return
    with pytest.raises(StoreError, match=words) as caught:
        read_history(stored, Repairs())
    assert "shop/web/main" in caught.value.sentence


def test_a_bank_that_is_cut_or_unlike_the_others_is_refused(tmp_path):
    def bank(*limits):
        return LimitBank(
            1,
            2,
            True,
            3,
            0,
            tuple(Candidate(each, 1, 0, Histogram(DELAY, {3: 4}), Histogram(DELAY)) for each in limits),
        )

    made = [Observation(Histogram(LATENCY, {9: 1}), bank(*each), 1.0, 60.0) for each in ((0.1, 0.2), (0.1, 0.3))]
    with pytest.raises(StoreError, match="different candidates"):
        read_history(written(tmp_path, profiles=profile_rows(made)), Repairs())
    cut = profile_rows(made[:1]) | {"limit_bank": [made[0].bank.to_bytes()[:-3]]}
    with pytest.raises(StoreError, match="ends too early"):
        read_history(written(tmp_path, profiles=cut), Repairs())


def test_a_damaged_file_stops_both_processes_with_its_sentence(both, monkeypatch):
    path = next((both[1] / "usage").iterdir())
    content = bytearray(path.read_bytes())
    content[4:3000] = b"\xff" * 2996
    path.write_bytes(bytes(content))
    monkeypatch.setattr(fleet, "_SMALL_BYTES", 1)
    with pytest.raises(HeadroomError, match="is damaged or no Parquet file") as caught:
        size_store(both[1], "balanced", keep=Keep.SIZES)
    assert caught.value.next_step


def test_one_container_at_a_time_is_in_memory(both):
    stream = stream_histories(both[1])
    assert next(stream).container.workload == "checkout"
    assert [each.container.workload for each in stream] == ["idle", "leaky", "nginx-gzip", "nginx-static"]


def test_time_that_two_nodes_recorded_counts_once(tmp_path):
    for prefix, start in (("a", 0.0), ("b", 60.0)):
        with ParquetWriter(tmp_path, prefix) as writer:
            writer.finish([RECORDING | {"start_unix_seconds": start, "end_unix_seconds": start + 180}])
    written(tmp_path)
    recording = read_folder(tmp_path)
    assert recording.start_unix_seconds == 0.0
    assert recording.seconds == pytest.approx(240 + 180)  # and the third, later
