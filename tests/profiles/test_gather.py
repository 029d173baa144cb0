"""What nodes push in pieces and one store gathers is what one export has: nothing less, nothing twice."""

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.depot import Depot
from profiles.errors import StoreError
from profiles.gather import forget
from profiles.histogram import DELAY, Histogram
from profiles.limit_bank import Candidate, LimitBank
from profiles.parquet import ParquetReader, ParquetWriter
from profiles.parts import Part, parts_in
from profiles.rollup import export_store
from profiles.schema import HOST_NAMESPACE, Identity, UsageRow, Window
from profiles.sqlite import StoreReader, StoreWriter
from recommender.history import busiest_rows
from tests.cluster.nodes import (
    DAY,
    HOUR,
    MIDNIGHT,
    contents,
    exported,
    gathered,
    pushed,
    record,
    rows_told_twice,
    totals,
)


def profiles_of(folder):
    (container,) = ParquetReader(folder).containers
    return container.read("profiles").to_pylist()


def a_piece(depot, store, node, begin, end):
    """A part that push would not make so."""
    part = Part("node", "prod", node, begin, end)
    with StoreReader(store) as reader:
        ids = [number for number, window in reader.windows() if begin <= window.start_unix_seconds < end]
    with tempfile.TemporaryDirectory() as name:
        with StoreReader(store, min(ids) - 1, max(ids)) as reader, ParquetWriter(Path(name), part.prefix) as writer:
            export_store(reader, writer, 60, busiest_rows, HOUR)
        Depot.at(str(depot)).put(part, Path(name))


MINUTES = st.lists(st.integers(1, 25), min_size=1, max_size=3)


@settings(max_examples=10, deadline=None)
@given(first=MINUTES, second=MINUTES, pulls=st.sets(st.integers(0, 2)), begin=st.integers(-60, 0))
def test_pieces_of_two_nodes_gathered_whenever_add_up_to_one_export(first, second, pulls, begin):
    with tempfile.TemporaryDirectory() as name:
        tmp, end = Path(name), dict.fromkeys(("one", "two"), MIDNIGHT + 60 * begin)
        stores = {node: tmp / f"{node}.db" for node in end}
        for number in range(3):
            for node, pieces in (("one", first), ("two", second)):
                if number < len(pieces):
                    until = end[node] + 60 * pieces[number]
                    record(stores[node], end[node], until, instance=node, names=("web", "api"))
                    end[node] = until
                    pushed(tmp / "depot", **{node: stores[node]})
            if number in pulls:
                gathered(tmp / "depot", tmp / "store")
        gathered(tmp / "depot", tmp / "store")
        assert totals(tmp / "store") == totals(exported(tmp / "export", *stores.values()))
        assert not rows_told_twice(tmp / "store")


def test_gathering_twice_changes_no_file(tmp_path):
    depot = pushed(tmp_path / "depot", one=record(tmp_path / "one.db", MIDNIGHT - HOUR, MIDNIGHT + HOUR))
    assert gathered(depot, tmp_path / "store").parts == 2
    before = contents(tmp_path / "store")
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "store").rglob("*.parquet"))]
    assert gathered(depot, tmp_path / "store").parts == 0
    assert contents(tmp_path / "store") == before
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "store").rglob("*.parquet"))] == times


def test_a_day_of_all_nodes_is_one_part_and_midnight_parts_two(tmp_path):
    stores = {node: record(tmp_path / node, MIDNIGHT - 300, MIDNIGHT + 300, instance=node) for node in ("one", "two")}
    gathered(pushed(tmp_path / "depot", **stores), tmp_path / "store")
    days = [
        Part("nodes", "prod", "all", MIDNIGHT - DAY, MIDNIGHT),
        Part("nodes", "prod", "all", MIDNIGHT, MIDNIGHT + DAY),
    ]
    assert sorted(parts_in(tmp_path / "store")) == days
    assert len(list((tmp_path / "store" / "usage").iterdir())) == 2
    assert totals(tmp_path / "store") == totals(exported(tmp_path / "export", *stores.values()))


