"""What came since the last report: remembered, compared with the one before and never with itself."""

import gzip
import itertools
import json
import os
import re
import zlib
from copy import deepcopy
from pathlib import Path

import pytest

import headroom.demo
from headroom import reporting
from headroom.delivery.mail import Mail, Server
from headroom.delivery.webhook import PAYLOADS
from headroom.remembered import last_before, remember, remembered_in, stamp_of
from headroom.reporting import message_of, with_changes
from recommender.resources import RESOURCE_NAMES
from reports.changes import changes_since
from reports.markdown import change_lines, to_markdown

pytestmark = pytest.mark.usefixtures("outside_of_any_cluster")
CHECKOUT = "host/checkout/checkout"
EMPTY = {"new": [], "gone": [], "applied": [], "regressed": [], "advice": []}


@pytest.fixture
def report(run, recorded, tmp_path):
    """The document that a run of ``headroom report`` writes, and what it says."""

    def report(*more, since="last", form="json"):
        out = tmp_path / f"out.{form}"
        code, told, err = run("report", "--store", recorded, "--out", out, "--since", since, *more)
        assert (code, told, err) == (0, f"{out}\n", "")
        return json.loads(out.read_text()) if form == "json" else out.read_text()

    return report


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = tmp_path_factory.mktemp("made") / "recorded.db"
    packed = Path(headroom.demo.__file__).parent / "recording.db.gz"
    store.write_bytes(gzip.decompress(packed.read_bytes()))
    return json.dumps(reporting.report_of(store, "balanced", None))


@pytest.fixture
def document(made):
    """Of the recording, but that leaky, which got slower, did not."""
    document = json.loads(made)
    latency = of(document, "host/leaky/leaky")["timeline"]["latency"]
    latency["p95_seconds"] = [0.001] * len(latency["p95_seconds"])
    return document


def of(document, name=CHECKOUT):
    (found,) = (
        each
        for each in document["recommendations"]
        if name == f"{each['namespace']}/{each['workload']}/{each['container']}"
    )
    return found


def earlier(document, seconds=31):
    """The same document as it would have been at a step's begin, `seconds` before its own end or a little more."""
    last = deepcopy(document)
    last["recording"]["end_unix_seconds"] = of(document)["timeline"]["start_unix_seconds"] + 62 - seconds
    return last


def changed(document, column, values, last=None):
    """What came since `last`, had a column of checkout been these values; latency is in steps of 5 s."""
    now = deepcopy(document)
    timeline = of(now)["timeline"]
    columns = timeline["latency" if column.startswith("p9") else "columns"]
    assert len(values) == len(columns[column])
    columns[column] = values
    return changes_since(last or earlier(document), now)


def different(one, other):
    pairs = zip(one["recommendations"], other["recommendations"], strict=True)
    return [f"host/{a['workload']}/{a['container']}" for a, b in pairs if a["target"] != b["target"]]


def test_the_first_report_has_no_last_one(report):
    assert report()["changes"] is None
    assert "last report" not in report(form="md")


def test_a_report_is_compared_with_the_one_before_and_not_with_itself(report, tmp_path):
    first = report()
    assert report()["changes"] is None
    safe = report("--policy", "safe")
    assert different(first, safe)
    assert safe["changes"]["advice"] == different(first, safe)
    assert {**safe["changes"], "advice": []} == {
        **EMPTY,
        "since_unix_seconds": first["recording"]["end_unix_seconds"],
    }
    assert report("--policy", "safe")["changes"] == safe["changes"]
    text = report("--policy", "safe", form="md")
    assert f"- other advice: {', '.join(different(first, safe))}\n" in text.replace("\\", "")
    assert len(remembered_in(tmp_path / "recorded.db.reports")) == 2


