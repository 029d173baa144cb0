"""A depot in a folder: what is put is there when all of it is, and what cannot be used is said in one sentence."""

import time

import pytest

from headroom.pushing import push
from profiles.depot import Depot
from profiles.errors import HeadroomError, UsageError
from profiles.parquet import ParquetWriter
from profiles.parts import TABLES, Part, alone, checked_name, delete_part, parts_in
from tests.cluster.nodes import DAY, HOUR, MIDNIGHT, contents, exported, gathered, pushed, record, take, totals

WORKER = Part("node", "prod", "worker-1", MIDNIGHT, MIDNIGHT + HOUR)


def a_part(folder, part=WORKER, *, but=()):
    """Files of its name, which hold theirs."""
    for table in TABLES:
        (folder / table).mkdir(parents=True, exist_ok=True)
        if table not in but:
            (folder / table / f"{part.prefix}-00000.parquet").write_text(f"{table} of {part.prefix}")
    return folder


def a_depot(folder, *parts):
    depot = Depot.at(str(folder))
    for part in parts:
        depot.put(part, a_part(folder.parent / "made", part))
    return depot


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (f"{WORKER.prefix}-00000.parquet", WORKER),
        (f"{WORKER.prefix}-00000.parquet.part", WORKER),
        ("prometheus~c:1~a.b@c~0~60-00012.parquet", Part("prometheus", "c:1", "a.b@c", 0, 60)),
        (f"{WORKER.prefix}.parquet", None),
        (f"{WORKER.prefix}-00000.parquet.1a2b3c4d.part", WORKER),
        ("node~prod~n~0~60~1a2b.360-00000.parquet", Part("node", "prod", "n", 0, 60, "1a2b", 360)),
        ("node~prod~n~0~60~1a2b-00000.parquet", None),
        ("host-00000.parquet", None),
        ("node~prod~a~b~0~60-00000.parquet", None),
        ("node~prod~~0~60-00000.parquet", None),
        (f"x{WORKER.prefix}-00000.parquet~", None),
    ],
)
def test_a_name_says_whose_file_it_is_or_that_it_is_no_parts(name, part):
    assert Part.of_file(name) == part


@pytest.mark.parametrize("name", ["a~b", "a/b", "", ".hidden", "-x", "a b", "a\n", "a*", "a[1]", "a\0b"])
def test_what_would_not_be_one_name_in_a_files_is_refused(name):
    with pytest.raises(UsageError, match=r"cannot be a name here.*--node"):
        checked_name(name, "--node")


def test_what_is_put_is_taken_as_it_was_and_no_more_than_asked(tmp_path):
    other = Part("node", "prod", "worker-2", MIDNIGHT, MIDNIGHT + HOUR)
    depot = a_depot(tmp_path / "depot", WORKER, other)
    assert depot.parts() == [WORKER, other]
    take(depot, [WORKER], tmp_path / "taken")
    assert contents(tmp_path / "taken") == contents(a_part(tmp_path / "expected"))
    take(depot, [other], tmp_path / "taken")
    assert contents(tmp_path / "taken") == contents(tmp_path / "made")


def test_a_part_of_many_files_is_whole_with_all_of_them(tmp_path):
    made = a_part(tmp_path / "made")
    for table in ("usage", "profiles", "routes"):
        (made / table / f"{WORKER.prefix}-00001.parquet").write_text("more")
    depot = Depot.at(str(tmp_path / "depot"))
    depot.put(WORKER, made)
    take(depot, [WORKER], tmp_path / "taken")
    assert contents(tmp_path / "taken") == contents(made)


def test_a_part_is_not_there_until_its_last_file_is(tmp_path):
    a_part(tmp_path / "depot", but=("recordings",))
    depot = Depot.at(str(tmp_path / "depot"))
    assert not depot.parts()
    (tmp_path / "depot" / "recordings" / f"{WORKER.prefix}-00000.parquet.part").touch()
    (tmp_path / "depot" / "recordings" / f"{WORKER.prefix}-00000.parquet.1a2b3c4d.part").touch()
    assert not depot.parts()
    depot.put(WORKER, a_part(tmp_path / "made"))
    assert depot.parts() == [WORKER]


