"""Whoever is killed between any two steps leaves a state that the next run makes good, without losing or doubling."""

import json
import subprocess
import sys

import pytest

from profiles.errors import StoreError
from profiles.parts import alone, parts_in
from profiles.tables import SCHEMAS
from tests.cluster.nodes import DAY, HOUR, MIDNIGHT, contents, exported, gathered, pushed, record, totals

#: For every step that changes a file: a copy, the same work killed just before that step, and the work done again.
#: A step is an audit event of Python's own; each work is a process, so that a kill is one.
_KILLS = """
import json, os, shutil, signal, sys, tempfile
from pathlib import Path
from headroom.pushing import push
from tests.cluster.nodes import gathered
what, source, begun, out = sys.argv[1:]
steps = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir"}
watched = out, tempfile.gettempdir() + "/headroom-push-"

def work(place):
    if what == "push":
        push(Path(source), str(place), "one")
    else:
        gathered(source, place)

def child(place, steps_left):
    number = os.fork()
    if number:
        return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])

    def hook(event, arguments):
        nonlocal steps_left
        if event in steps and (event != "open" or str(arguments[0]).startswith(watched)):
            steps_left -= 1
            if steps_left < 0:
                os._exit(9)

    signal.alarm(60)
    sys.addaudithook(hook)
    work(place)
    os._exit(0)

codes = []
for step in range(200):
    place = Path(out) / str(step)
    if Path(begun).exists():
        shutil.copytree(begun, place)
    codes.append(child(place, step))
    assert child(place, 10**9) == 0
    if codes[-1] == 0:
        break
print(json.dumps(codes))
"""


def killed_at_every_step(what, source, begun, out):
    """How the work ended, by the step that it was killed at; the places are in `out`, after it was done again."""
    command = [sys.executable, "-c", _KILLS, what, source, begun, out]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    assert codes[-1] == 0
    assert set(codes[:-1]) == {9}
    assert len(codes) > 10
    different = {frozenset(contents(out / str(number)).items()): out / str(number) for number in range(len(codes))}
    return list(different.values())


def test_a_push_that_is_killed_at_any_step_is_made_good_by_the_next(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT - 600, MIDNIGHT + 600, names=("web", "api"))
    expected = totals(exported(tmp_path / "export", store))
    for depot in killed_at_every_step("push", store, tmp_path / "none", tmp_path / "depots"):
        gathered(depot, tmp_path / "gathered" / depot.name)
        assert totals(tmp_path / "gathered" / depot.name) == expected


def test_a_gathering_that_is_killed_at_any_step_is_made_good_by_the_next(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600, names=("web", "api"))
    gathered(pushed(tmp_path / "depot", one=store), tmp_path / "begun")
    record(store, MIDNIGHT + 600, MIDNIGHT + 1200, names=("web", "api"))
    pushed(tmp_path / "depot", one=store)
    expected = totals(exported(tmp_path / "export", store))
    lost = []
    for place in killed_at_every_step("gather", tmp_path / "depot", tmp_path / "begun", tmp_path / "stores"):
        try:
            whole = totals(place) == expected
        except StoreError:
            whole = False
        lost += [] if whole else [place.name]
    assert lost == []


def test_what_a_gathering_that_was_killed_left_is_removed_by_the_next(tmp_path):
    depot = pushed(tmp_path / "depot", one=record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600))
    gathered(depot, tmp_path / "store")
    before = contents(tmp_path / "store")
    (tmp_path / "store" / ".gather-abcd" / "usage").mkdir(parents=True)
    (tmp_path / "store" / ".gather-abcd" / "usage" / "node~prod~one~0~60-00000.parquet").write_bytes(b"0" * 100)
    prefix = f"nodes~prod~all~{MIDNIGHT - DAY}~{MIDNIGHT}"
    (tmp_path / "store" / "usage" / f"{prefix}-00000.parquet.part").touch()
    (tmp_path / "store" / "profiles" / f"{prefix}-00000.parquet").touch()
    gathered(depot, tmp_path / "store")
    assert contents(tmp_path / "store") == before


def test_a_day_without_its_file_of_recordings_is_gathered_anew(tmp_path):
    depot = pushed(tmp_path / "depot", one=record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600))
    gathered(depot, tmp_path / "store")
    before = contents(tmp_path / "store")
    next((tmp_path / "store" / "recordings").iterdir()).unlink()
    assert gathered(depot, tmp_path / "store").parts == 1
    assert contents(tmp_path / "store") == before


def test_a_second_gathering_at_the_same_time_is_refused(tmp_path):
    depot = pushed(tmp_path / "depot", one=record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + 600))
    with alone(tmp_path / "store"), pytest.raises(StoreError, match="is under way") as caught:
        gathered(depot, tmp_path / "store")
    assert caught.value.next_step
    assert not list(parts_in(tmp_path / "store"))


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-40])


def emptied(path):
    path.write_bytes(b"")


def overwritten(path):
    content = bytearray(path.read_bytes())
    content[4:-600] = b"\xff" * len(content[4:-600])
    path.write_bytes(bytes(content))


def with_a_part_more(tmp_path):
    """A store, a depot that holds an hour more, and what files of the depot are of that hour."""
    store = record(tmp_path / "one.db", MIDNIGHT, MIDNIGHT + HOUR)
    gathered(pushed(tmp_path / "depot", one=store), tmp_path / "store")
    record(store, MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR)
    depot = pushed(tmp_path / "depot", one=store)
    return tmp_path / "store", depot, {path.parent.name: path for path in depot.glob(f"*/*~{MIDNIGHT + 2 * HOUR}~*")}


@pytest.mark.parametrize("damage", [cut_short, emptied, overwritten], ids=lambda each: each.__name__)
@pytest.mark.parametrize("table", sorted(SCHEMAS))
def test_a_damaged_part_is_left_out_and_the_store_stays_as_it_was(tmp_path, table, damage):
    store, depot, files = with_a_part_more(tmp_path)
    before = contents(store)
    damage(files[table])
    found = gathered(depot, store)
    (why,) = found.left_out
    assert why.startswith(files[table].name.removesuffix("-00000.parquet"))
    assert why.endswith(".")
    assert "/tmp" not in why
    assert found.parts == 0
    assert contents(store) == before


def test_what_comes_with_a_damaged_part_is_taken_all_the_same(tmp_path):
    store, depot, files = with_a_part_more(tmp_path)
    pushed(depot, two=record(tmp_path / "two.db", MIDNIGHT, MIDNIGHT + HOUR, instance="pod-b"))
    cut_short(files["usage"])
    found = gathered(depot, store)
    assert (found.parts, len(found.left_out)) == (1, 1)
    exported(tmp_path / "export", tmp_path / "two.db")
    assert totals(store)["recordings"]["seconds"] == 2 * HOUR


@pytest.mark.parametrize("table", ["usage", "profiles", "routes"])
def test_a_part_that_lacks_a_file_is_not_taken_for_whole(tmp_path, table):
    store, depot, files = with_a_part_more(tmp_path)
    before = contents(store)
    files[table].unlink()  # as an object store's own rule of expiry would
    assert "has 2 files and had more" in gathered(depot, store).left_out[0]
    assert contents(store) == before


def test_a_part_whose_file_of_recordings_is_missing_is_not_yet_there(tmp_path):
    store, depot, files = with_a_part_more(tmp_path)
    before = contents(store)
    files["recordings"].unlink()
    assert gathered(depot, store).parts == 0
    assert contents(store) == before