def test_of_reports_over_the_same_recording_the_one_made_last_is_the_last(recorded, tmp_path):
    policies = ("balanced", "lean", "safe")
    made = {name: json.loads(json.dumps(reporting.report_of(recorded, name, None))) for name in policies}
    for order in itertools.permutations(policies):
        folder, (_, second, third) = tmp_path / "-".join(order), (made[name] for name in order)
        for name in order[:2]:
            remember(folder, made[name])
        assert with_changes(third, "last", folder)["changes"]["advice"] == different(second, third), order


def test_reports_are_remembered_where_it_is_said_and_only_when_they_are_compared(report, run, recorded, tmp_path):
    report("--history", tmp_path / "kept")
    assert len(remembered_in(tmp_path / "kept")) == 1
    assert run("report", "--store", recorded, "--out", tmp_path / "x.json")[0] == 0
    assert not (tmp_path / "recorded.db.reports").exists()


def test_the_newest_of_the_reports_is_the_last_and_the_oldest_are_forgotten(document, tmp_path):
    for seconds in range(130, 0, -1):
        remember(tmp_path, earlier(document, seconds))
    assert len(remembered_in(tmp_path)) == 120
    assert not list(tmp_path.glob("*.part"))
    assert last_before(tmp_path, document).read()["recording"] == earlier(document, 1)["recording"]
    compared = with_changes(document, "last", tmp_path)["changes"]
    assert compared["since_unix_seconds"] == earlier(document, 1)["recording"]["end_unix_seconds"]


def test_a_remembered_report_gives_the_same_changes_as_its_whole_document(document, tmp_path):
    last, now = earlier(document), deepcopy(document)
    of(now)["current"] = deepcopy(of(now)["target"])
    of(now, "host/idle/idle")["target"]["cpu_limit_cores"] = 7.0
    remember(tmp_path, last)
    changes = with_changes(now, "last", tmp_path)["changes"]
    assert changes == changes_since(last, now)
    assert changes["applied"]
    (tmp_path / "last.json").write_text(json.dumps(last))
    assert with_changes(now, str(tmp_path / "last.json"), tmp_path / "none")["changes"] == changes


# --- what came of it ------------------------------------------------------------------------------


def test_nothing_changed_is_nothing(document):
    changes = changes_since(earlier(document), document)
    assert {name: changes[name] for name in EMPTY} == EMPTY
    assert change_lines({**document, "changes": changes}) == ["nothing"]


def test_containers_come_and_go_and_those_of_another_cluster_are_others(document):
    last = earlier(document)
    of(last)["cluster"] = "elsewhere"
    changes = changes_since(last, document)
    assert (changes["new"], changes["gone"]) == ([CHECKOUT], [CHECKOUT])
    assert changes["advice"] == []


def test_sizes_that_now_are_as_advised_were_applied(document):
    last, now = earlier(document), deepcopy(document)
    of(now)["current"] = deepcopy(of(last)["target"])
    (applied,) = changes_since(last, now)["applied"]
    assert applied["name"] == CHECKOUT
    assert applied["sentence"].startswith(
        "was applied (CPU request 400m, CPU limit 570m, memory request 19Mi, memory limit 24Mi); since then "
    )
    assert "P95 and the share of server errors are as before" in applied["sentence"]
    (partly,) = changes_since({**last}, _with_current(now, cpu_limit_cores=0.6))["applied"]
    assert "CPU request 400m" in partly["sentence"]
    assert "CPU limit" not in partly["sentence"]


def _with_current(now, **sizes):
    now = deepcopy(now)
    of(now)["current"] |= sizes
    return now


def test_sizes_that_were_not_advised_to_change_or_are_others_were_not_applied(document):
    last, now = earlier(document), deepcopy(document)
    of(now)["current"] = dict.fromkeys(RESOURCE_NAMES, 3.0) | {"quantities": dict.fromkeys(RESOURCE_NAMES, "3")}
    assert changes_since(last, now)["applied"] == []
    of(now)["current"] = deepcopy(of(last)["target"])
    of(last)["verdict"] = "keep"
    assert changes_since(last, now)["applied"] == []
    of(last)["verdict"] = "resize"
    of(last)["current"] = deepcopy(of(last)["target"])
    assert changes_since(last, now)["applied"] == []


