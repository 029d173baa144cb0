"""Each number of the page is one of the document, and each container stands there once."""

import json
import re
from copy import deepcopy
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from headroom.reporting import document_of, report_of
from headroom.sizing import size_store
from policies.prices import NodeType, Prices
from policies.schema import load_policies
from recommender.history import Container
from recommender.inventory import Autoscaler, Declared, Metric, Node
from recommender.recommend import recommend_under, without_usage
from reports.changes import changes_since
from reports.html import sentence, to_html
from reports.machine import to_json
from reports.numbers import FORMS, UNKNOWN, number
from reports.times import moment, span

BALANCED = load_policies("balanced")
#: Digits of the page's own prose, which say nothing of a workload.
PROSE = (
    "P50",
    "P95",
    "(95 % interval",
    "bins of 10 ms",
    "closer than 1.6 times",
    "bound (90 %)",
    "where 95 % should be",
)


class Page(HTMLParser):
    """Its numbers, its texts outside of numbers and pictures, its table and its sections."""

    def __init__(self, text):
        super().__init__()
        self.numbers, self.texts, self.rows, self.sections = [], [], [], []
        self._within, self._value, self._link = [], None, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if tag in ("svg", "pre", "code", "script", "style", "data", "h3", "table", "title"):
            self._within.append((tag, named.get("class")))
        self._value = named.get("value") if tag == "data" else self._value
        self._link = named["href"] if tag == "a" else self._link

    def handle_endtag(self, tag):
        if self._within and self._within[-1][0] == tag:
            self._within.pop()
        self._link = None if tag == "a" else self._link

    def handle_data(self, text):
        tags = [tag for tag, _ in self._within]
        if "data" in tags:
            self.numbers.append((self._value, text))
        elif not {"svg", "pre", "code", "script", "style"} & set(tags):
            self.texts.append(text)
        if ("table", "sizes sortable") in self._within and self._link:
            self.rows.append((self._link, text))
        if "h3" in tags:
            self.sections.append(text)


def found_in(plain, wanted):
    """All values of a type in plain data, at any depth."""
    if isinstance(plain, dict):
        return [each for value in plain.values() for each in found_in(value, wanted)]
    if isinstance(plain, list):
        return [each for value in plain for each in found_in(value, wanted)]
    return [plain] if isinstance(plain, wanted) and not isinstance(plain, bool) else []


def without_quantities(plain):
    """They are numbers as well, and the page has to say them as such."""
    if isinstance(plain, dict):
        return {name: without_quantities(value) for name, value in plain.items() if name != "quantities"}
    return [without_quantities(each) for each in plain] if isinstance(plain, list) else plain