def test_nobody_sees_files_of_a_part_that_are_half_written(tmp_path):
    depot = a_depot(tmp_path / "depot", WORKER)
    assert not [path for path in (tmp_path / "depot").rglob("*") if path.name.endswith(".part")]
    for table in TABLES:
        (tmp_path / "depot" / table / f"{WORKER.prefix}-00000.parquet.1a2b3c4d.part").write_text("half")
    take(depot, [WORKER], tmp_path / "taken")
    assert contents(tmp_path / "taken") == contents(tmp_path / "made")


def test_old_parts_of_every_node_are_forgotten_and_nothing_else(tmp_path):
    old, end = MIDNIGHT - DAY, MIDNIGHT - 1
    gone = [Part("node", cluster, node, old, end) for cluster in ("prod", "test") for node in ("a", "b")]
    stays = [Part("node", "prod", "a", end, MIDNIGHT), WORKER]
    depot = a_depot(tmp_path / "depot", *gone, *stays)
    (tmp_path / "depot" / "usage" / "notes.parquet").touch()
    (tmp_path / "depot" / "usage" / "deep").mkdir()
    (tmp_path / "depot" / "README").touch()
    depot.forget(MIDNIGHT)
    assert sorted(depot.parts()) == stays
    left = {path for path in contents(tmp_path / "depot") if "~" not in path}
    assert left == {"usage/notes.parquet", "README"}
    assert len(contents(tmp_path / "depot")) == 2 + len(TABLES) * len(stays)
    before = contents(tmp_path / "depot")
    depot.forget(MIDNIGHT)
    assert contents(tmp_path / "depot") == before


def test_what_a_push_that_was_killed_left_is_forgotten_when_it_is_old(tmp_path):
    a_part(tmp_path / "depot", but=("recordings",))
    (tmp_path / "depot" / "usage" / f"{WORKER.prefix}-00001.parquet.1a2b3c4d.part").touch()
    Depot.at(str(tmp_path / "depot")).forget(MIDNIGHT + DAY)
    assert not contents(tmp_path / "depot")


def test_the_first_file_to_go_is_the_one_that_says_that_the_part_is_there(tmp_path):
    a_depot(tmp_path / "depot", WORKER)
    blocked = tmp_path / "depot" / "routes" / f"{WORKER.prefix}-00000.parquet"
    blocked.unlink()
    blocked.mkdir()
    with alone(tmp_path / "store"):
        pass
    with pytest.raises(HeadroomError, match="cannot be written"):
        delete_part(tmp_path / "depot", WORKER)
    assert not list(parts_in(tmp_path / "depot"))
    assert (tmp_path / "depot" / "usage" / f"{WORKER.prefix}-00000.parquet").exists()


# --- what is no depot -------------------------------------------------------------------


def is_one_sentence(error):
    assert error.sentence.endswith(".")
    assert "\n" not in str(error)
    assert error.next_step
    assert len(error.sentence) < 400


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/headroom", "/sys/kernel/headroom"])
def test_a_depot_that_cannot_be_written_is_one_sentence(tmp_path, name):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(HeadroomError) as caught:
        Depot.at(str(tmp_path / name)).put(WORKER, a_part(tmp_path / "made"))
    is_one_sentence(caught.value)
    assert str(tmp_path / name) in caught.value.sentence
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.parametrize("name", ["s3://", "s3:///path", "ftp://host/path", "://", "http://host/x", "s3://bucket?x=y"])
def test_what_is_no_depot_is_one_sentence(name):
    with pytest.raises(HeadroomError, match="cannot be used") as caught:
        Depot.at(name)
    is_one_sentence(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "s3://AKIA:hush@bucket/path?no=such",
        "s3://AKIA:hush/hush@bucket/path?region=x",
        "s3://AKIA:hush hush@bucket/path",
        "ftp://user:hush@host/path",
        "s3://AKIA:hush@/",
    ],
)
def test_a_secret_in_the_name_is_in_no_message(name):
    with pytest.raises(HeadroomError, match="cannot be used") as caught:
        Depot.at(name)
    assert "hush" not in str(caught.value)
    assert "AKIA" not in str(caught.value)