def test_what_was_applied_and_regressed_says_both(document):
    now = deepcopy(document)
    of(now)["current"] = deepcopy(of(now)["target"])
    changes = changed(now, "p95_seconds", [0.010] * 6 + [0.030] * 7, earlier(document))
    (applied,), (regressed,) = changes["applied"], changes["regressed"]
    assert applied["sentence"].endswith(f"since then {regressed['sentence']}")


def test_a_p95_that_is_worse_since_then_is_found(document):
    (worse,) = changed(document, "p95_seconds", [0.010] * 6 + [None] + [0.030] * 6)["regressed"]
    assert worse["name"] == CHECKOUT
    assert re.match(r"P95 is 30 ms, and was 10 ms ", worse["sentence"])


@pytest.mark.parametrize(
    "values",
    [
        [0.010] * 9 + [3.0] + [0.010] * 3,  # one bad step
        [0.010] * 7 + [0.0102] * 6,  # a percent or two
        [0.010, 0.030] * 3 + [0.010] + [0.029] * 6,  # as bad as it often was
        [0.030] * 7 + [0.010] * 6,  # better
        [0.010] * 7 + [None] * 4 + [0.030] * 2,  # too little to tell
        [None] * 13,
    ],
)
def test_what_is_no_worse_for_most_of_the_time_is_no_regression(document, values):
    assert changed(document, "p95_seconds", values)["regressed"] == []


def test_more_server_errors_are_found_and_one_bad_second_is_not(document):
    of(document)["timeline"]["columns"]["requests_per_second"] = [20.0] * 62
    (worse,) = changed(document, "server_errors_per_second", [0.2] * 31 + [1.0] * 31)["regressed"]
    assert worse["sentence"].startswith("the share of server errors is 5.0%, and was 1.0% ")
    for values in ([0.2] * 40 + [20.0] + [0.2] * 21, [0.2] * 31 + [0.3] * 31, [None] * 62, [1.0] * 31 + [0.0] * 31):
        assert changed(document, "server_errors_per_second", values)["regressed"] == []


def test_a_kill_for_want_of_memory_is_found_once_it_is_new(document):
    for kills, told in (([0] * 60 + [1, 0], "once"), ([0] * 31 + [1, None] + [0] * 28 + [1], "2 times")):
        (worse,) = changed(document, "oom_kills", kills)["regressed"]
        assert worse["sentence"] == f"the kernel killed it {told} for want of memory"
    assert changed(document, "oom_kills", [3] * 31 + [0] * 31)["regressed"] == []


def test_a_kill_in_the_step_in_which_the_last_report_ended_is_found(document):
    """Steps of a long recording last hours: what came after the last report in its last step is in no other one."""
    last = earlier(document)
    last["recording"]["end_unix_seconds"] += 0.5
    assert of(last)["evidence"]["oom_kills"] == 0
    of(document)["evidence"]["oom_kills"] = 1
    (worse,) = changed(document, "oom_kills", [0] * 31 + [1] + [0] * 30, last)["regressed"]
    assert "once" in worse["sentence"]


# --- what cannot be read, and what is in it ---------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"null", b"[]", b"[1]", b"{}", b'"x"', b'{"recommendations": [{}], "recording": {}}',
     b'{"recommendations": [], "recording": {"end_unix_seconds": "soon"}}', b"workload,container\n", b"PK\x03\x04",
     b'{"recommendations": [], "recording": {"end_unix_seconds": null}}'],
)  # fmt: skip
def test_a_file_that_is_no_report_is_one_sentence_with_a_next_step(run, recorded, tmp_path, content):
    (tmp_path / "since").write_bytes(content)
    told = run("report", "--store", recorded, "--out", tmp_path / "r.html", "--since", tmp_path / "since")
    assert told[:2] == (2, "")
    assert re.fullmatch(rf"error: {tmp_path}/since is no report: .+\.\n  next: Give --since last, .+\n", told[2])
    assert not (tmp_path / "r.html").exists()