def of_cluster(recorded):
    """The recording's containers as those of a cluster: declared, autoscaled, priced, at risk, and after a change."""
    recording, sized = size_store(recorded, "balanced")
    begin, middle = recording.start_unix_seconds, recording.start_unix_seconds + recording.seconds / 2
    rows, metrics = [], (Metric("Resource", "cpu", None, 70), Metric("ContainerResource", "memory", "main", 60))
    written = [({"cpu": "1", "memory": "512Mi"}, {"cpu": "2", "memory": "1Gi"}), ({"cpu": "10m"}, {}), ({}, {})]
    for place, row in enumerate(sized):
        frame = row.history.frame.assign(oom_kills=0.0, periods=10.0, throttled_periods=float(place % 2))
        frame.loc[frame.index[len(frame) * 3 // 4], "oom_kills"] = float(place == 1)
        for name in ("main", "proxy")[: 1 + (place == 0)]:
            container = Container("prod", "shop", "Deployment", row.container.workload, name)
            requests, limits = written[place % 3]
            declared = Declared(
                container, "main", requests, limits, 3, Autoscaler(f"hpa-{place}", 2, 9, metrics), "apps/v1",
                position=int(name == "proxy"), deployed_unix_seconds=(begin - 9, middle),
            )  # fmt: skip
            history = replace(row.history, container=container, frame=frame)
            rows.append(recommend_under(history, BALANCED, declared))
    for name in ("never", "seldom", "unseen", "asleep"):
        container = Container("prod", "shop", "CronJob", name, "run")
        rows.append(
            without_usage(Declared(container, "main", {"cpu": "250m"}, {}, 1, api_version="batch/v1"), BALANCED)
        )
    prices = Prices(currency="EUR", nodes=(NodeType(name="m6i", hour=0.2, cores=3.92, memory="14.1Gi"),))
    nodes = [Node(f"n{place}", 3.92, 14.1 * 2**30, ("m6i", "other")[place % 2]) for place in range(5)]
    document = document_of(replace(recording, lost={"ring_full": 17}, clock_steps=2), rows, prices, nodes)
    for record in document["recommendations"][:2]:  # one second's P95 and one step's requests make it worse
        known = record["timeline"]["columns"]["server_errors_per_second"]
        known[len(known) // 2 :] = [30.0] * (len(known) - len(known) // 2)
    last = deepcopy(document)
    last["recording"]["end_unix_seconds"] = middle
    last["recommendations"].pop(1)
    gone, applied = deepcopy(last["recommendations"][0]), last["recommendations"][0]
    last["recommendations"].append(gone | {"workload": "gone"})
    applied["target"], applied["current"] = applied["current"], applied["target"]
    return document | {"changes": changes_since(last, document)}


@pytest.fixture(params=["recorded", "cluster"])
def document(request, recorded):
    return report_of(recorded, "balanced", None) if request.param == "recorded" else of_cluster(recorded)


def test_the_cluster_has_all_that_a_page_tells(recorded):
    """Else the tests below would prove less than they say."""
    document = of_cluster(recorded)
    changes, summary = document["changes"], document["summary"]
    assert all(changes[name] for name in ("new", "gone", "applied", "regressed", "advice"))
    assert summary["risks_removed"]
    assert summary["month_added"]
    assert summary["month_freed"]
    assert document["autoscalers"]
    assert document["common"]
    assert document["skipped"]
    assert {record["month_saves"] is None for record in document["recommendations"]} == {True, False}
    assert document["prices"]["priced_nodes"] == 3


def test_every_number_is_one_of_the_document_to_the_last_digit(document):
    """Amounts of money lose their sign to a word; names that are listed are counted."""
    plain = json.loads(to_json(document))
    known = set(map(repr, found_in(plain, (int, float))))
    amounts = [plain["summary"]["month_saves"], *(each["month_saves"] for each in plain["recommendations"])]
    known |= {repr(abs(amount)) for amount in amounts if amount is not None}
    listed = [*(plain.get("changes") or {}).values(), *(each["containers"] for each in plain["skipped"])]
    known |= {repr(len(each)) for each in listed if isinstance(each, list)}
    told = Page(to_html(document)).numbers
    assert len(told) > 50
    assert {value for value, _ in told} <= known


def test_every_number_is_written_in_one_of_the_forms(document):
    for value, text in Page(to_html(document)).numbers:
        assert text in {form(json.loads(value)) for form in FORMS.values()}


def test_every_size_of_the_table_is_that_of_its_container(document):
    """In the row of the container, in order: before, where it changes, and after."""
    rows = re.findall(r'<tr data-verdict="(\w+)">(.*?)(?=<tr data|</tbody>)', to_html(document), re.DOTALL)
    assert len(rows) == len(document["recommendations"])
    for (verdict, row), record in zip(rows, document["recommendations"], strict=True):
        assert verdict == record["verdict"]
        wanted = []
        for name in ("cpu_request_cores", "cpu_limit_cores", "memory_request_bytes", "memory_limit_bytes"):
            before, after = (record[key]["quantities"][name] or UNKNOWN for key in ("current", "target"))
            wanted.append(after if record["current"][name] == record["target"][name] else f"{before} → {after}")
        cells = [re.sub(r"<[^>]*>", "", cell).strip() for cell in row.split("<td>")[3:7]]
        assert cells == wanted


def test_no_digit_stands_outside_of_numbers_but_in_strings_of_the_document(document):
    plain = json.loads(to_json(document))
    strings = {each for each in found_in(without_quantities(plain), str) if re.search(r"\d", each)}
    recording, changes = plain["recording"], plain.get("changes") or {}
    times = [recording["start_unix_seconds"], recording["end_unix_seconds"], changes.get("since_unix_seconds", 0.0)]
    strings |= {sentence(each) for each in strings} | {moment(time) for time in times}
    strings |= {span(recording["seconds"]), f"headroom: {plain['summary']['containers']} containers", *PROSE}
    strings |= {f"{each['namespace']}/{each['workload']}/{each['container']}" for each in plain["recommendations"]}
    for text in Page(to_html(document)).texts:
        rest = text
        for known in sorted(strings, key=len, reverse=True):
            rest = rest.replace(known, "")
        assert not re.search(r"\d", rest), text


def test_every_container_is_once_in_the_table_and_once_a_section(document):
    page = Page(to_html(document))
    names = [f"{each['namespace']}/{each['workload']}/{each['container']}" for each in document["recommendations"]]
    assert page.rows == [(f"#w{place}", name) for place, name in enumerate(names)]
    assert page.sections == names
    assert [to_html(document).count(f'id="w{place}"') for place in range(len(names))] == [1] * len(names)


def test_containers_of_two_clusters_can_be_told_apart(recorded):
    """The same manifests run in both."""
    recording, (row, *_) = size_store(recorded, "balanced")
    both = [replace(row.container, cluster=name) for name in ("east", "west")]
    rows = [replace(row, history=replace(row.history, container=each)) for each in both]
    page = Page(to_html(document_of(recording, rows, Prices())))
    assert len(set(page.sections)) == 2
    assert len({text for _, text in page.rows}) == 2


def test_sums_of_the_summary_are_those_of_the_containers(document):
    """Freed where there was a request before and is one after; money where something is freed or added."""
    summary, records = document["summary"], document["recommendations"]
    for what in ("cores", "bytes"):
        own = [each["reserved"] for each in records]
        both = [each for each in own if None not in (each[f"{what}_before"], each[f"{what}_after"])]
        freed = [each[f"{what}_before"] - each[f"{what}_after"] for each in both]
        assert summary[f"{what}_freed"] == (pytest.approx(sum(freed)) if freed else None)
        new = [each[f"{what}_after"] for each in own if each[f"{what}_before"] is None and each[f"{what}_after"]]
        assert summary[f"{what}_newly_reserved"] == (pytest.approx(sum(new)) if new else None)
    saved = [each["month_saves"] for each in records if each["month_saves"] is not None]
    assert summary["month_saves"] == (pytest.approx(sum(saved)) if saved else None)
    if saved:
        assert summary["month_freed"] - summary["month_added"] == pytest.approx(sum(saved))
    assert summary["risks_removed"] + summary["risks_left"] == sum(len(each["risks"]) for each in records)
    most = [abs(records[place]["month_saves"]) for place in summary["changes_most"]]
    assert most == sorted((abs(each) for each in saved if each), reverse=True)[:8]


def test_a_workload_with_several_containers_has_one_patch(recorded):
    records = [each for each in of_cluster(recorded)["recommendations"] if each["workload"] == "checkout"]
    assert [each["container"] for each in records] == ["main", "proxy"]
    assert [each["patch"] is not None for each in records] == [True, False]
    assert len({each["patch_name"] for each in records}) == 1
    assert all(f"name: {each['container']}" in records[0]["patch"] for each in records)


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        ("cpu", 0.25, "250m"), ("cpu", 2.0, "2"), ("memory", 128 * 2**20, "128Mi"), ("memory", 2.0**31, "2Gi"),
        ("cores", 1234.56, "1,234.6"), ("cores", 0.0123, "0.0123"), ("gib", 50.0 * 2**30, "50.0"),
        ("gib", 2.5 * 2**30, "2.5"), ("money", 1234.5, "1,234"), ("money", -99.999, "-100.00"),
        ("price", 0.0312, "0.0312"), ("rate", 0.1234, "0.123"),
        ("overhead", 0.052, "+5.2%"), ("overhead", -0.01, "-1.0%"), ("overhead", 44.0, "over +100%"),
        ("percent", 0.0123, "1.2%"), ("count", 12866, "12,866"), ("rate", 1234.56, "1,234.6"),
        ("ms", 0.0056, "5.6 ms"), ("mib", 26 * 2**20, "26 MiB"), ("replicas", 2.75, "2.75"),
    ],
)  # fmt: skip
def test_a_number_is_written_as_people_read_it_and_keeps_its_value(form, value, text):
    assert number(value, form) == f'<data value="{value!r}">{text}</data>'
    assert number(None, form) == UNKNOWN


@pytest.mark.parametrize(("form", "value"), [("ms", 12.0), ("ms", 1.234), ("replicas", 1234.0), ("cores", 0.0)])
def test_no_number_is_written_with_an_exponent(form, value):
    """A request may take twelve seconds, and a workload may have a thousand replicas."""
    assert "e" not in re.sub(r"<[^>]*>", "", number(value, form))


@pytest.mark.parametrize(("form", "value"), [("overhead", -0.0001), ("money", -0.001)])
def test_nothing_is_written_as_less_than_nothing(form, value):
    assert "-0" not in re.sub(r"<[^>]*>", "", number(value, form))
