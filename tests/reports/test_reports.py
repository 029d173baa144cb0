import csv
import dataclasses
import html
import io
import json
import re
import sqlite3
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml

from headroom.patching import patches_of
from headroom.reporting import document_of
from headroom.sizing import size_store
from policies.prices import Prices
from profiles.histogram import LATENCY, Histogram
from recommender.history import Container, Route
from recommender.resources import RESOURCE_NAMES, format_resource
from reports import apis, document, machine, table
from reports.explain import explain
from reports.html import to_html
from reports.record import as_record


@pytest.fixture
def sized(recorded):
    return size_store(recorded, "balanced")


def test_the_table_of_the_recording(sized, golden):
    golden("recommend.txt", table.recommendations(sized[1], terminal=False, color=False))


def test_the_explanation_of_a_recorded_workload(sized, golden):
    (row,) = (row for row in sized[1] if row.container.workload == "checkout")
    golden("explain.txt", explain(row, patches_of([row]).by_container[row.container]))


def test_the_routes_of_the_recording(sized, golden):
    rows = [apis.cells(row) for row in apis.api_rows(sized[0], by_status=True)]
    golden("apis.txt", table.rows_as_table(apis.HEADINGS, rows, terminal=False, color=False))


def test_the_document_of_the_recording(sized, golden):
    golden("recommendations.json", machine.to_json(document.as_document(*sized)))


def test_json_and_yaml_say_the_same(sized):
    made = document.as_document(*sized)
    assert yaml.safe_load(machine.to_yaml(made)) == json.loads(machine.to_json(made))


def test_csv_has_a_line_per_workload_and_the_same_numbers(sized):
    records = [as_record(row) for row in sized[1]]
    lines = list(csv.DictReader(io.StringIO(machine.to_csv(records))))
    assert [line["workload"] for line in lines] == [record["workload"] for record in records]
    for line, record in zip(lines, records, strict=True):
        for name in RESOURCE_NAMES:
            assert line[f"target.{name}"] == ("" if record["target"][name] is None else str(record["target"][name]))


def test_routes_add_up_to_all_requests(sized):
    recording, rows = sized
    by_route, by_status = (apis.api_rows(recording, by_status=each) for each in (False, True))
    total = sum(row.history.requests for row in rows)
    assert sum(row.requests for row in by_route) == sum(row.requests for row in by_status) == total


def test_requests_without_an_answer_are_no_silence(sized):
    """They count, their share is shown, and how long they waited is no latency."""
    recording, rows = sized
    history = rows[0].history
    gave_up = Route("server", "GET", "/slow", 0, Histogram.of(LATENCY, [30.0] * 3), 90.0, "timed_out")
    answered = Route("server", "GET", "/slow", 200, Histogram.of(LATENCY, [0.01]), 0.01)
    changed = replace(recording, histories=(replace(history, routes=(gave_up, answered)),))
    (whole,) = apis.api_rows(changed)
    assert (whole.requests, whole.unanswered_share, whole.error_share) == (4, 0.75, 0.0)
    assert whole.p95_seconds == pytest.approx(0.01, rel=0.04)
    alone, _ = apis.api_rows(changed, by_status=True)
    assert (alone.status, alone.p95_seconds, apis.cells(alone)[-3:]) == ("timed out", None, ["100.0%", "-", "-"])


def test_unanswered_that_was_not_counted_is_no_zero(sized):
    recording, rows = sized
    history = replace(rows[0].history, frame=rows[0].history.frame.assign(unanswered=np.nan))
    row = apis.api_rows(replace(recording, histories=(history,)))[0]
    assert (row.unanswered_share, apis.cells(row)[-3]) == (None, "-")
    assert as_record(replace(rows[0], history=history))["evidence"]["unanswered"] is None


def test_what_tcp_went_through_is_explained_where_it_is_known(sized):
    row = sized[1][0]
    frame = row.history.frame.copy()
    again = np.arange(len(frame)) % 4 == 0
    frame["tcp_retransmits"] = 2.0 * again
    frame["p95_seconds"] = np.where(again, 0.2, 0.01)
    changed = replace(row, history=replace(row.history, frame=frame))
    told = f"{2 * again.sum()} segments were sent again: P95 is 200 ms in the median of windows with any, 10 ms in the"
    assert told in explain(changed, None)
    unknown = replace(row, history=replace(row.history, frame=frame.assign(tcp_retransmits=np.nan)))
    assert "segments" not in explain(unknown, None)
    dropped = replace(changed, history=replace(changed.history, drops={"NETFILTER_DROP": 2, "SOCKET_RCVBUFF": 47}))
    assert "packets that the kernel dropped: 47 SOCKET_RCVBUFF, 2 NETFILTER_DROP" in explain(dropped, None)
    assert "dropped" not in explain(changed, None)


def page(sized):
    recording, rows = sized
    return to_html(document_of(recording, rows, Prices()))


def test_the_page_is_whole_and_has_every_workload_and_number(sized):
    text = page(sized)
    for row in sized[1]:
        assert text.count(f"<h3>{row.container.name}</h3>") == 1
        for quantity in as_record(row)["target"]["quantities"].values():
            assert quantity is None or quantity in text
    svgs = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(svgs) == 4 * 3 + 1  # idle has neither curve nor fit
    for svg in svgs:
        ET.fromstring(svg)
        assert "NaN" not in svg
        assert "nan" not in svg


def test_the_page_needs_no_network_and_allows_no_script_but_its_own(sized):
    text = page(sized)
    policy = html.unescape(re.search(r'Security-Policy" content="([^"]*)"', text)[1])
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.findall(r'(?:src|href)="(?!#)', text)


def test_hostile_names_are_escaped(sized):
    recording, rows = sized
    evil = '<script>alert("x")</script>'
    history = dataclasses.replace(rows[0].history, container=Container("c", "n", "k", evil, evil))
    text = to_html(document_of(recording, [dataclasses.replace(rows[0], history=history)], Prices()))
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_a_narrow_terminal_loses_no_digit(sized, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = table.recommendations(sized[1], terminal=True, color=False)
    for row in sized[1]:
        assert row.container.name in text
        for name in RESOURCE_NAMES:
            assert (format_resource(name, getattr(row.target, name)) or "-") in text


@pytest.mark.parametrize(
    "damage", ["DELETE FROM usage", "UPDATE usage SET memory_working_set_bytes = NULL", "DELETE FROM traffic"]
)
def test_what_was_not_recorded_is_left_out_of_the_page(recorded, damage):
    with sqlite3.connect(recorded) as db:
        db.execute(damage)
    db.close()
    text = page(size_store(recorded, "balanced"))
    assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))


def test_no_colour_codes_reach_a_pipe(sized):
    assert "\x1b" not in table.recommendations(sized[1], terminal=False, color=False)
    assert "\x1b" in table.recommendations(sized[1], terminal=True, color=True)


def test_an_overhead_past_a_doubling_is_not_shown_as_sharp():
    assert table.overhead(0.052) == "+5.2%"
    assert table.overhead(44.0) == "over +100 %"
