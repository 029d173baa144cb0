"""``headroom pull`` and ``recommend --prometheus`` as their users meet them: a real Prometheus, and one that fails."""

import base64
import contextlib
import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import pandas as pd
import pytest

from headroom.cli import main
from headroom.connection import default_store
from recommender.inputs.inventory_file import read_inventories, write_inventory
from recommender.inputs.objects_file import read_objects
from recommender.inputs.parquet import read_folder
from recommender.inputs.prometheus import Connection
from tests.cluster import tsdb
from tests.cluster.faults import Fault, always, containing, from_on, proxy, up_to
from tests.cluster.tsdb import END, HOUR, START, needs_prometheus

pytestmark = needs_prometheus
HOUR_AND_A_HALF = 90 * 60  # in days exactly: 0.0625


pytestmark = pytest.mark.usefixtures("outside_of_any_cluster")


@pytest.fixture
def pull(run):
    def pull(url, store, *more, until=END, days=1.25):
        return run("pull", "--prometheus", url, "--store", store, "--until", until, "--days", days, *more)

    return pull


@pytest.fixture
def pull_little(pull):
    """Two hours and a half, of the recorded cluster."""
    return lambda url, store, *more: pull(url, store, *more, until=tsdb.RECORDED_END, days=0.1)


@pytest.fixture(scope="module")
def whole(url, tmp_path_factory):
    """What one undisturbed pull of thirty hours makes."""
    store = tmp_path_factory.mktemp("whole")
    with pytest.raises(SystemExit) as caught:
        main(["pull", "--prometheus", url, "--store", str(store), "--until", str(END), "--days", "1.25"])
    assert caught.value.code == 0
    return store


def contents(store):
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def times_of(store):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in store.rglob("*.parquet")}


def frames(store):
    """Rows by container, in order of time and pod."""
    made = {}
    for each in read_folder(store).histories:
        frame = each.frame.assign(instance=each.frame["instance"].astype(str))
        order = frame.sort_values(["start_unix_seconds", "instance"])
        made[each.container] = order.drop(columns="window", errors="ignore").reset_index(drop=True)
    return made


def assert_same_rows(one, other, columns=slice(None)):
    mine, theirs = frames(one), frames(other)
    assert sorted(mine) == sorted(theirs)
    for container, frame in mine.items():
        pd.testing.assert_frame_equal(frame.loc[:, columns], theirs[container].loc[:, columns], obj=container.name)


def names_of(document):
    keys = ("namespace", "kind", "workload", "container")
    return [tuple(row[key] for key in keys) for row in json.loads(document)["recommendations"]]


def queries_told(stderr):
    return int(re.search(r"(\d+) queries", stderr)[1])


# --- from Prometheus to sizes ---------------------------------------------------------


def test_pull_then_recommend_gives_every_container_exactly_once(run, whole):
    code, out, err = run("recommend", "--store", whole, "-o", "json")
    assert (code, err) == (0, "")
    assert tuple(names_of(out)) == tsdb.SHOP_CONTAINERS


def test_recommend_from_prometheus_gives_every_container_exactly_once(run, url, tmp_path, whole):
    code, out, err = run(
        "recommend", "--prometheus", url, "--store", tmp_path, "--until", END, "--days", 1.25, "-o", "json"
    )
    assert code == 0, err
    assert tuple(names_of(out)) == tsdb.SHOP_CONTAINERS
    assert contents(tmp_path) == contents(whole)