def test_a_gap_in_which_no_agent_ran_stays_a_gap(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600)
    pushed(tmp_path / "depot", one=store)
    record(store, MIDNIGHT + 3 * DAY + 7 * HOUR, MIDNIGHT + 3 * DAY + 8 * HOUR)
    gathered(pushed(tmp_path / "depot", one=store), tmp_path / "store")
    assert totals(tmp_path / "store") == totals(exported(tmp_path / "export", store))
    assert [part.start for part in sorted(parts_in(tmp_path / "store"))] == [MIDNIGHT, MIDNIGHT + 3 * DAY]


def test_what_one_pull_brings_and_what_a_pull_each_hour_does_have_the_same_busiest_hours(tmp_path):
    """Of a day of 24 levels of load, the busiest tenth of rows is two hours and a half."""
    order = [7, 3, 11, 0, 19, 23, 5, 14, 2, 9, 21, 16, 1, 12, 6, 18, 22, 10, 4, 13, 20, 8, 17, 15]
    made, store = [], tmp_path / "one.db"

    def load(at):
        return 40 + 40 * order[at % DAY // HOUR]

    for hour in range(24):
        record(store, MIDNIGHT + hour * HOUR, MIDNIGHT + (hour + 1) * HOUR, load=load, every=60)
        pushed(tmp_path / "depot", one=store)
        gathered(tmp_path / "depot", tmp_path / "hourly")
    gathered(tmp_path / "depot", tmp_path / "once")
    exported(tmp_path / "export", store)
    for name in ("export", "once", "hourly"):
        busiest = [row for row in profiles_of(tmp_path / name) if row["busiest"]]
        requests = sum(Histogram.from_bytes(row["latency"]).total for row in busiest)
        rows = sum(row["rows"] for row in busiest)
        made.append((rows, requests / rows))
    exact, once, hourly = made
    assert exact[0] == 144
    assert 144 <= once[0] < 144 + 60
    assert once[1] > 0.95 * exact[1]
    assert 144 <= hourly[0] < 144 + 60
    assert hourly[1] > 0.95 * exact[1]


def test_a_load_that_never_changes_has_a_tenth_of_its_rows_among_the_busiest(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 5 * HOUR, load=lambda _: 20, every=60)
    gathered(pushed(tmp_path / "depot", one=store), tmp_path / "store")
    assert sum(row["rows"] for row in profiles_of(tmp_path / "store") if row["busiest"]) == 30


def test_a_limit_that_changes_begins_a_stretch_and_one_that_does_not_goes_on_from_part_to_part(tmp_path):
    def limit(at):
        return 0.5 if at < MIDNIGHT + 2.5 * HOUR else 2.0 if at < MIDNIGHT + 5 * HOUR else 0.5

    store = tmp_path / "one.db"
    for hour in range(7):
        record(store, MIDNIGHT + hour * HOUR, MIDNIGHT + (hour + 1) * HOUR, limit=limit, every=60)
        pushed(tmp_path / "depot", one=store)
        if hour % 2:
            gathered(tmp_path / "depot", tmp_path / "store")
    gathered(tmp_path / "depot", tmp_path / "store")
    found = {(row["limit_since_unix_seconds"], row["cpu_limit_cores"]) for row in profiles_of(tmp_path / "store")}
    assert found == {(MIDNIGHT, 0.5), (MIDNIGHT + 9000, 2.0), (MIDNIGHT + 5 * HOUR, 0.5)}
    assert totals(tmp_path / "store") == totals(exported(tmp_path / "export", store))


@pytest.mark.parametrize("begin_of_two", [0, 1800], ids=["pushed together", "pushed at other times"])
@pytest.mark.parametrize("cores", [(0.5, 2.0), (2.0, 0.5)])
def test_a_container_on_two_nodes_with_limits_that_never_change_has_two_stretches_at_most(
    tmp_path, cores, begin_of_two
):
    stores = {"one": tmp_path / "one.db", "two": tmp_path / "two.db"}
    for hour in range(3):
        for (node, store), of, late in zip(stores.items(), cores, (0, begin_of_two), strict=True):
            begin = MIDNIGHT + hour * HOUR + late
            record(store, begin, begin + HOUR, limit=lambda _, of=of: of, instance=node, every=60)
        pushed(tmp_path / "depot", **stores)
    gathered(tmp_path / "depot", tmp_path / "store")
    found, wanted = totals(tmp_path / "store"), totals(exported(tmp_path / "export", *stores.values()))
    for each in (found, wanted):  # of the instances of a minute the largest is in force, and one export has one node
        next(own for key, own in each.items() if key != "recordings").pop("limits")
    assert found == wanted
    assert len({row["limit_since_unix_seconds"] for row in profiles_of(tmp_path / "store")}) <= 2


def test_nodes_of_two_clusters_in_one_depot_stay_apart(tmp_path):
    one = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600)
    other = record(tmp_path / "other.db", MIDNIGHT, MIDNIGHT + 600, cluster="test")
    depot = pushed(tmp_path / "depot", node=one)
    pushed(depot, node=other)
    came = gathered(depot, tmp_path / "store")
    assert (came.parts, came.nodes, came.other_clusters) == (1, 1, ("test",))
    assert totals(tmp_path / "store") == totals(exported(tmp_path / "export", one))
    gathered(depot, tmp_path / "store", "test")
    assert totals(tmp_path / "store") == totals(exported(tmp_path / "export", one, other))


