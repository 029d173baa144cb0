"""The report as metrics, Markdown and CSV: numbers of the document, and names that are only names."""

import csv
import gzip
import io
import json
import re
import subprocess
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import headroom.demo
from headroom import reporting
from recommender.resources import RESOURCE_NAMES
from reports.machine import to_csv
from reports.markdown import plain, to_markdown
from reports.metrics import to_metrics

HOSTILE = (
    "a | b || c", "`code` ``x``", "<script>alert(1)</script><img src=x onerror=y>", "[x](javascript:alert(1))",
    "![i](http://evil.example/i.png)", "<http://evil.example>", "two\nlines\n\n# Heading\n\n- item", "\\| \\`\\",
    "&lt;b&gt;", "**b** __u__ ~~s~~ _e_", "[x]: http://evil.example", "~~~\n```", 'say "x"\\', "\r\n| --- |\u2028x\x0b",
    "=1+1", "#1 !2 @all :boom:",
)  # fmt: skip
NUMBER = re.compile(r"-?[0-9.]+(?:e[+-]?[0-9]+)?")
SERIES = re.compile(r"([a-z_]+)(?:\{((?:[a-z_]+=\"(?:[^\"\\\n]|\\[\\n\"])*\",?)*)\})? (\S+)")
LABEL = re.compile(r"([a-z_]+)=\"((?:[^\"\\\n]|\\[\\n\"])*)\"")
WHO = ("cluster", "namespace", "kind", "workload", "container")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    packed = Path(headroom.demo.__file__).parent / "recording.db.gz"
    (folder / "recorded.db").write_bytes(gzip.decompress(packed.read_bytes()))
    return json.dumps(reporting.report_of(folder / "recorded.db", "balanced", None))


@pytest.fixture
def document(made):
    return json.loads(made)


@pytest.fixture
def hostile(document):
    """A container for each hostile name, which it has everywhere; all of them in what came since the last report."""
    (first, *_) = document["recommendations"]
    document["recommendations"] = [
        {**deepcopy(first), **dict.fromkeys(("namespace", "workload", "container", "cluster"), name)}
        | {"name": f"{name}/{name}/{name}"}
        for name in HOSTILE
    ]
    told = [{"name": name, "sentence": name} for name in HOSTILE]
    document["changes"] = {
        "since_unix_seconds": 0.0, "new": list(HOSTILE), "gone": list(HOSTILE), "advice": list(HOSTILE),
        "applied": told, "regressed": told,
    }  # fmt: skip
    document["common"] = [{"containers": 2, "sentence": name} for name in HOSTILE]
    document["skipped"] = [{"containers": ["x"], "sentence": name} for name in HOSTILE]
    document["policies"] = list(HOSTILE)
    return document


# --- metrics ------------------------------------------------------------------------------------


def series(text):
    """By name and labels the values, as a scraper reads them."""
    unescape = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
    found = {}
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("#"):
            continue
        match = SERIES.fullmatch(line)
        assert match, line
        labels = {
            name: re.sub(r"\\[\\n\"]", lambda each: unescape[each[0]], value)
            for name, value in LABEL.findall(match[2] or "")
        }
        key = (match[1], *sorted(labels.items()))
        assert key not in found
        found[key] = float(match[3])
    return found


def checked(text):
    """What promtool has to say."""
    return subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)


def who(record):
    return {name: record[name] for name in WHO}