def test_a_depot_that_is_open_does_not_tell_the_secret_in_its_name():
    assert Depot.at("s3://AKIA:hush@bucket/path?region=x").name == "s3://***@bucket/path?region=x"


@pytest.mark.parametrize("query", ["sv=1&sp=rw&sig=hush", "access_key=hush", "scheme=http&x_token=hush"])
def test_a_secret_in_the_query_is_not_told_whatever_it_is_called(query):
    try:
        told = Depot.at(f"s3://bucket/path?region=x&{query}").name
    except HeadroomError as error:
        told = str(error)
    assert "hush" not in told
    assert "region=x" in told or "cannot be used" in told


def test_a_uri_of_a_folder_is_that_folder(tmp_path):
    depot = Depot.at(f"file://{tmp_path}/depot")
    depot.put(WORKER, a_part(tmp_path / "made"))
    assert list(Depot.at(str(tmp_path / "depot")).parts()) == depot.parts() == [WORKER]


# --- a push into it ---------------------------------------------------------------------


def counts(pushed):
    return pushed.parts, pushed.containers


def test_a_push_leaves_whole_minutes_and_the_next_one_goes_on_there(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT + 30, MIDNIGHT + 600 + 50)
    assert counts(push(store, str(tmp_path / "depot"), "one")) == (1, 1)
    assert counts(push(store, str(tmp_path / "depot"), "one")) == (0, 0)
    record(store, MIDNIGHT + 600 + 50, MIDNIGHT + 900)
    assert counts(push(store, str(tmp_path / "depot"), "one")) == (1, 1)
    found = sorted((part.start - MIDNIGHT, part.end - MIDNIGHT) for part in Depot.at(str(tmp_path / "depot")).parts())
    assert found == [(0, 600), (600, 900)]
    gathered(tmp_path / "depot", tmp_path / "store")
    assert totals(tmp_path / "store") == totals(exported(tmp_path / "export", store))


def test_a_clock_that_was_set_back_hides_nothing_that_was_recorded_since(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT + HOUR, MIDNIGHT + HOUR + 600)
    pushed(tmp_path / "depot", one=store)
    record(store, MIDNIGHT, MIDNIGHT + 600)
    gathered(pushed(tmp_path / "depot", one=store), tmp_path / "store")
    assert totals(tmp_path / "store")["recordings"]["seconds"] == 1200


def test_a_clock_that_was_years_behind_when_the_machine_began_does_not_take_a_piece_for_every_day_since(tmp_path):
    store = record(tmp_path / "one.db", MIDNIGHT - 4000 * DAY, MIDNIGHT - 4000 * DAY + 60)
    record(store, MIDNIGHT, MIDNIGHT + 600)
    begin = time.monotonic()
    assert push(store, str(tmp_path / "depot"), "one").parts == 2
    assert time.monotonic() - begin < 1.5


def test_a_store_that_is_gone_or_written_by_nobody_yet_is_one_sentence(tmp_path):
    with pytest.raises(HeadroomError, match="There is no store") as caught:
        push(tmp_path / "no.db", str(tmp_path / "depot"), "one")
    is_one_sentence(caught.value)
    with ParquetWriter(tmp_path / "parquet", "x"), pytest.raises(HeadroomError) as caught:
        push(tmp_path / "parquet", str(tmp_path / "depot"), "one")
    is_one_sentence(caught.value)
    assert not (tmp_path / "depot").exists()