def test_a_node_without_containers_counts_as_a_node_and_its_time_is_known(tmp_path):
    bare, web = record(tmp_path / "a.db", MIDNIGHT, MIDNIGHT + 600), tmp_path / "b.db"
    record(web, MIDNIGHT, MIDNIGHT + 300, names=())
    record(web, MIDNIGHT + 300, MIDNIGHT + 600)  # without one, a store does not know its cluster
    depot = pushed(tmp_path / "depot", bare=bare, web=web)
    record(bare, MIDNIGHT + 600, MIDNIGHT + 900, names=())
    pushed(depot, bare=bare)
    assert gathered(depot, tmp_path / "store").nodes == 2
    found, expected = totals(tmp_path / "store"), totals(exported(tmp_path / "export", bare, web))
    assert gathered(depot, tmp_path / "store").parts == 0
    assert found == expected


def test_an_empty_depot_and_one_that_does_not_exist_have_no_nodes(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "no"):
        assert gathered(tmp_path / name, tmp_path / "store").nodes == 0
    assert not (tmp_path / "no").exists()


def test_what_ended_before_is_left_in_the_depot(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT - 2 * DAY, MIDNIGHT + HOUR, every=600)
    depot = pushed(tmp_path / "depot", one=store)
    assert gathered(depot, tmp_path / "store", since=MIDNIGHT).parts == 1
    assert gathered(depot, tmp_path / "store", since=MIDNIGHT - 1).parts == 1
    assert gathered(depot, tmp_path / "store").parts == 1


def test_days_of_a_store_that_are_old_are_forgotten_and_nothing_else(tmp_path):
    depot = pushed(tmp_path / "depot", one=record(tmp_path / "one.db", MIDNIGHT - DAY, MIDNIGHT + HOUR, every=600))
    pushed(depot, two=record(tmp_path / "two.db", MIDNIGHT - DAY, MIDNIGHT - HOUR, every=600, cluster="test"))
    store = tmp_path / "store"
    for cluster in ("prod", "test"):
        gathered(depot, store, cluster)
    (store / "usage" / "notes.txt").touch()
    foreign = store / "recordings" / f"prometheus~prod~shop~{MIDNIGHT - 2 * DAY}~{MIDNIGHT - DAY}-00000.parquet"
    foreign.touch()
    forget(store, "prod", MIDNIGHT)
    assert len(list(parts_in(store))) == 4
    forget(store, "prod", MIDNIGHT + 1)
    assert sorted((part.source, part.cluster, part.start) for part in parts_in(store)) == [
        ("nodes", "prod", MIDNIGHT), ("nodes", "test", MIDNIGHT - DAY), ("prometheus", "prod", MIDNIGHT - 2 * DAY)
    ]  # fmt: skip
    assert (store / "usage" / "notes.txt").exists()


def test_a_depot_that_was_emptied_and_filled_anew_counts_nothing_twice(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + HOUR)
    pushed(tmp_path / "depot", one=store)
    record(store, MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR)
    gathered(pushed(tmp_path / "depot", one=store), tmp_path / "store")
    gathered(pushed(tmp_path / "other", one=store), tmp_path / "store")
    assert not rows_told_twice(tmp_path / "store")
    assert totals(tmp_path / "store") == totals(exported(tmp_path / "export", store))


def test_two_pushes_of_one_node_at_the_same_time_count_nothing_twice(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + HOUR)
    for end in (MIDNIGHT + HOUR - 60, MIDNIGHT + HOUR):
        a_piece(tmp_path / "depot", store, "one", MIDNIGHT, end)
    gathered(tmp_path / "depot", tmp_path / "store")
    assert not rows_told_twice(tmp_path / "store")
    assert totals(tmp_path / "store") == totals(exported(tmp_path / "export", store))