def test_a_file_that_is_not_there_is_one_sentence_with_a_next_step(run, recorded, tmp_path):
    for path, why in ((tmp_path / "none.json", "No such file"), (tmp_path, "Is a directory")):
        code, _, err = run("report", "--store", recorded, "--out", tmp_path / "r.json", "--since", path)
        assert (code, err.count("\n")) == (2, 2)
        assert why in err


def _bad_stream():
    """Whose bytes are no deflate stream, beneath a good header."""
    packed = bytearray(gzip.compress(json.dumps({"recommendations": list(range(500))}).encode()))
    for place in range(10, len(packed) - 8):
        bad = packed[:place] + b"\xff\xff\xff" + packed[place + 3 :]
        try:
            gzip.decompress(bad)
        except zlib.error:
            return bytes(bad)
        except (OSError, EOFError):
            continue
    raise AssertionError


@pytest.mark.parametrize(
    "content",
    [b"", b"not gzip", gzip.compress(b"{}")[:-9], gzip.compress(b"{"), _bad_stream(), gzip.compress(b"[]"),
     gzip.compress(b"{}"), gzip.compress(b"\xff")],
    ids=["empty", "text", "cut short", "no JSON", "bad stream", "a list", "no report", "no text"],
)  # fmt: skip
def test_a_damaged_remembered_report_is_one_sentence_and_its_next_step_helps(
    run, recorded, document, tmp_path, content
):
    folder = tmp_path / "recorded.db.reports"
    remember(folder, document)
    damaged = folder / f"report~{stamp_of(document)}~0123456789abcdef.json.gz"
    damaged.write_bytes(content)
    os.utime(damaged, (2e9, 2e9))  # the newest of its stamp
    more = ("--policy", "safe", "--out", tmp_path / "r.md", "--since", "last")
    code, out, err = run("report", "--store", recorded, *more)
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"error: {damaged} .+\n  next: Delete it.+\n", err)
    damaged.unlink()
    assert with_changes({**document, "headroom": "newer"}, "last", folder)["changes"]


def test_hostile_names_of_the_last_report_are_only_names(report, document, tmp_path):
    evil = '<script>alert(1)</script>|\n# [x](http://evil.example) `x` <img src=x onerror="x">'
    gone = of(document)
    gone["workload"] = gone["name"] = evil
    (tmp_path / "last.json").write_text(json.dumps(document))
    page = report(since=tmp_path / "last.json", form="html")
    assert "<script>alert" not in page
    assert "<img" not in page
    (line,) = (
        line for line in report(since=tmp_path / "last.json", form="md").splitlines() if line.startswith("- gone")
    )
    assert not re.search(r"(?<!\\)[<>\[\]`|]", line)


def test_what_came_since_is_told_in_chats_and_mails_without_the_escapes_of_markdown(document):
    now = deepcopy(document)
    of(now)["current"] = deepcopy(of(now)["target"])
    changes = changed(now, "p95_seconds", [0.010] * 6 + [0.030] * 7, earlier(document))
    now["changes"] = changes
    message = message_of(now)
    sentence = changes["applied"][0]["sentence"]
    assert sentence.replace("(", r"\(").replace(")", r"\)") in to_markdown(now)
    mail = Mail("a@b.example", Server("smtp://h", "a@b.example"))._mail(message).get_body(("plain",)).get_content()
    assert sentence in mail
    assert any(sentence in line for line in PAYLOADS["webhook"](message)["changes"])
    assert "\\" not in json.dumps(PAYLOADS["slack"](message), ensure_ascii=False).replace("\\n", "")