def test_without_a_store_it_is_kept_in_the_cache_folder(run, url, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = ("recommend", "--prometheus", url, "--until", tsdb.RECORDED_END, "--days", 0.1)
    first, second = run(*arguments), run(*arguments)
    assert (first[0], second[0]) == (0, 0)
    assert first[1] == second[1]
    assert queries_told(second[2]) < queries_told(first[2])
    assert len(list((tmp_path / "headroom").iterdir())) == 1


def test_pull_says_what_it_asked_on_stderr_and_nothing_on_stdout(url, tmp_path):
    options = ("pull", "--prometheus", url, "--store", tmp_path / "s", "--until", tsdb.RECORDED_END, "--days", 0.1)
    command = [sys.executable, "-m", "headroom", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert re.match(r"1 namespaces, 7 series every 60 s: \d+ queries, [\d.]+ M samples", done.stderr)
    assert f"next: headroom recommend --store {tmp_path / 's'}" in done.stderr


def test_rows_of_the_store_are_those_that_were_told(whole):
    app = next(frame for key, frame in frames(whole).items() if key.name == "shop/web/app")
    one = app[app["instance"] == tsdb.WEB[0]]
    told = tsdb.shop_series()["shop", tsdb.WEB[0], "app"][0][1]
    assert one["start_unix_seconds"].tolist() == [START + 300 * row for row in range(360)]
    counted = dict.fromkeys(range(360), 0.0)
    for (_, was, _), (moment, value, _) in itertools.pairwise(told):
        if START < moment <= END:
            counted[int((moment - START) // 300)] += (value - was) / 300
    assert one["cpu_cores"].to_list() == pytest.approx(list(counted.values()), rel=1e-6)
    assert one["memory_anon_bytes"].notna().all()
    assert one["periods"].notna().sum() >= 359


def test_without_kube_state_metrics_it_says_so_and_goes_on(run, pull, url, tmp_path):
    code, _, err = pull(url, tmp_path, until=tsdb.OFTEN_END, days=0.1)
    assert code == 0
    assert "kube-state-metrics is not in this Prometheus" in err
    assert names_of(run("recommend", "--store", tmp_path, "-o", "json")[1]) == [("fast", "Pod", "api-0", "api")]


@pytest.mark.parametrize("until", [tsdb.RECORDED_END, tsdb.OFTEN_END], ids=["declared", "usage alone"])
def test_the_cluster_is_called_what_it_is_called(pull, url, tmp_path, until):
    assert pull(url, tmp_path, "--cluster", "prod", until=until, days=0.1)[0] == 0
    assert {container.cluster for container in frames(tmp_path)} == {"prod"}


def test_a_second_cluster_in_the_same_store_is_read_or_refused(pull_little, url, tmp_path):
    assert pull_little(url, tmp_path, "--cluster", "one")[0] == 0
    code, _, err = pull_little(url, tmp_path, "--cluster", "two")
    if code == 0:
        assert {container.cluster for container in frames(tmp_path)} == {"one", "two"}
    else:
        assert "next:" in err


def test_a_namespace_in_which_all_that_ran_is_one_short_job_is_pulled(pull, url, tmp_path):
    assert pull(url, tmp_path, until=tsdb.RARE_END)[0] == 0
    assert "night" in {container.namespace for container in frames(tmp_path)}


def test_a_kubelets_resource_metrics_do_where_no_cadvisor_is_scraped(pull, url, tmp_path):
    code, _, err = pull(url, tmp_path, "--namespace", "shop", until=tsdb.RESOURCE_END, days=0.1)
    assert code == 0, err
    told = frames(tmp_path)
    assert len(told) == 7, "pods have names of their own where nobody tells their owners"
    for container, frame in told.items():
        assert container.namespace == "shop"
        assert frame["cpu_cores"].to_numpy() == pytest.approx(0.01)
        assert frame["memory_working_set_bytes"].notna().all()
        assert frame["throttled_periods"].isna().all(), "it does not tell periods"


def test_containers_that_belong_to_no_pod_do_not_end_it(pull, url, tmp_path):
    code, _, err = pull(url, tmp_path, until=tsdb.STRAY_END, days=0.1)
    assert code == 0, err
    assert {container.namespace for container in frames(tmp_path)} == {"day"}


def test_in_however_many_queries_it_is_pulled_the_store_is_the_same(pull, url, tmp_path, whole):
    code, _, err = pull(url, tmp_path, "--samples-a-query", 1000)
    assert code == 0
    assert queries_told(err) > 40
    assert contents(tmp_path) == contents(whole)


# --- again, later, and after it was cut off -----------------------------------------------


def test_a_second_pull_asks_for_next_to_nothing_and_changes_no_file(pull, url, tmp_path):
    pull(url, tmp_path)
    before, times = contents(tmp_path), times_of(tmp_path)
    with proxy(url) as between:
        code, _, err = pull(between.url, tmp_path)
    assert code == 0
    assert queries_told(err) == len(between.seen) < 30
    assert not [query for query in between.queries() if 'namespace="shop",container!=""' in query]
    assert contents(tmp_path) == before
    assert times_of(tmp_path) == times


@pytest.mark.parametrize("column", ["usage", "periods"])
def test_until_now_and_then_until_later_is_the_same_as_until_later(pull, url, tmp_path, whole, column):
    """1.1875 days until an hour and a half ago, and then until now."""
    pull(url, tmp_path, until=END - HOUR_AND_A_HALF, days=1.1875)
    with proxy(url) as between:
        assert pull(between.url, tmp_path)[0] == 0
    assert len(between.seen) < 40
    usage = ["start_unix_seconds", "instance", "cpu_cores", "cpu_peak_cores", "memory_working_set_bytes",
             "memory_anon_bytes", "cpu_request_cores", "cpu_limit_cores", "memory_limit_bytes"]  # fmt: skip
    assert_same_rows(tmp_path, whole, usage if column == "usage" else slice(None))


def test_a_seam_within_a_short_gap_loses_nothing(pull, url, tmp_path, whole):
    """Four scrapes are missing around the seam; the counter knows what happened meanwhile."""
    seam = START + 12 * HOUR
    pull(url, tmp_path, until=seam, days=0.5)
    pull(url, tmp_path)
    assert_same_rows(tmp_path, whole, ["start_unix_seconds", "instance", "cpu_cores", "cpu_peak_cores"])


def test_more_days_bring_what_is_older(pull, url, tmp_path, whole):
    pull(url, tmp_path, days=0.5)
    held = times_of(tmp_path)
    pull(url, tmp_path)
    assert held.items() <= times_of(tmp_path).items()
    assert_same_rows(tmp_path, whole, ["start_unix_seconds", "instance", "cpu_cores", "memory_working_set_bytes"])


def test_parts_are_deleted_once_they_are_wholly_older_than_what_is_kept(pull, url, tmp_path):
    def starts(table):
        return {int(path.name.split("~")[3]) for path in (tmp_path / table).iterdir()}

    pull(url, tmp_path, until=START + 6 * HOUR, days=0.25)
    pull(url, tmp_path, until=START + 12 * HOUR, days=0.5)
    pull(url, tmp_path, until=START + 18 * HOUR, days=0.25)
    assert starts("recordings") == {START, START + 6 * HOUR, START + 12 * HOUR}  # nobody said that anything may go
    pull(url, tmp_path, "--keep", "7h", until=START + 18 * HOUR, days=0.25)
    assert starts("recordings") == starts("usage") == {START + 6 * HOUR, START + 12 * HOUR}


def test_a_pull_that_was_killed_goes_on_where_it_stopped_and_nothing_half_was_visible(pull, url, tmp_path, whole):
    slow = containing('{namespace="shop"', Fault(delay=1.0))
    with proxy(url, slow) as between:
        command = [sys.executable, "-m", "headroom", "pull", "--prometheus", between.url, "--store", str(tmp_path)]
        process = subprocess.Popen([*command, "--until", str(END), "--days", "1.25"], stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: list(tmp_path.glob("recordings/*.parquet")))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(20)
    assert [container.namespace for container in frames(tmp_path)] == ["bank", "bank"]
    with proxy(url) as between:
        assert pull(between.url, tmp_path)[0] == 0
    assert not [query for query in between.queries() if '{namespace="bank",container!=""' in query]
    assert contents(tmp_path) == contents(whole)


def wait_for(happens):
    for _ in range(400):
        if happens():
            return
        time.sleep(0.05)
    raise AssertionError


@pytest.mark.parametrize("number", [1, 8, 16, 22])
def test_a_pull_that_failed_at_any_query_goes_on_where_it_stopped(run, pull, url, tmp_path, whole, number):
    failure = Fault(500, b'{"status":"error","error":"out of disk"}')
    with proxy(url, from_on(number, failure)) as between:
        code, out, err = pull(between.url, tmp_path)
    assert (code, out) == (1, "")
    assert err.endswith("answered 500: out of disk.\n  next: Look at its log, and try again.\n")
    assert {name for name in contents(tmp_path) if "/" in name} <= set(contents(whole))
    assert pull(url, tmp_path)[0] == 0
    assert contents(tmp_path) == contents(whole)


def test_a_part_whose_last_file_never_became_visible_is_read_again_and_does_not_count_twice(pull, url, tmp_path, whole):
    """Killed between two renames; and the next pull asks for more, so that its part has another name."""
    pull(url, tmp_path, until=END - HOUR_AND_A_HALF, days=1.1875)
    for path in (tmp_path / "recordings").iterdir():
        path.rename(path.with_name(path.name + ".part"))
    assert pull(url, tmp_path)[0] == 0
    assert_same_rows(tmp_path, whole)
    assert {path.name for path in tmp_path.glob("usage/*")} == {
        path.name for path in tmp_path.glob("recordings/*.parquet")
    }


def test_what_a_killed_pull_left_half_written_goes(pull, url, tmp_path):
    (tmp_path / "usage").mkdir()
    left = tmp_path / "usage" / f"prometheus~cluster~shop~{START - 300}~{END - 300}-00000.parquet.part"
    left.write_bytes(b"PAR1")
    assert pull(url, tmp_path)[0] == 0
    assert not list(tmp_path.rglob("*.part"))


# --- faults ---------------------------------------------------------------------------------


def assert_one_sentence_with_a_next_step(told, code, *words):
    assert told[:2] == (code, "")
    sentence, step = told[2].rstrip("\n").split("\n")
    assert sentence.startswith("error: ")
    assert sentence.endswith(".")
    assert step.startswith("  next: ")
    for each in words:
        assert each in told[2]


LOGIN = b"<!DOCTYPE html><html><head><title>Log in</title></head><body><form/></body></html>"
TOO_MANY = (
    b'{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory"}'
)


def with_more(text):
    """What Thanos and VictoriaMetrics add to an answer."""
    return Fault(edit=lambda content: content.rstrip().removesuffix(b"}") + text + b"}")


def without_its_end(count):
    return Fault(edit=lambda content: content[:-count])


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (always(Fault(404, b"404 page not found\n", "text/plain")), ["answered 404", "without /api/v1"]),
        (always(Fault(401, b"Unauthorized", "text/plain")), ["answered 401", "--bearer-token-file"]),
        (always(Fault(403, b'{"status":"error","error":"no org id"}')), ["answered 403: no org id", "X-Scope-OrgID"]),
        (always(Fault(200, LOGIN, "text/html")), ["did not answer as Prometheus does", "login page"]),
        (always(Fault(302, LOGIN, "text/html")), ["answered 302"]),
        (always(with_more(b',"warnings":["store 10.0.0.7 [x]] gone"]')), ["in part only (store 10.0.0.7", "gone"]),
        (containing("[", with_more(b',"warnings":["[[x]] gone"]')), ["in part only", "[[x]] gone"]),
        (always(with_more(b',"isPartial":true')), ["in part only (isPartial", "too small"]),
        (containing("[8", with_more(b',"isPartial":true')), ["in part only (isPartial"]),
        (containing("[8", without_its_end(1)), ["did not answer as Prometheus does"]),
        (containing("[8", without_its_end(4)), ["did not answer as Prometheus does"]),
        (containing("[8", without_its_end(2000)), ["did not answer as Prometheus does"]),
        (containing("max_over_time", without_its_end(3)), ["did not answer as Prometheus does"]),
        (containing("[8", Fault(cut=2000)), ["127.0.0.1"]),
        (containing("max_over_time", Fault(422, TOO_MANY)), ["answered 422", "too many samples", "--samples-a-query"]),
        (always(Fault(429, b"slow down", "text/plain")), ["answered 429: slow down", "later"]),
        (always(Fault(500, b"", "text/plain")), ["answered 500"]),
        (always(Fault(503, b"starting", "text/plain")), ["answered 503: starting"]),
        (always(Fault(200, b"")), ["did not answer as Prometheus does"]),
        (always(Fault(200, b'{"status":"success","data":["pod"]}')), ["did not answer as Prometheus does"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_fault_is_one_sentence_with_a_next_step_and_leaves_no_part(pull_little, url, tmp_path, plan, words):
    with proxy(url, plan) as between:
        told = pull_little(between.url, tmp_path / "store")
        assert_one_sentence_with_a_next_step(told, 1, between.url, *words)
    assert not list(tmp_path.rglob("*.parquet*"))


def test_a_server_that_sleeps_is_given_up_and_the_sentence_says_why(pull_little, url, tmp_path):
    with proxy(url, always(Fault(delay=8))) as between:
        told = pull_little(between.url, tmp_path, "--timeout", "500ms")
    assert_one_sentence_with_a_next_step(told, 1, between.url, "did not answer in time", "--timeout")


def test_where_nothing_listens(pull_little, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert_one_sentence_with_a_next_step(pull_little(nowhere, tmp_path), 1, f"Nothing answers at {nowhere}")


def test_a_wrong_path_of_a_real_prometheus(pull_little, url, tmp_path):
    assert_one_sentence_with_a_next_step(pull_little(f"{url}/api/v1", tmp_path), 1, "answered 404", "without /api/v1")


def test_a_slash_at_the_end_of_the_address_does_no_harm(pull_little, url, tmp_path):
    assert pull_little(f"{url}/", tmp_path)[0] == 0


def test_a_server_that_is_away_for_a_moment_is_asked_again(pull_little, url, tmp_path):
    with proxy(url, up_to(2, Fault(503, b"starting", "text/plain"))) as between:
        code, _, err = pull_little(between.url, tmp_path)
    assert code == 0, err
    assert between.queries()[0] == between.queries()[1] == between.queries()[2]
    assert len(frames(tmp_path)) == 5


def test_too_many_samples_of_a_real_prometheus(pull, tmp_path):
    with tsdb.prometheus(tsdb.often(), options=["--query.max-samples=200"]) as small:
        told = pull(small, tmp_path, until=tsdb.OFTEN_END, days=0.1)
    assert_one_sentence_with_a_next_step(told, 1, "answered 422", "too many samples", "--samples-a-query")


def test_a_prometheus_without_cadvisor(pull, url, tmp_path):
    told = pull(url, tmp_path, until=START - 100 * tsdb.DAY, days=0.1)
    assert_one_sentence_with_a_next_step(told, 1, "has no CPU usage of containers", "cadvisor")


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--until", "soon"], 2, "'soon' is no time; write 2026-11-20T10:00:00Z"),
        (["--until", "99999999999"], 1, "127.0.0.1"),
        (["--user", "me"], 2, "--user needs a --password-file."),
        (["--user", "me", "--password-file", "{here}/no"], 2, "does not exist"),
        (["--user", "me", "--password-file", "{here}/binary"], 2, "binary"),
        (["--bearer-token-file", "{here}/binary"], 2, "binary"),
        (["--header", "no colon"], 2, "'no colon' is no header."),
        (["--header", "X-Team: \N{SNOWMAN}"], 2, "header"),
        (["--header", "X Team: a"], 1, "invalid header name"),
        (["--cert-file", "{here}/file"], 2, "--cert-file and --key-file go together."),
        (["--timeout", "0"], 2, "'0' is not a duration"),
        (["--days", "0"], 2, "0 is not in the range"),
        (["--samples-a-query", "9"], 2, "9 is not in the range"),
        (["--prometheus", "prometheus:9090"], 2, "is no address of a Prometheus"),
        (["--prometheus", "http://"], 2, "http://"),
        (["--prometheus", "http://[::1"], 2, "http://[::1"),
        (["--prometheus", "http://no-such-host.invalid:9090"], 1, "Nothing answers at"),
        (["--store", "{here}/file"], 2, "file"),
        (["--store", "{here}/file/below"], 1, "cannot be written"),
        (["--store", "/proc/store"], 1, "cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_asked_wrongly_is_said(pull_little, url, tmp_path, more, code, words):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    told = pull_little(url, tmp_path / "store", *(each.format(here=tmp_path) for each in more))
    assert told[:2] == (code, "")
    assert words in told[2]
    assert "next:" in told[2] or "--help" in told[2]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_takes_no_files_is_said(pull_little, url, tmp_path):
    (tmp_path / "recordings").write_text("in the way")
    assert_one_sentence_with_a_next_step(pull_little(url, tmp_path), 1, "cannot be written", "with room that you own")


AS_NOBODY = """
import os, sys
import headroom.cli, headroom.commands.pull, headroom.pulling, idna, encodings.idna
if os.geteuid() == 0:
    os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
headroom.cli.main(sys.argv[1:])
"""


def test_a_folder_that_may_not_be_read_is_said(url, tmp_path):
    """Root may read everything, so it is not root who asks."""
    store = tmp_path / "store"
    store.mkdir(mode=0o000)
    options = ("pull", "--prometheus", url, "--store", store, "--until", tsdb.RECORDED_END, "--days", 0.1)
    command = [sys.executable, "-c", AS_NOBODY, *map(str, options)]
    with contextlib.ExitStack() as after:
        after.callback(store.chmod, 0o700)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert_one_sentence_with_a_next_step((done.returncode, done.stdout, done.stderr), 1, str(store), "cannot be")


# --- what is sent ------------------------------------------------------------------------------


def test_a_query_travels_in_the_body_of_a_post(pull_little, url, tmp_path):
    with proxy(url) as between:
        assert pull_little(between.url, tmp_path)[0] == 0
    names = [each for each in between.seen if each.method == "GET"]
    assert {each.path.partition("?")[0] for each in names} == {
        f"/api/v1/label/{label}/values" for label in ("namespace", "pod", "cluster", "k8s_namespace_name")
    }
    asked = [each for each in between.seen if each.method == "POST"]
    assert {each.path for each in asked} == {"/api/v1/query", "/api/v1/query_range"}
    assert all(each.query for each in asked)


def test_headers_are_sent_with_every_query(pull_little, url, tmp_path):
    with proxy(url) as between:
        assert pull_little(between.url, tmp_path, "--header", "X-Scope-OrgID: team:a", "--header", "X-B:2")[0] == 0
    assert {(each.headers["X-Scope-OrgID"], each.headers["X-B"]) for each in between.seen} == {("team:a", "2")}


def test_the_token_is_read_anew_for_every_query(pull_little, url, tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n")

    def rotate(seen):
        if seen.number == 3:
            token.write_text("second\n")

    with proxy(url, rotate) as between:
        assert pull_little(between.url, tmp_path / "store", "--bearer-token-file", token)[0] == 0
    sent = [each.headers.get("Authorization") for each in between.seen]
    assert sent == ["Bearer first"] * 3 + ["Bearer second"] * (len(sent) - 3)
    assert len(sent) > 10


def test_a_token_file_that_goes_away_meanwhile_is_said(pull_little, url, tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n")
    with proxy(url, lambda seen: token.unlink() if seen.number == 3 else None) as between:
        told = pull_little(between.url, tmp_path / "store", "--bearer-token-file", token)
    assert_one_sentence_with_a_next_step(told, 2, f"The token file {token} cannot be read")


def test_basic_authentication_is_sent_with_every_query(pull_little, url, tmp_path):
    (tmp_path / "password").write_text("p:a s\n")
    with proxy(url) as between:
        told = pull_little(
            between.url, tmp_path / "store", "--user", "me", "--password-file", tmp_path / "password"
        )  # fmt: skip
    assert told[0] == 0
    assert "p:a s" not in told[2]
    wanted = "Basic " + base64.b64encode(b"me:p:a s").decode()
    assert {each.headers.get("Authorization") for each in between.seen} == {wanted}


def test_nothing_compressed_is_asked_for(pull_little, url, tmp_path):
    with proxy(url) as between:
        assert pull_little(between.url, tmp_path)[0] == 0
    assert {each.headers["Accept-Encoding"] for each in between.seen} == {"identity"}


def test_a_file_of_secrets_of_the_user_is_not_used(pull_little, url, tmp_path, monkeypatch):
    """A header that was given stays, whatever ~/.netrc says of the host."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with proxy(url) as between:
        assert pull_little(between.url, tmp_path / "store", "--header", "Authorization: Bearer mine")[0] == 0
    assert {each.headers["Authorization"] for each in between.seen} == {"Bearer mine"}


def test_the_inventory_lies_beside_the_rows(whole):
    (inventory,) = read_inventories(whole)
    assert inventory.source == "kube-state-metrics"
    assert len(inventory.containers) == len(tsdb.SHOP_CONTAINERS)


# --- what a review found -----------------------------------------------------------


def test_a_request_of_nothing_is_no_reason_to_fail(run, whole, tmp_path):
    objects = {"kind": "List", "items": [deployment("web", requests={"cpu": "0", "memory": "0"})]}
    (tmp_path / "objects.json").write_text(json.dumps(objects))
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    write_inventory(store, read_objects([tmp_path / "objects.json"], "cluster"))
    code, out, err = run("recommend", "--store", store)
    assert (code, err) == (0, "")
    assert "shop/web/app" in out


def deployment(name, **resources):
    spec = {"containers": [{"name": "app", "resources": resources}]}
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": {"spec": spec}}}


def test_the_report_has_what_is_declared_and_was_not_seen(run, whole, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    (tmp_path / "objects.json").write_text(json.dumps({"kind": "List", "items": [deployment("ghost")]}))
    write_inventory(store, read_objects([tmp_path / "objects.json"], "cluster"))
    code, _, err = run("report", "--store", store, "--out", tmp_path / "report.html")
    assert code == 0, err
    assert "shop/ghost/app" in (tmp_path / "report.html").read_text()


def test_two_users_of_one_server_do_not_share_a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one = Connection("http://prometheus")
    others = [
        replace(one, basic=("1", "secret")),
        replace(one, basic=("2", "secret")),
        replace(one, headers={"Authorization": "Bearer a"}),
        replace(one, headers={"X-Scope-OrgID": "a"}),
        replace(one, bearer_token_file=tmp_path / "token"),
    ]
    folders = [default_store(each) for each in (one, *others)]
    assert len(set(folders)) == len(folders)
    assert not any("secret" in str(each) for each in folders)


def test_a_server_of_several_clusters_asks_which_one(run, pull_little, url, tmp_path):
    clusters = Fault(body=json.dumps({"status": "success", "data": ["prod", "test"]}).encode())
    with proxy(url, lambda seen: clusters if "/label/cluster/" in seen.path else None) as between:
        code, _, err = pull_little(between.url, tmp_path / "store")
        assert (code, "--match cluster=prod" in err) == (2, True)
    with proxy(url) as between:
        code, _, _ = pull_little(between.url, tmp_path / "store", "--match", 'job="none"')
        assert code == 1
        assert all('job="none"' in each.query for each in between.seen if each.query)


@pytest.mark.parametrize("text", ["cluster", "=prod", "9x=1", "a b=c"])
def test_what_is_no_label_is_said(pull_little, url, tmp_path, text):
    code, _, err = pull_little(url, tmp_path, "--match", text)
    assert (code, "is no label" in err) == (2, True)


def test_the_report_of_usage_alone_does_not_say_that_there_were_no_requests(run, whole, tmp_path):
    code, _, err = run("report", "--store", whole, "--out", tmp_path / "report.html")
    assert code == 0, err
    assert "requests seen" not in (tmp_path / "report.html").read_text()


def test_what_a_real_prometheus_has_is_pulled_and_served(url, tmp_path):
    command = [
        sys.executable,
        "-m",
        "headroom",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--prometheus",
        url,
        "--every",
        "1s",
    ]
    command += ["--until", str(tsdb.RECORDED_END), "--days", "0.1", "--store", str(tmp_path / "fleet")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as serving:
        try:
            address = next(line.strip() for line in serving.stderr if line.startswith("http://"))
            with urllib.request.urlopen(f"{address}report.json", timeout=30) as answer:
                document = json.load(answer)
            assert next(line for line in serving.stderr if "queries" in line)  # it pulls again
        finally:
            serving.send_signal(signal.SIGTERM)
            serving.wait(20)
    assert len(document["recommendations"]) > 3
    assert serving.returncode == 0
