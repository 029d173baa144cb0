"""``headroom push`` on the nodes and ``headroom pull --profiles`` over them, as their users meet them."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from profiles.depot import Depot
from profiles.errors import StoreError
from profiles.parquet import ParquetReader
from profiles.parts import Part, parts_in
from profiles.sqlite import StoreWriter
from tests.cluster.nodes import (
    DAY,
    HOUR,
    MIDNIGHT,
    anything,
    contents,
    exported,
    record,
    rows_told_twice,
    totals,
    unlimited,
    windows,
)

pytestmark = pytest.mark.usefixtures("outside_of_any_cluster")


@pytest.fixture
def push(run, tmp_path):
    return lambda store, *more, node="one": run(
        "push", "--store", store, "--to", tmp_path / "depot", "--node", node, *more
    )


@pytest.fixture
def pull(run, tmp_path):
    def pull(*more, depot=tmp_path / "depot", cluster="prod", until=MIDNIGHT + DAY):
        options = ("--store", tmp_path / "fleet", "--cluster", cluster, "--until", until)
        return run("pull", "--profiles", depot, *options, *more)

    return pull


def parts_of(depot):
    return sorted(Depot.at(str(depot)).parts())


def assert_one_sentence(told, words, code=1):
    assert (told[0], told[1]) == (code, "")
    assert re.match(r"error: .+\.\n  next: .+\n$", told[2]), told[2]
    assert re.search(words, told[2])


def one_core(at):
    return 1.0


def test_from_nodes_to_sizes(run, push, pull, tmp_path):
    stores = {node: record(tmp_path / node, MIDNIGHT - 600, MIDNIGHT + HOUR, instance=node) for node in ("one", "two")}
    for node, store in stores.items():
        code, out, err = push(store, node=node)
        assert (code, out) == (0, "")
        assert err.startswith(f"2 parts with 1 containers of {node} left")
    code, out, err = pull()
    assert (code, out) == (0, "")
    assert "profiles of 2 nodes: 4 new parts" in err
    assert f"next: headroom recommend --store {tmp_path / 'fleet'}" in err
    assert totals(tmp_path / "fleet") == totals(exported(tmp_path / "export", *stores.values()))
    assert push(stores["one"])[2].startswith("0 parts")
    before = contents(tmp_path / "fleet")
    assert "0 new parts" in pull()[2]
    assert contents(tmp_path / "fleet") == before


def test_recommend_from_profiles_alone_sizes_each_container_once(run, push, tmp_path):
    push(record(tmp_path / "one.db", MIDNIGHT - HOUR, MIDNIGHT + HOUR, names=("web", "api"), limit=one_core))
    options = ("--cluster", "prod", "--until", MIDNIGHT + DAY, "-o", "json")
    code, out, err = run("recommend", "--profiles", tmp_path / "depot", "--store", tmp_path / "fleet", *options)
    assert code == 0, err
    assert [row["workload"] for row in json.loads(out)["recommendations"]] == ["api", "web"]


def test_a_container_that_never_had_a_limit_is_sized_from_parts_of_two_days(run, push, pull, tmp_path):
    push(record(tmp_path / "one.db", MIDNIGHT - HOUR, MIDNIGHT + HOUR))
    pull()
    code, out, err = run("recommend", "--store", tmp_path / "fleet", "-o", "json")
    assert (code, err, out.count('"workload": "web"')) == (0, "", 1)


def test_the_store_of_an_agent_that_writes_at_the_same_time_is_pushed(push, pull, tmp_path):
    made = list(windows(MIDNIGHT, MIDNIGHT + HOUR, anything, unlimited))
    with contextlib.closing(StoreWriter(tmp_path / "one.db")) as writer:
        for number, each in enumerate(made, 1):
            writer.write(*each)
            if number % 60 == 0:
                assert push(tmp_path / "one.db")[0] == 0
        with pytest.raises(StoreError, match="another agent"):
            StoreWriter(tmp_path / "one.db")
    assert len(parts_of(tmp_path / "depot")) == 3
    pull()
    assert totals(tmp_path / "fleet") == totals(exported(tmp_path / "export", tmp_path / "one.db"))
    assert not rows_told_twice(tmp_path / "fleet")


@pytest.mark.parametrize("name", ["a~b", "a/b", "../up", ".", "a b"])
def test_a_node_whose_name_cannot_be_one_is_refused(push, tmp_path, name):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600)
    assert_one_sentence(push(store, node=name), "cannot be a name here.*\n.*--node", 2)
    assert not (tmp_path / "depot").exists()


def test_a_cluster_whose_name_cannot_be_one_is_refused(push, pull, tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600, cluster="eu/prod")
    assert_one_sentence(push(store), "cannot be a name here.*\n.*--cluster", 2)
    assert_one_sentence(pull(cluster="eu/prod"), "cannot be a name here.*\n.*--cluster", 2)


def test_a_depot_without_profiles_or_with_those_of_another_cluster_says_what_to_do(push, pull, tmp_path):
    assert_one_sentence(pull(), "has no profiles of cluster prod.*\n.*headroom push")
    push(record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600, cluster="test"))
    assert_one_sentence(pull(), "no profiles of cluster prod, but of test.*\n.*--cluster test")
    assert not list((tmp_path / "fleet").rglob("*.parquet"))


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/headroom"])
def test_a_depot_that_cannot_be_used_is_one_sentence(run, tmp_path, name):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600)
    (tmp_path / "file").touch()
    assert_one_sentence(run("push", "--store", store, "--to", tmp_path / name), "cannot be used")


@pytest.mark.parametrize("name", ["file/below", "/proc/headroom"])
def test_a_store_that_cannot_be_written_is_one_sentence(run, push, tmp_path, name):
    push(record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600))
    (tmp_path / "file").touch()
    told = run("pull", "--profiles", tmp_path / "depot", "--store", tmp_path / name, "--cluster", "prod")
    assert_one_sentence(told, "cannot be (written|used|read)")


def test_the_folder_that_is_depot_and_store_at_once_is_refused_or_counts_nothing_twice(run, push, tmp_path):
    push(record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600))
    before = contents(tmp_path / "depot")
    options = ("--cluster", "prod", "--until", MIDNIGHT + DAY)
    told = run("pull", "--profiles", tmp_path / "depot", "--store", tmp_path / "depot", *options)
    assert not rows_told_twice(tmp_path / "depot")
    assert told[0] == 2
    assert contents(tmp_path / "depot") == before


def test_push_keep_deletes_what_is_old_of_every_node_and_nothing_else(push, tmp_path):
    now = int(time.time()) // 60 * 60
    for node, age in (("gone", 40 * DAY), ("two", 20 * DAY)):
        push(record(tmp_path / node, now - age, now - age + 600), node=node)
    (tmp_path / "depot" / "usage" / "notes.txt").touch()
    store = record(tmp_path / "one.db", now - HOUR, now)
    assert push(store, "--keep", "30d")[0] == 0
    assert {part.of for part in parts_of(tmp_path / "depot")} == {"one", "two"}
    assert not list((tmp_path / "depot").rglob("*~gone~*"))
    assert (tmp_path / "depot" / "usage" / "notes.txt").exists()


def test_pull_keep_deletes_days_that_are_old_and_does_not_bring_them_again(push, pull, tmp_path):
    push(record(tmp_path / "one.db", MIDNIGHT - 5 * DAY, MIDNIGHT + HOUR, every=600))
    assert pull("--keep", "2d", until=MIDNIGHT + HOUR)[0] == 0
    kept = [part.start - MIDNIGHT for part in sorted(parts_in(tmp_path / "fleet"))]
    assert kept == [-2 * DAY, -DAY, 0]
    before = contents(tmp_path / "fleet")
    err = pull("--keep", "2d", until=MIDNIGHT + HOUR)[2]
    assert contents(tmp_path / "fleet") == before
    assert "0 new parts" in err


def test_until_and_namespace_hold_for_profiles_as_well(push, pull, tmp_path):
    push(record(tmp_path / "one.db", MIDNIGHT - HOUR, MIDNIGHT))
    push(record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + HOUR))
    assert pull(until=MIDNIGHT)[0] == 0
    (container,) = ParquetReader(tmp_path / "fleet").containers
    assert max(container.read("usage").column("unix_seconds").to_pylist()) < MIDNIGHT
    assert "note: profiles are of all namespaces" in pull("--namespace", "bank")[2]


# --- push --every -----------------------------------------------------------------------------


def test_too_often_is_refused(push, tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600)
    assert_one_sentence(push(store, "--every", "10s"), "--every 10s is too often", 2)
    assert not (tmp_path / "depot").exists()


@pytest.fixture
def pushing(tmp_path):
    """A process that pushes once an hour, and says when it would not die of a signal any more."""

    @contextlib.contextmanager
    def pushing(store, *more):
        command = ["push", "--store", store, "--to", tmp_path / "depot", "--node", "one", "--every", "1h", *more]
        process = subprocess.Popen(
            [sys.executable, "-m", "headroom", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until_caught(process, signal.SIGTERM)
            yield process
        finally:
            process.kill()
            process.communicate()

    return pushing


def wait_until_caught(process, number):
    for _ in range(300):
        assert process.poll() is None, process.stderr.read()
        caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
        if int(caught[1], 16) >> (number - 1) & 1:
            return
        time.sleep(0.05)
    raise AssertionError("it never caught the signal")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_ended_leaves_first_what_the_agent_stores_as_it_ends(pushing, tmp_path, number):
    now = int(time.time()) // 60 * 60
    store = record(tmp_path / "one.db", now - HOUR, now - 600)
    with pushing(store, "--keep", "30d") as process:
        process.send_signal(number)
        time.sleep(0.5)
        record(store, now - 600, now)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, ""), err
    assert "Traceback" not in err
    assert parts_of(tmp_path / "depot")[-1].end == now
    assert {part.of for part in parts_of(tmp_path / "depot")} == {"one"}


def test_one_whose_last_push_fails_says_so(pushing, tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600)
    (tmp_path / "depot").touch()
    with pushing(store) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "error: The last push failed." in err
    assert "cannot be used" in err
    assert "Traceback" not in err


def test_a_part_says_whose_it_is_and_of_when(push, tmp_path):
    push(record(tmp_path / "one.db", MIDNIGHT - 600, MIDNIGHT + 600), node="worker-1.eu:9")
    found = parts_of(tmp_path / "depot")
    assert [part.window for part in found] == [30, 60]
    assert [replace(part, store="", window=0) for part in found] == [
        Part("node", "prod", "worker-1.eu:9", MIDNIGHT - 600, MIDNIGHT),
        Part("node", "prod", "worker-1.eu:9", MIDNIGHT, MIDNIGHT + 600),
    ]
