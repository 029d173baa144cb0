"""A depot in an object store: a real server, and what is said where it does not let one in."""

import socket

import pytest

from profiles.depot import Depot
from profiles.errors import HeadroomError
from profiles.parts import TABLES, Part
from tests.cluster.nodes import DAY, HOUR, MIDNIGHT, contents, exported, record, take, totals
from tests.cluster.s3 import BUCKET, KEY, SECRET, be_let_in, make_s3_address, make_s3_uri, uri  # noqa: F401

pytestmark = pytest.mark.usefixtures("outside_of_any_cluster")
PARTS = tuple(
    Part("node", "prod", node, begin, begin + HOUR) for begin in (MIDNIGHT - DAY, MIDNIGHT) for node in ("a", "b")
)


def files_of(folder, *parts, but=()):
    for table in TABLES:
        (folder / table).mkdir(parents=True, exist_ok=True)
        for part in parts if table not in but else ():
            (folder / table / f"{part.prefix}-00000.parquet").write_bytes(part.prefix.encode() * 50_000)
    return folder


def one_core(at):
    return 1.0


def test_parts_are_put_seen_taken_and_forgotten(s3_uri, tmp_path):
    made, depot = files_of(tmp_path / "made", *PARTS), Depot.at(s3_uri)
    assert depot.parts() == []
    for part in PARTS:
        depot.put(part, made)
    assert depot.parts() == sorted(PARTS)
    take(depot, PARTS, tmp_path / "taken")
    assert contents(tmp_path / "taken") == contents(made)
    depot.forget(MIDNIGHT)
    assert sorted(depot.parts()) == sorted(PARTS[2:])
    take(depot, PARTS, tmp_path / "left")
    assert contents(tmp_path / "left") == contents(files_of(tmp_path / "expected", *PARTS[2:]))
    depot.forget(MIDNIGHT)


def test_a_part_is_not_there_until_its_last_object_is(s3_uri, tmp_path):
    depot = Depot.at(s3_uri)
    depot.put(PARTS[0], files_of(tmp_path / "half", PARTS[0], but=("recordings",)))
    assert depot.parts() == []
    depot.put(PARTS[0], files_of(tmp_path / "half", PARTS[0]))
    assert depot.parts() == [PARTS[0]]


def test_from_nodes_to_sizes_over_an_object_store(run, s3_uri, tmp_path):
    stores = {
        node: record(tmp_path / f"{node}.db", MIDNIGHT - HOUR, MIDNIGHT + HOUR, instance=node, limit=one_core)
        for node in "ab"
    }
    for node, store in stores.items():
        code, out, err = run("push", "--store", store, "--to", s3_uri, "--node", node)
        assert (code, out) == (0, ""), err
    pull = ("pull", "--profiles", s3_uri, "--store", tmp_path / "fleet", "--cluster", "prod", "--until", MIDNIGHT + DAY)
    code, _, err = run(*pull)
    assert code == 0, err
    assert "profiles of 2 nodes: 4 new parts" in err
    assert totals(tmp_path / "fleet") == totals(exported(tmp_path / "export", *stores.values()))
    before = contents(tmp_path / "fleet")
    assert "2 nodes: 0 new parts" in run(*pull)[2]
    assert contents(tmp_path / "fleet") == before
    code, out, err = run("recommend", "--store", tmp_path / "fleet", "-o", "json")
    assert (code, out.count('"workload": "web"')) == (0, 1), err


def test_push_keeps_what_it_is_told_to_keep(run, s3_uri, tmp_path):
    store, old = record(tmp_path / "a.db", MIDNIGHT, MIDNIGHT + HOUR), Part("node", "prod", "gone", 0, HOUR)
    Depot.at(s3_uri).put(old, files_of(tmp_path / "old", old))
    code, _, err = run("push", "--store", store, "--to", s3_uri, "--node", "a", "--keep", "30d")
    assert code == 0, err
    assert old not in Depot.at(s3_uri).parts()


# --- what does not let one in ---------------------------------------------------------------


def assert_one_sentence(code, out, err):
    assert (code, out) == (1, "")
    assert err.startswith("error: s3://")
    assert err.count("\n") == 2
    assert "\n  next: " in err
    assert SECRET not in err
    assert "Traceback" not in err


def test_a_bucket_that_does_not_exist_is_one_sentence(run, s3_address, s3_uri, tmp_path):
    store, no = record(tmp_path / "a.db", MIDNIGHT, MIDNIGHT + 600), uri(s3_address, "nobody/x")
    assert_one_sentence(*run("push", "--store", store, "--to", no, "--node", "a"))
    told = run("pull", "--profiles", no, "--store", tmp_path / "fleet", "--cluster", "prod")
    assert_one_sentence(*told)
    assert "bucket" in told[2].replace(no, "").lower()


def test_a_store_that_is_not_reached_is_one_sentence(run, monkeypatch, tmp_path):
    be_let_in(monkeypatch)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        name = uri("{}:{}".format(*closed.getsockname()), f"{BUCKET}/x", f"{KEY}:{SECRET}@")
        assert_one_sentence(*run("pull", "--profiles", name, "--store", tmp_path / "fleet"))
    assert not list((tmp_path / "fleet").rglob("*.parquet"))


def test_one_who_is_nobody_is_told_so_in_one_sentence(run, monkeypatch, s3_address, tmp_path):
    be_let_in(monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(HeadroomError):
        Depot.at(uri(s3_address, "nobody/x")).put(PARTS[0], files_of(tmp_path / "made", PARTS[0]))


def test_a_secret_in_the_name_is_nowhere_in_what_is_told(run, s3_address, s3_uri, tmp_path):
    store, name = (
        record(tmp_path / "a.db", MIDNIGHT, MIDNIGHT + 600),
        uri(s3_address, f"{BUCKET}/y", f"{KEY}:{SECRET}@"),
    )
    pull = ("pull", "--profiles", name, "--store", tmp_path / "fleet", "--until", MIDNIGHT + DAY, "--cluster")
    for command in (("push", "--store", store, "--to", name), (*pull, "prod"), (*pull, "other")):
        _, out, err = run(*command)
        assert SECRET not in out + err