def test_a_part_with_other_candidates_of_the_limit_bank_is_said_in_a_sentence_and_the_store_stays(tmp_path):
    depot = pushed(tmp_path / "depot", one=record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + HOUR))
    gathered(depot, tmp_path / "store")
    before = contents(tmp_path / "store")
    web = Identity("prod", "shop", "Deployment", "web", "main", "pod-b")
    waited = Histogram.of(DELAY, [0.01])
    other = LimitBank(1, 1, True, 1, 1, (Candidate(0.7, 1, 1, waited, waited),))
    writer = StoreWriter(tmp_path / "two.db")
    for at in (MIDNIGHT, MIDNIGHT + 60):
        writer.write(Window(float(at), 60.0), [], [UsageRow(web, 1.0, other)])
    writer.close()
    pushed(depot, two=tmp_path / "two.db")
    with pytest.raises(StoreError, match=r"profile of shop/web/main cannot be read by this headroom") as caught:
        gathered(depot, tmp_path / "store")
    assert caught.value.next_step
    assert contents(tmp_path / "store") == before


def test_units_of_one_name_on_two_nodes_stay_two_instances(tmp_path):
    unit = Identity("prod", HOST_NAMESPACE, "SystemdUnit", "kubelet", "kubelet", "/system.slice/kubelet.service")
    for node in ("one", "two"):
        with contextlib.closing(StoreWriter(tmp_path / f"{node}.db")) as writer:
            for at in range(MIDNIGHT, MIDNIGHT + 600, 60):
                writer.write(Window(float(at), 60.0), [], [UsageRow(unit, 6.0, memory_working_set_bytes=100)])
        pushed(tmp_path / "depot", **{node: tmp_path / f"{node}.db"})
    gathered(tmp_path / "depot", tmp_path / "store")
    (stored,) = ParquetReader(tmp_path / "store").containers
    usage = stored.read("usage")
    assert set(usage.column("instance").to_pylist()) == {f"{node}{unit.instance}" for node in ("one", "two")}
    assert usage.num_rows == 20
    assert not rows_told_twice(tmp_path / "store")


def test_a_clock_that_is_set_back_by_hours_within_one_push_loses_no_row_silently(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 4 * HOUR, every=60)
    record(store, MIDNIGHT + 2 * HOUR, MIDNIGHT + 5 * HOUR, every=60)
    depot = pushed(tmp_path / "depot", one=store)
    came = gathered(depot, tmp_path / "store")
    assert not rows_told_twice(tmp_path / "store")
    taken = totals(tmp_path / "store")["recordings"]["seconds"]
    assert taken + 3 * HOUR * len(came.left_out) == 7 * HOUR


def test_many_parts_that_are_put_together_by_threes_make_the_store_that_one_by_one_they_do(tmp_path, monkeypatch):
    stores = {}
    for number in range(8):
        name = f"node{number}"
        stores[name] = record(
            tmp_path / f"{name}.db",
            MIDNIGHT + 60 * number,
            MIDNIGHT + HOUR,
            instance=name,
            names=("web", f"api{number % 3}"),
        )
    depot = pushed(tmp_path / "depot", **stores)
    gathered(depot, tmp_path / "at-once")
    monkeypatch.setattr("profiles.gather._FILES_TOGETHER", 12)
    gathered(depot, tmp_path / "by-threes")
    assert len(contents(tmp_path / "at-once")) == len(contents(tmp_path / "by-threes"))
    for one, other in zip(
        ParquetReader(tmp_path / "at-once").containers, ParquetReader(tmp_path / "by-threes").containers, strict=True
    ):
        assert one.key == other.key
        for table in ("usage", "profiles", "routes"):
            assert one.read(table).to_pylist() == other.read(table).to_pylist()
    recordings = [ParquetReader(tmp_path / name).recordings() for name in ("at-once", "by-threes")]
    assert [{row["source"] for row in rows} for rows in recordings] == [{row["source"] for row in recordings[0]}] * 2
    assert len(recordings[0]) == len(recordings[1]) == 8
    assert not list((tmp_path / "by-threes").glob(".gather-*"))