def expected(document):
    """Every series, by hand."""
    wanted = {}
    for each in document["recommendations"]:
        numbers = {f"recommendation_{name}": each["target"][name] for name in RESOURCE_NAMES}
        numbers |= {f"current_{name}": each["current"][name] for name in RESOURCE_NAMES}
        numbers |= {
            "recommendation_limit_added_latency_ratio": each["predicted"]["limit_adds"],
            "recommendation_latency_budget_ratio": each["predicted"]["limit_budget"],
            "recommendation_replicas": each["reserved"]["replicas"],
            "recommendation_risks": len(each["risks"]),
        }
        for name, value in numbers.items():
            if value is not None:
                wanted[(f"headroom_{name}", *sorted(who(each).items()))] = value
        about = who(each) | {name: each[name] for name in ("verdict", "class", "confidence")}
        wanted[("headroom_recommendation_info", *sorted(about.items()))] = 1
    saves = document["summary"]["month_saves"]
    if saves is not None:
        wanted[("headroom_recommendation_hourly_savings", ("currency", "USD"))] = saves / 730
    wanted[("headroom_recommendation_recorded_until_timestamp_seconds",)] = document["recording"]["end_unix_seconds"]
    return wanted


def with_sizes(document):
    """A container has sizes in force, and a risk; so there is money."""
    first = document["recommendations"][0]
    first["current"] |= dict(zip(RESOURCE_NAMES, (2.0, 4.0, 2.0**31, 2.0**32), strict=True))
    first["current"]["quantities"] = dict(zip(RESOURCE_NAMES, ("2", "4", "2Gi", "4Gi"), strict=True))
    first["month_saves"] = 40.25
    document["summary"] |= {"month_saves": 1234.5, "month_freed": 1500.25, "month_added": 265.75}
    first["risks"] = [{"kind": "x"}, {"kind": "y"}]
    return document


def test_prometheus_own_tool_has_nothing_to_say(document, hostile):
    for each in (document, with_sizes(deepcopy(document)), hostile):
        told = checked(to_metrics(each))
        assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_the_tool_would_say_something():
    assert checked('# TYPE x gauge\nx{a="b\nc"} 1\n').returncode


def test_every_value_is_the_documents_and_what_is_unknown_has_no_series(document):
    assert series(to_metrics(document)) == expected(document)
    sized = with_sizes(deepcopy(document))
    found = series(to_metrics(sized))
    assert found == expected(sized)
    assert len(found) == len(expected(document)) + len(RESOURCE_NAMES) + 1
    assert "nan" not in to_metrics(document).lower()


def test_names_in_labels_are_read_back_as_they_are(hostile):
    found = series(to_metrics(hostile))
    assert found == expected(hostile)
    assert {dict(key[1:]).get("workload") for key in found} == {*HOSTILE, None}


# --- Markdown -----------------------------------------------------------------------------------


