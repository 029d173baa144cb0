import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from profiles.errors import StoreError
from profiles.histogram import DELAY, LATENCY, Histogram
from profiles.limit_bank import Candidate, LimitBank
from profiles.schema import DropRow, Identity, PeerRow, Runtime, TrafficRow, UsageRow, Window
from profiles.sqlite import StoreReader, StoreWriter

WEB = Identity("local", "host", "Cgroup", "web", "web", "/web")
BANK = LimitBank(3, 4000, True, 9, 5, (Candidate(0.1, 2, 1, Histogram(DELAY, {5: 1000}), Histogram(DELAY, {5: 16})),))
TRAFFIC = TrafficRow(
    WEB, "server", "http1", False, "GET", "/users/{id}", 200, Histogram(LATENCY, {20: 7}), 0.1, 70, 700
)
GAVE_UP = TrafficRow(
    WEB, "server", "http1", False, "GET", "/users/{id}", 0, Histogram(LATENCY, {300: 2}), 4.0, 20, 0, "aborted"
)
USAGE = UsageRow(WEB, 1.5, BANK, {3: 9}, oom_kills=1, memory_anon_bytes=2**40, cpu_limit_cores=0.5)
PEER = PeerRow(WEB, "client", "workload", "host/db/db", 5432, 2, 1000, 2**40)
DROP = DropRow(WEB, "SOCKET_RCVBUFF", 47)
WINDOW = Window(1_700_000_000.5, 10.0, -3.0, {"pipelined": 2}, {"cpu_seconds": 0.01})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "profiles.db"


def write(path, windows=1, traffic=(TRAFFIC,)):
    writer = StoreWriter(path)
    for _ in range(windows):
        writer.write(WINDOW, traffic, [USAGE])
    writer.close()


def read(path, what):
    with StoreReader(path) as reader:
        return list(getattr(reader, what)())


def test_rows_come_back_as_they_were_written(path):
    write(path, traffic=[GAVE_UP, TRAFFIC])
    assert read(path, "windows") == [(1, WINDOW)]
    assert read(path, "traffic") == [(1, GAVE_UP), (1, TRAFFIC)]
    assert read(path, "usage") == [(1, USAGE)]


def test_peers_come_back_and_go_with_their_window(path):
    rows = [PEER, replace(PEER, role="server", kind="internet", peer="internet", port=80)]
    with contextlib.closing(StoreWriter(path)) as writer:
        writer.write(WINDOW, [TRAFFIC], [USAGE], rows)
        assert sorted(row.role for _, row in read(path, "peers")) == ["client", "server"]
        writer.prune(2e9)
        writer.write(WINDOW, [TRAFFIC], [USAGE], rows[:1])
    assert read(path, "peers") == [(2, rows[0])]


