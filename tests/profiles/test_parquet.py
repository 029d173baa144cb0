"""The folder of Parquet files: what is written is read, and what cannot be read is said in a sentence."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profiles.columns import USAGE, usage_of
from profiles.errors import StoreError
from profiles.histogram import DELAY, LATENCY, Histogram
from profiles.limit_bank import Candidate, LimitBank
from profiles.parquet import ParquetReader, ParquetWriter
from profiles.rollup import export_store
from profiles.schema import Identity, TrafficRow, UsageRow, Window
from profiles.sqlite import StoreReader, StoreWriter
from profiles.tables import IDENTITY, SCHEMAS, USAGE_NUMBERS
from recommender.history import busiest_rows

KEY = ("c", "shop", "Deployment", "web", "main")
EMPTY = {name: [] for name in SCHEMAS["routes"].names if name not in IDENTITY}


def usage(rows=3, **columns):
    made = {name: [None] * rows for name in USAGE_NUMBERS}
    made |= {"instance": ["pod-a"] * rows, "unix_seconds": [1_700_000_040 + 60 * row for row in range(rows)]}
    made |= {"duration_seconds": [60.0] * rows, "requests": [7] * rows, "errors": [0] * rows}
    return made | columns


def profiles(**columns):
    bins = np.array([(3, 50)], [("b", "<u2"), ("c", "<u4")]).tobytes()
    latency = Histogram.of(LATENCY, [0.01] * 21).to_bytes()
    return {
        "unix_seconds": [1_700_000_040],
        "busiest": [True],
        "cpu_limit_cores": [None],
        "limit_since_unix_seconds": [1_700_000_040],
        "rows": [3],
        "seconds": [180.0],
        "cpu_seconds": [1.5],
        "latency": [latency],
        "limit_bank": [None],
        "burst_bins": [bins],
    } | columns


RECORDING = {
    "start_unix_seconds": 1.7e9,
    "end_unix_seconds": 1.7e9 + 180,
    "seconds": 180.0,
    "windows": 3,
    "clock_steps": 0,
    "lost": '{"table_full": 2}',
    "agent": "{}",
}


def write(folder, keys=(KEY,), prefix="host", per_file=64, recordings=(RECORDING,), **tables):
    with ParquetWriter(folder, prefix, per_file) as writer:
        for key in keys:
            writer.write(key, {"usage": usage(), "profiles": profiles(), "routes": EMPTY} | tables)
        writer.finish(list(recordings))
    return folder


def test_what_is_written_is_read_container_by_container_in_order_of_their_names(tmp_path):
    keys = [("c", "shop", "Deployment", name, "main") for name in ("web", "api", "cart", "db", "auth")]
    reader = ParquetReader(write(tmp_path, keys, per_file=2))
    assert [each.name for each in reader.containers] == [
        f"shop/{name}/main" for name in ("api", "auth", "cart", "db", "web")
    ]
    assert len(list((tmp_path / "usage").iterdir())) == 3
    table = reader.containers[0].read("usage")
    assert table.column("requests").to_pylist() == [7, 7, 7]
    assert table.column("unix_seconds").to_pylist() == [1_700_000_040, 1_700_000_100, 1_700_000_160]
    assert table.column("cpu_cores").null_count == 3
    assert table.schema.names == [name for name in SCHEMAS["usage"].names if name not in IDENTITY]
    assert reader.recordings() == [RECORDING | {"source": None, "files": 9}]
    assert reader.containers[0].read("routes").num_rows == 0


def test_a_container_on_two_nodes_is_one_container(tmp_path):
    write(tmp_path, prefix="a")
    write(tmp_path, prefix="b", usage=usage(2, instance=["pod-b"] * 2))
    reader = ParquetReader(tmp_path)
    (container,) = reader.containers
    assert container.read("usage").column("instance").to_pylist() == ["pod-a"] * 3 + ["pod-b"] * 2
    assert len(reader.recordings()) == 2


def test_an_export_of_the_same_name_takes_the_place_of_the_one_before(tmp_path):
    keys = [("c", "shop", "Deployment", f"web-{number}", "main") for number in range(4)]
    write(tmp_path, keys, per_file=1)
    write(tmp_path, prefix="other")
    write(tmp_path, keys[:2], per_file=1)
    assert len(ParquetReader(tmp_path).containers) == 3
    assert not list(tmp_path.rglob("*.part"))


def test_an_export_that_does_not_finish_leaves_nothing(tmp_path):
    def fail():
        with ParquetWriter(tmp_path, "host") as writer:
            writer.write(KEY, {"usage": usage()})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def truncated(folder):
    path = next((folder / "usage").iterdir())
    path.write_bytes(path.read_bytes()[:-40])


def foreign(folder):
    pq.write_table(pa.table({"a": [1]}), folder / "usage" / "other.parquet")


def no_parquet(folder):
    (folder / "profiles" / "notes.parquet").write_text("not Parquet")


def empty_file(folder):
    (folder / "usage" / "empty.parquet").touch()


def rewritten(folder, change):
    path = next((folder / "usage").iterdir())
    table = change(pq.read_table(path))
    pq.write_table(table, path)


def other_version(folder):
    rewritten(folder, lambda table: table.replace_schema_metadata({b"headroom.contract": b"99"}))


def two_in_one_group(folder):
    def change(table):
        schema = table.schema
        names = pa.array(["web", "api", "web"]).dictionary_encode()
        return table.set_column(schema.get_field_index("workload"), "workload", names).replace_schema_metadata(
            schema.metadata
        )

    rewritten(folder, change)


def without_a_column(folder):
    rewritten(folder, lambda table: table.drop_columns(["requests"]))


def other_type(folder):
    def change(table):
        place = table.schema.get_field_index("requests")
        return table.set_column(place, "requests", table.column("requests").cast(pa.float64()))

    rewritten(folder, change)


def usage_gone(folder):
    write(folder, [("c", "shop", "Deployment", "api", "main")], prefix="second")
    (folder / "usage" / "second-00000.parquet").unlink()


def no_usage(folder):
    for table in ("usage", "profiles"):
        for path in (folder / table).iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, "is damaged or no Parquet file"),
        (no_parquet, "notes.parquet is damaged or no Parquet file"),
        (empty_file, "empty.parquet is damaged or no Parquet file"),
        (foreign, "other.parquet is a Parquet file, but not of a headroom store"),
        (other_version, "has version 99 of the profile contract; this headroom reads version"),
        (two_in_one_group, "does not hold one container: another tool rewrote it"),
        (without_a_column, "has no column requests"),
        (other_type, "has double as column requests"),
        (usage_gone, "has profiles of shop/api/main but no usage of it: a file is missing"),
        (no_usage, "holds no usage"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_a_next_step(tmp_path, damage, words):
    damage(write(tmp_path))
    with pytest.raises(StoreError) as caught:
        ParquetReader(tmp_path)
    assert words in caught.value.sentence
    assert caught.value.sentence.endswith(".")
    assert caught.value.next_step


def test_pages_that_are_damaged_are_found_when_they_are_read(tmp_path):
    path = next((write(tmp_path) / "usage").iterdir())
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="is damaged or no Parquet file"):
        ParquetReader(tmp_path).containers[0].read("usage")


def test_a_folder_that_is_missing_and_recordings_that_are(tmp_path):
    with pytest.raises(StoreError, match="There is no folder"):
        ParquetReader(tmp_path / "no")
    write(tmp_path, recordings=[])
    with pytest.raises(StoreError, match="does not say what was recorded"):
        ParquetReader(tmp_path).recordings()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        ParquetWriter(tmp_path / "file", "host")


# --- roll-up ---------------------------------------------------------------------


def bank(requests, scale=1):
    candidates = tuple(
        Candidate(
            limit,
            3 * scale,
            2 * scale,
            Histogram(DELAY, {5: 100 * scale, 9: scale}),
            Histogram(DELAY, {5: 40 * scale}),
        )
        for limit in (0.1, 0.2)
    )
    return LimitBank(10 * scale, 1000 * scale, requests > 0, requests, 300 * scale, candidates)


def recorded_minutes(path, windows=12, start=1_700_000_040.0):
    """Two minutes of 10 s windows; the second has more traffic, and half way a limit."""
    web = Identity(*KEY, "pod-a")
    writer = StoreWriter(path)
    for number in range(windows):
        minute, count = number // 6, 10 + 100 * (number // 6)
        ok, bad = ([0.010] * count, 200), ([0.1], 503)
        traffic = [
            TrafficRow(web, "server", "http1", False, "GET", "/", code, Histogram.of(LATENCY, times), sum(times), 1, 1)
            for times, code in (ok, bad)
        ]
        waited = Histogram.of(LATENCY, [9.0, 9.0])
        traffic.append(TrafficRow(web, "server", "http1", False, "GET", "/", 0, waited, 18.0, 1, 0, "reset"))
        row = UsageRow(
            web,
            1.0 + number,
            bank(count + 1),
            {2: 5},
            periods=100 if minute else None,
            throttled_periods=1 if minute else None,
            memory_working_set_bytes=1000 * (number % 6),
            memory_file_bytes=number,
            cpu_limit_cores=0.5 if minute else None,
        )
        writer.write(Window(start + 10 * number, 10.0, lost={"late": 1}), traffic, [row])
    writer.close()
    return path


def exported(store, folder, every=60):
    with StoreReader(store) as reader, ParquetWriter(folder, "host") as writer:
        export_store(reader, writer, every, busiest_rows)
    return ParquetReader(folder)


def test_minutes_are_sums_of_counts_highest_memory_and_the_limit_last_in_force(tmp_path):
    reader = exported(recorded_minutes(tmp_path / "s.db"), tmp_path / "out")
    (container,) = reader.containers
    assert container.key == KEY
    first, second = container.read("usage").to_pylist()
    assert (first["unix_seconds"], second["unix_seconds"]) == (1_700_000_040, 1_700_000_100)
    assert (first["duration_seconds"], first["requests"], first["errors"], first["unanswered"]) == (60, 66, 6, 12)
    assert second["requests"] == 6 * 111
    assert first["cpu_cores"] == pytest.approx((1 + 2 + 3 + 4 + 5 + 6) / 60)
    assert (first["memory_working_set_bytes"], first["memory_file_bytes"]) == (5000, 5)
    assert (first["periods"], second["periods"], second["throttled_periods"]) == (None, 600, 6)
    assert (first["cpu_limit_cores"], second["cpu_limit_cores"]) == (None, 0.5)
    assert first["p50_seconds"] == pytest.approx(0.010, rel=0.04)
    (recording,) = reader.recordings()
    assert (recording["windows"], recording["seconds"], recording["lost"]) == (2, 120.0, '{"late": 12}')


def test_heavy_columns_add_up_and_the_busiest_rows_and_each_limit_stand_apart(tmp_path):
    reader = exported(recorded_minutes(tmp_path / "s.db"), tmp_path / "out")
    quiet, busy = reader.containers[0].read("profiles").to_pylist()
    assert (quiet["busiest"], busy["busiest"]) == (False, True)
    assert (quiet["cpu_limit_cores"], busy["cpu_limit_cores"]) == (None, 0.5)
    assert busy["limit_since_unix_seconds"] == 1_700_000_100
    assert (quiet["rows"], quiet["seconds"], quiet["cpu_seconds"]) == (1, 60.0, 21.0)
    assert Histogram.from_bytes(quiet["latency"]).total == 66
    assert LimitBank.from_bytes(busy["limit_bank"]) == LimitBank.merged(bank(111) for _ in range(6))
    whole = usage_of(
        Identity(*KEY, ""),
        dict.fromkeys(USAGE)
        | {"cpu_seconds": 0.0, "limit_bank": busy["limit_bank"], "burst_bins": busy["burst_bins"], "ended": 0},
    )  # fmt: skip
    assert whole.burst_bins == {2: 30}


def test_routes_add_up_over_everything(tmp_path):
    reader = exported(recorded_minutes(tmp_path / "s.db"), tmp_path / "out")
    routes = reader.containers[0].read("routes").to_pylist()
    totals = {(row["status"], row["outcome"]): Histogram.from_bytes(row["latency"]).total for row in routes}
    assert totals == {(0, "reset"): 24, (200, "answered"): 720, (503, "answered"): 12}
    assert routes[2]["latency_seconds_sum"] == pytest.approx(1.2)


def test_a_clock_that_is_set_back_makes_no_minute_twice(tmp_path):
    web = Identity(*KEY, "pod-a")
    writer = StoreWriter(tmp_path / "s.db")
    for start, step in ((1_700_000_040.0, 0.0), (1_700_000_100.0, 0.0), (1_700_000_041.0, -59.0)):
        writer.write(Window(start, 60.0, step), [], [UsageRow(web, 30.0)])
    writer.close()
    reader = exported(tmp_path / "s.db", tmp_path / "out")
    table = reader.containers[0].read("usage")
    assert table.column("unix_seconds").to_pylist() == [1_700_000_040, 1_700_000_100, 1_700_000_160]
    assert table.column("cpu_cores").to_pylist() == [0.5, 0.5, 0.5]
    assert reader.recordings()[0]["clock_steps"] == 1