class Shown(HTMLParser):
    """What a reader of a page sees: tags with attributes, and the text of each cell."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.items, self._into = set(), [], [], None
        rendered = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
        self.feed(rendered)
        self.text = rendered

    def handle_starttag(self, tag, attrs):
        self.tags.add((tag, *(name for name, _ in attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th", "li"):
            self._into = self.items if tag == "li" else self.rows[-1]
            self._into.append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th", "li"):
            self._into = None

    def handle_data(self, data):
        if self._into is not None:
            self._into[-1] += data


def test_every_number_of_the_table_is_the_documents(document):
    head, *rows = Shown(to_markdown(with_sizes(document))).rows
    assert len(head) == 9
    assert len(rows) == len(document["recommendations"])
    records = {
        f"{each['namespace']}/{each['workload']}/{each['container']}": each for each in document["recommendations"]
    }
    for name, kind, *sizes, adds, saves, confidence in rows:
        record = records.pop(name)
        assert (kind, confidence) == (record["class"], record["confidence"])
        for size, resource in zip(sizes, RESOURCE_NAMES, strict=True):
            before, after = (record[of]["quantities"][resource] or "–" for of in ("current", "target"))
            assert size == (after if before == after else f"{before} → {after}")
        wanted = record["predicted"]["limit_adds"]
        assert adds == ("–" if wanted is None else f"{wanted:+.1%}")
        assert saves == ("–" if record["month_saves"] is None else f"{record['month_saves']:.2f}")
    assert not records


def test_the_summary_tells_the_documents_sums(document):
    of = document["summary"]
    of |= {"risks_removed": 3, "risks_left": 2, "cores_before": 12.5, "cores_after": 7.25, "cores_freed": 5.25}
    text = to_markdown(with_sizes(document))
    for line in (
        "- 1,234 USD a month saved: 1,500 freed, 266 added",
        "- cores requested: 12.5 -> 7.25",
        "- risks removed: 3, 2 left",
        f"- to resize: {of['resize']}; right as they are: {of['keep']}; without a size: {of['refuse']}",
    ):
        assert f"{line}\n" in text
    of["month_saves"] = -1234.5
    assert "- 1,234 USD a month more: " in to_markdown(document)


def test_a_long_table_is_cut_where_it_says_so_and_those_to_resize_come_first(document):
    first = document["recommendations"][0]
    keep = [{**first, "name": f"a/keep{place}/b", "verdict": "keep", "month_saves": 1e6} for place in range(20)]
    resize = [{**first, "name": f"a/resize{place}/b", "month_saves": 1.0 + place} for place in range(20)]
    document["recommendations"] = keep + resize
    _, *rows = Shown(to_markdown(document)).rows
    assert [row[0].split("/")[1] for row in rows] == [
        *(f"resize{place}" for place in reversed(range(20))),
        *(f"keep{place}" for place in range(5)),
    ]
    assert "And 15 more containers" in to_markdown(document)


def test_hostile_names_neither_break_the_table_nor_become_markup(hostile):
    text = to_markdown(hostile)
    shown = Shown(text)
    known = {"h1", "h2", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "strong"}
    assert {tag for tag, *_ in shown.tags} <= known
    assert {name for _, *names in shown.tags for name in names} <= {"style"}
    assert re.findall(r"<h(\d)>(.*?)</h", shown.text) == [
        ("1", "headroom"), ("2", "What to know first"), ("2", "Since the last report"), ("2", "Sizes"),
        ("2", "Without a size, and why"),
    ]  # fmt: skip
    assert {len(row) for row in shown.rows} == {9}
    names = [" ".join(f"{name}/{name}/{name}".split()) for name in HOSTILE]
    assert sorted(row[0] for row in shown.rows[1:]) == sorted(names)
    told = [f"2 containers: {' '.join(name.split())}" for name in HOSTILE]
    assert shown.items[4 : 4 + len(HOSTILE)] == told


@pytest.mark.parametrize("name", ["http://evil.example", "www.evil.example", "a@evil.example", "ftp://evil.example/x"])
def test_no_name_is_what_github_makes_a_link_of(name):
    """Extended autolinks, which our parser does not know: https://github.github.com/gfm/#autolinks-extension-."""
    assert not re.search(r"(?:^|[\s*_~(])(?:www\.|https?://|ftp://)|\w@\w", plain(name))
    assert Shown(plain(name)).text.strip() == f"<p>{name}</p>"


# --- CSV ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x","y")', "a,b\n=1", "x\r=1"]
)
def test_no_cell_is_a_formula_and_every_name_is_read_back(document, name):
    first = document["recommendations"][0]
    records = [{**first, "workload": name, "curve": [], "reasons": {"cpu": name}, "month_saves": -1.5}]
    (line,) = csv.DictReader(io.StringIO(to_csv(records), newline=""))
    assert line["workload"] == line["reasons.cpu"]
    assert line["workload"].removeprefix("'") == name.replace("\r", " ")
    assert not line["workload"].startswith(tuple("=+-@\t\r"))
    assert line["month_saves"] == "-1.5"


def test_a_report_as_csv_has_a_line_per_container_with_the_documents_numbers(document):
    lines = list(csv.DictReader(io.StringIO(reporting._FORMS[".csv"](document))))
    for line, record in zip(lines, document["recommendations"], strict=True):
        assert line["workload"] == record["workload"]
        for each in RESOURCE_NAMES:
            value = record["target"][each]
            assert line[f"target.{each}"] == ("" if value is None else str(value))
        assert line["reserved.replicas"] == str(record["reserved"]["replicas"])
    assert not {"patch", "rollback", "patch_command"} & set(lines[0])