def test_a_store_from_before_there_were_peers_and_drops_has_none_until_it_is_written(path):
    write(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE peers")
        db.execute("DROP TABLE drops")
    assert read(path, "peers") == read(path, "drops") == []
    with contextlib.closing(StoreWriter(path)) as writer:
        writer.write(WINDOW, [TRAFFIC], [USAGE], [PEER], [DROP])
    assert (read(path, "peers"), read(path, "drops")) == ([(2, PEER)], [(2, DROP)])


@pytest.mark.parametrize(
    ("column", "value"), [("kind", "friend"), ("role", "both"), ("port", 70000), ("sent_bytes", -1), ("peer", b"x")]
)
def test_a_damaged_peer_is_named(path, column, value):
    with contextlib.closing(StoreWriter(path)) as writer:
        writer.write(WINDOW, [], [USAGE], [PEER])
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE peers SET {column} = ?", (value,))
    with pytest.raises(StoreError, match=r"cannot read .*(peer|port|sent_bytes)"):
        read(path, "peers")


def test_a_row_of_bytes_alone_is_a_row(path):
    """An answer that went on in the window after the one that counted it."""
    went_on = replace(TRAFFIC, latency=Histogram(LATENCY), latency_seconds_sum=0.4, transfer_seconds_sum=0.4)
    write(path, traffic=[went_on])
    assert read(path, "traffic") == [(1, went_on)]
    assert went_on.requests == 0


def test_a_second_writer_appends(path):
    write(path)
    write(path)
    assert len(read(path, "windows")) == 2


def test_two_windows_with_the_same_start_are_two_windows(path):
    write(path, windows=2)  # as after a clock step
    assert len(read(path, "traffic")) == 2


def test_pruning_takes_the_rows_of_old_windows_along(path):
    with contextlib.closing(StoreWriter(path)) as writer:
        writer.write(WINDOW, [TRAFFIC], [USAGE])
        writer.write(Window(WINDOW.start_unix_seconds + 1000, 10.0), [TRAFFIC], [USAGE])
        assert writer.prune(WINDOW.start_unix_seconds + 500) == 1
    assert [window_id for window_id, _ in read(path, "traffic")] == [2]
    assert [window_id for window_id, _ in read(path, "usage")] == [2]


def test_a_reader_sees_one_state_while_the_writer_goes_on(path):
    with contextlib.closing(StoreWriter(path)) as writer:
        writer.write(WINDOW, [TRAFFIC], [USAGE])
        with StoreReader(path) as reader:
            assert len(list(reader.windows())) == 1
            writer.write(WINDOW, [TRAFFIC], [USAGE])
            assert len(list(reader.windows())) == 1
        assert len(read(path, "windows")) == 2


def test_a_failed_window_leaves_nothing_behind(path):
    with contextlib.closing(StoreWriter(path)) as writer:
        with pytest.raises(StoreError):
            writer.write(WINDOW, [TRAFFIC, TRAFFIC], [])  # the same key twice
        writer.write(WINDOW, [TRAFFIC], [USAGE])
    assert len(read(path, "windows")) == 1


def corrupt(path):
    write(path, windows=200)
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    read(path, "traffic")


def other_database(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (x)")
    db.close()
    StoreReader(path)


def other_version(path):
    write(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    StoreReader(path)


def unknown_histogram(path):
    write(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE traffic SET latency = x'0900'")
    db.close()
    read(path, "traffic")


def no_window(path):
    StoreWriter(path).close()
    StoreReader(path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (StoreReader, "There is no store at"),
        (lambda path: (path.touch(), StoreReader(path)), "is empty"),
        (lambda path: (path.write_text("hello " * 100), StoreReader(path)), "damaged or not a headroom store"),
        (corrupt, "damaged or not a headroom store"),
        (other_database, "not a headroom store"),
        (other_version, "version 99"),
        (unknown_histogram, "cannot read"),
        (no_window, "no window yet"),
    ],
    ids=["missing", "empty", "text", "corrupt", "other", "version", "histogram", "no-window"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_store_that_cannot_be_read_says_why_and_what_next(path, damage, sentence):
    with pytest.raises(StoreError) as caught:
        damage(path)
    assert sentence in caught.value.sentence
    assert caught.value.next_step.endswith((".", "db", "s)."))
    assert "\n" not in str(caught.value)


DAMAGE = [
    ("traffic", "latency", value)
    for value in ("NULL", "'x'", "5", "x'0101'", "x'0100'", "x'0100ffff0100000000000000'")
] + [
    ("traffic", "status", "'x'"), ("traffic", "latency_seconds_sum", "'x'"), ("traffic", "requests", "8"),
    ("traffic", "route", "x'00'"), ("usage", "limit_bank", "'x'"), ("usage", "limit_bank", "5"),
    ("usage", "limit_bank", "x'01'"),
    ("usage", "burst_bins", "NULL"), ("usage", "burst_bins", "x'ffff00000000'"), ("usage", "cpu_seconds", "NULL"),
    ("usage", "cpu_seconds", "-5"), ("usage", "cpu_seconds", "9e307"), ("usage", "memory_peak_bytes", "9e307"),
    ("usage", "cpu_limit_cores", "-5"), ("usage", "memory_anon_bytes", "'x'"), ("windows", "duration_seconds", "0"),
    ("windows", "duration_seconds", "-1"), ("windows", "duration_seconds", "1e300"), ("windows", "lost", "''"),
    ("windows", "lost", "'5'"), ("windows", "agent", "'{\"a\": \"b\"}'"), ("windows", "start_unix_seconds", "-1e12"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "column", "value"), DAMAGE)
def test_a_value_that_no_agent_writes_is_refused(path, table, column, value):
    write(path)
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE {table} SET {column} = {value}")
    db.close()
    with pytest.raises(StoreError, match="cannot read"):
        read(path, table)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_random_damage_is_a_store_error_or_nothing(path, tmp_path):
    write(path, windows=60)
    whole, chance = path.read_bytes(), random.Random(3)
    refused = 0
    for number in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 8, 200])):
            data[chance.randrange(100, len(data))] = chance.randrange(256)
        damaged = tmp_path / f"{number}.db"
        damaged.write_bytes(data)
        try:
            for what in ("windows", "traffic", "usage"):
                read(damaged, what)
        except StoreError:
            refused += 1
    assert refused > 30


def test_a_store_that_was_deleted_while_recording_is_begun_anew(path, caplog):
    with contextlib.closing(StoreWriter(path)) as writer:
        writer.write(WINDOW, [TRAFFIC], [USAGE])
        path.unlink()
        writer.write(WINDOW, [TRAFFIC], [USAGE])
    assert len(read(path, "traffic")) == 1
    assert "deleted or moved while recording" in caplog.text


def test_a_second_agent_is_told_that_the_store_is_taken(path):
    with contextlib.closing(StoreWriter(path)), pytest.raises(StoreError, match="another agent"):
        StoreWriter(path)
    StoreWriter(path).close()
    assert not path.with_name("profiles.db-lock").exists()


def test_a_store_without_a_log_is_read_where_nothing_may_be_written(path, monkeypatch):
    write(path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert len(read(path, "traffic")) == 1


def test_a_second_writer_at_the_same_time_is_told_so(path):
    writer = StoreWriter(path)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    writer._db.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(StoreError, match="another agent"):
        writer.write(WINDOW, [], [])
    blocker.execute("ROLLBACK")
    blocker.close()
    writer.write(WINDOW, [TRAFFIC], [USAGE])
    writer.close()


def test_a_killed_writer_loses_no_stored_window(path):
    script = (
        "import sys; from pathlib import Path\n"
        "from profiles.schema import Window\nfrom profiles.sqlite import StoreWriter\n"
        "writer = StoreWriter(Path(sys.argv[1]))\n"
        "for number in range(100000):\n"
        "    writer.write(Window(float(number), 1.0), [], [])\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    told = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    stored = [window.start_unix_seconds for _, window in read(path, "windows")]
    assert len(told) > 10
    assert stored[: len(told)] == [float(number) for number in range(len(told))]
    assert len(stored) - len(told) in {0, 1}


def test_a_store_of_before_runtimes_were_known_is_read_and_goes_on_with_them(path):
    write(path)
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("ALTER TABLE usage DROP COLUMN runtime")
        old.commit()
    assert read(path, "usage") == [(1, USAGE)]
    with contextlib.closing(StoreWriter(path)) as writer:
        writer.write(WINDOW, [], [replace(USAGE, runtime=Runtime.GO)])
    assert [row.runtime for _, row in read(path, "usage")] == [None, Runtime.GO]


def test_a_runtime_that_a_newer_headroom_told_is_not_known(path):
    write(path)
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute("UPDATE usage SET runtime = 99")
        newer.commit()
    assert read(path, "usage") == [(1, USAGE)]


def test_a_writer_remembers_only_instances_that_are_there(path):
    with contextlib.closing(StoreWriter(path)) as writer:
        for number in range(50):
            come_and_gone = replace(WEB, instance=f"/web/{number}")
            writer.write(WINDOW, [TRAFFIC], [replace(USAGE, identity=come_and_gone)])
            assert set(writer._instances) == {WEB, come_and_gone}
    with StoreReader(path) as reader:
        assert len({row.identity for _, row in reader.usage()}) == 50
