"""``headroom plan`` as its users meet it, on a small store with inventories and nodes."""

import csv
import html
import io
import json
import re
import xml.etree.ElementTree as ET

import pytest
import yaml
from click.testing import CliRunner

from benchmarks.fleet import _recording, container, tables
from headroom.cli import cli
from headroom.planning import question_of, review_of
from profiles.errors import UsageError
from profiles.parquet import ParquetWriter
from recommender.history import Container
from recommender.inputs.inventory_file import write_inventory
from recommender.inventory import Declared, Inventory, Node
from reports import plan
from reports.numbers import FORMS, UNKNOWN

DAYS = 8
GIBIBYTE = 2**30
EVIL = "<script>alert(1)</script>\"'&"
EVIL_ZONE = "<b onmouseover=alert(2)>"
PRICES = """
version: 1
currency: EUR
nodes:
  - {name: m6i.xlarge, hour: 0.214, cores: 3.92, memory: 14.1Gi}
  - {name: tiny, hour: 0.001, cores: 0.01, memory: 14.1Gi}
"""


def make(folder, *clusters, zones=("a", EVIL_ZONE), cores=8.0):
    """Each cluster with a workload that was recorded, a large one that is declared alone, and an agent."""
    with ParquetWriter(folder, "part") as writer:
        for number, cluster in enumerate(clusters):
            writer.write((cluster, "shop", "Deployment", EVIL, "main"), tables(container(number, DAYS), number))
        writer.finish([_recording(DAYS)])
    for cluster in clusters:
        declared = tuple(
            Declared(
                Container(cluster, "shop", kind, name, "main"), "main", {"cpu": cpu, "memory": "1Gi"}, {}, replicas
            )
            for kind, name, cpu, replicas in (
                ("DaemonSet", "agent", "100m", 2),
                ("Deployment", EVIL, "500m", 2),
                ("Deployment", "large", "5", 2),
            )
        )
        nodes = tuple(Node(f"n{at}", cores, 32 * GIBIBYTE, "m", zone) for at, zone in enumerate(zones))
        write_inventory(folder, Inventory(cluster, "files", declared, {}, nodes=nodes))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make(tmp_path_factory.mktemp("one"), "east")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return make(tmp_path_factory.mktemp("two"), "east", "west")


@pytest.fixture
def asked(store):
    def asked(*arguments, store=store):
        return CliRunner().invoke(cli, ["plan", "--store", str(store), *map(str, arguments)], catch_exceptions=True)

    return asked


def told(result):
    """The document of a command that did its work."""
    assert result.exit_code == 0, result.output
    assert not result.stderr or result.stderr.endswith("plan.html\n")
    return json.loads(result.stdout)


def refused(result):
    """A sentence and a next step, and nothing on stdout."""
    assert isinstance(result.exception, UsageError), result.output
    assert result.stdout == ""
    assert result.exception.sentence.endswith(".")
    assert result.exception.next_step.endswith(".")
    return result.exception


def numbers(text):
    return re.findall(r'<data value="([^"]*)">([^<]*)</data>', text)


def numbers_of(plain):
    if isinstance(plain, dict):
        return {number for value in plain.values() for number in numbers_of(value)}
    if isinstance(plain, list):
        return {number for value in plain for number in numbers_of(value)}
    return {repr(plain)} if isinstance(plain, (int, float)) else set()


def test_the_table_has_a_line_for_each_demand_and_sentences_below(asked):
    result = asked()
    document = told(asked("-o", "json"))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [name for name in plan.HEADINGS if name not in lines[0]] == []
    for line, case in zip(lines[1:], document["cases"], strict=False):
        assert line.startswith(case["name"])
        assert f"{case['factor']:.2f}" in line
        assert f"{case['needs'][0]['nodes']} x {case['needs'][0]['shape']}" in line
    assert [each for each in plan.sentences(document) if each not in result.stdout] == []
    assert "\x1b" not in result.stdout


def test_the_document_answers_what_is_needed_now_and_later(asked):
    document = told(asked("-o", "json"))
    names = [case["name"] for case in document["cases"]]
    assert names[:4] == ["now, as requested", "now, recommended sizes", "until day 28, expected", "until day 28, P90"]
    now = document["cases"][0]
    assert (document["cluster"], document["nodes"], document["cores"], document["daemons_cores"]) == (
        "east",
        2,
        16.0,
        0.1,
    )
    assert (now["cores"], now["bytes"], now["pods"], now["unplaced"]) == (10.5, 3.0 * GIBIBYTE, 3, 0)
    (need,) = now["needs"]
    assert (need["nodes"], need["at_least"]) == (2, 2)
    assert need["month"] == pytest.approx(2 * 730 * (8 * 0.03 + 32 * 0.004))
    assert document["growth"]["upper"] >= document["growth"]["expected"]
    assert len(document["growth"]["middle"]) == 84


def test_yaml_says_what_json_says(asked):
    assert yaml.safe_load(asked("-o", "yaml").stdout) == told(asked("-o", "json"))


def test_csv_has_a_line_for_each_demand_and_type_with_the_numbers_of_the_document(asked, tmp_path):
    (prices := tmp_path / "prices.yaml").write_text(PRICES)
    document = told(asked("-o", "json", "--prices", prices))
    lines = list(csv.DictReader(io.StringIO(asked("-o", "csv", "--prices", prices).stdout)))
    pairs = [(case, need) for case in document["cases"] for need in case["needs"]]
    assert len(lines) == len(pairs) == 3 * len(document["cases"])
    for line, (case, need) in zip(lines, pairs, strict=True):
        for name in ("name", "days", "factor", "cores", "bytes", "pods", "unplaced"):
            assert line[name] == str(case[name])
        for name in ("shape", "nodes", "at_least", "month"):
            assert line[name] == ("" if need[name] is None else str(need[name]))


def test_types_of_the_price_file_are_compared_and_too_small_ones_say_for_whom(asked, tmp_path):
    (prices := tmp_path / "prices.yaml").write_text(PRICES)
    document = told(asked("-o", "json", "--prices", prices))
    for case in document["cases"]:
        known = [need["month"] for need in case["needs"] if need["month"] is not None]
        assert known == sorted(known)
        assert {need["shape"]: need["too_large"] for need in case["needs"]}["m6i.xlarge"] == ["shop/large"]
    assert document["currency"] == "EUR"


def test_the_page_is_written_beside_the_table(asked, tmp_path):
    result = asked("--out", page := tmp_path / "plan.html")
    assert (result.exit_code, result.stderr.strip()) == (0, str(page))
    assert result.stdout.startswith("demand")
    assert page.read_text().startswith("<!doctype html>")


def test_every_number_of_the_page_is_in_the_document(asked, tmp_path):
    arguments = ("--traffic", "1.5@2027-03-01", "--traffic", "40", "--out", tmp_path / "plan.html", "-o", "json")
    document = json.loads(asked(*arguments).stdout)
    found = numbers((tmp_path / "plan.html").read_text())
    assert len(found) > 40
    assert {value for value, _ in found} <= numbers_of(document)
    for value, text in found:
        assert text in {form(json.loads(value)) for form in FORMS.values()}


def test_the_page_has_every_demand_and_type_and_a_picture_without_holes(asked, tmp_path):
    document = json.loads(asked("--out", tmp_path / "plan.html", "-o", "json").stdout)
    page = (tmp_path / "plan.html").read_text()
    for case in document["cases"]:
        assert page.count(f">{case['name']}</th>") == 1
    (svg,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    ET.fromstring(svg)
    assert "nan" not in svg.lower()
    assert not re.findall(r'(?:src|href)="(?!#)', page)


def test_hostile_names_of_workloads_and_zones_are_escaped(asked, tmp_path):
    """The large one has room in neither zone once the other is gone, so that sentences name both."""
    document = json.loads(asked("--out", tmp_path / "plan.html", "-o", "json").stdout)
    assert {loss["zone"] for loss in document["zone_losses"]} == {"a", EVIL_ZONE}
    assert any(loss["workloads"] for loss in document["zone_losses"])
    page = (tmp_path / "plan.html").read_text()
    assert html.escape(EVIL_ZONE) in page
    assert "<script>alert" not in page
    assert "<b onmouseover" not in page
    assert "&lt;script&gt;alert" in page


def test_scenarios_with_a_date_and_without_one(asked):
    document = told(asked("--traffic", "4@2026-12-31", "--traffic", "x2", "-o", "json"))
    dated, plain = document["cases"][-2:]
    assert (dated["name"], dated["factor"]) == ("traffic x 4 by 2026-12-31", 4.0)
    assert (plain["name"], plain["factor"], plain["days"]) == ("traffic x 2", 2.0, None)
    assert document["cases"][1]["cores"] < plain["cores"] < dated["cores"]
    assert [each["name"] for each in document["scenario_ends"]] == [dated["name"], plain["name"]]


def test_days_of_a_scenario_count_from_the_end_of_the_recording():
    end = 1_780_000_000.0
    (scenario,) = question_of(12, 90, 10, None, [(1.5, end + 86_400 * 10)], end).scenarios
    assert scenario.days == 10
    question = question_of(4, 95, 20, 3, [], end)
    assert (question.days, question.quantile, question.headroom, question.zones) == (28, 0.95, 0.2, 3)


def test_a_date_in_the_past_is_refused(asked):
    assert "2001-01-01 is before the end" in refused(asked("--traffic", "2@2001-01-01")).sentence


@pytest.mark.parametrize("factor", ["0", "-1", "abc", "nan", "1e3", "101", "2@yesterday", "@2027-01-01", "2@", ""])
def test_a_wrong_factor_is_refused(asked, factor):
    result = asked("--traffic", factor)
    assert result.exit_code == 2
    assert "write 1.5" in result.output or "is no time" in result.output


def test_a_date_that_no_calendar_has_is_refused(asked):
    result = asked("--traffic", "2@9999-12-31T23:59:59-12:00")
    assert result.exit_code == 2 or isinstance(result.exception, UsageError), result.exception


@pytest.mark.parametrize(
    "wrong", [("--weeks", 0), ("--weeks", 13), ("--certainty", 49), ("--headroom", 100), ("--zones", 0)]
)
def test_what_is_out_of_range_is_refused(asked, wrong):
    assert asked(*wrong).exit_code == 2


def test_without_nodes_and_prices_there_is_one_sentence_and_a_next_step(asked, tmp_path, recorded):
    error = refused(asked(store=make(tmp_path, "east", zones=())))
    assert "no node to plan with" in error.sentence
    assert "--prices" in error.next_step
    assert "no node to plan with" in refused(asked(store=recorded)).sentence


def test_with_a_price_file_no_nodes_are_needed(asked, tmp_path):
    (prices := tmp_path / "prices.yaml").write_text(PRICES.replace("3.92", "7.92"))
    document = told(asked("-o", "json", "--prices", prices, store=make(tmp_path / "s", "east", zones=())))
    assert (document["nodes"], document["enough_for"], document["zone_losses"]) == (0, None, [])
    assert {case["unplaced"] for case in document["cases"]} == {None}
    assert document["cases"][0]["needs"][0]["nodes"] == 2
    assert UNKNOWN in plan.to_html(document)
    assert plan.cells(document["cases"][0], "EUR")[5] == "-"


def test_of_several_clusters_one_has_to_be_chosen(asked, two):
    assert "east, west" in refused(asked(store=two)).next_step
    assert "nowhere is not in this store" in refused(asked("--cluster", "nowhere", store=two)).sentence
    east, west = (told(asked("--cluster", name, "-o", "json", store=two)) for name in ("east", "west"))
    assert (east["cluster"], west["cluster"], east["nodes"], west["nodes"]) == ("east", "west", 2, 2)
    assert east["growth"] != west["growth"]


def test_nodes_that_do_not_suffice_now_are_said_and_nothing_is_promised(asked, tmp_path):
    document = told(asked("-o", "json", store=make(tmp_path, "east", cores=5.5)))
    said = " ".join(plan.sentences(document))
    assert document["enough_for"] < 1
    assert "do not suffice now" in said
    assert "every pod finds room" not in said


def test_what_is_more_than_the_search_looks_for_is_not_given_as_a_number(asked, tmp_path):
    document = told(asked("-o", "json", store=make(tmp_path, "east", cores=900.0)))
    assert document["enough_for"] == 8
    assert "suffice for 8.00 times" not in plan.sentences(document)[0]


def of(**changes):
    """A document of which a sentence is made."""
    question = {"days": 84, "quantile": 0.9}
    base = {"question": question, "enough_for": 1.2, "nodes": 3, "growth": {}, "out_upper": 5, "out_middle": None}
    return base | {"chances": [], "scenario_ends": [], "zone_losses": [], "notes": []} | changes


def test_the_day_on_which_it_runs_out_is_not_one_of_those_on_which_it_suffices():
    """Day 1 is tomorrow: who exceeds on day 1 does not suffice until day 1."""
    assert "until day 1" not in plan.sentences(of(out_upper=1, out_middle=1))[0]


def test_a_chance_of_all_days_until_then_is_not_one_of_that_day():
    said = plan.sentences(of(chances=[(28, 0.3)]))[1]
    assert "30%" in said
    assert "on day 28" not in said


def test_the_review_is_the_same_each_time(store):
    both = [review_of(store, "balanced", None, None, lambda end: question_of(2, 90, 10, None, (), end)) for _ in "ab"]
    assert both[0] == both[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_by_everybody_and_nothing_lies_on_anything(
    asked, browser, serious, crowded, images, tmp_path, scheme
):
    told(asked("-o", "json", "--out", tmp_path / "plan.html", "--traffic", "1.5@2027-03-01"))
    for width in (1360, 390):
        with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True) as own:
            tab = own.new_page()
            tab.goto((tmp_path / "plan.html").as_uri())
            tab.screenshot(path=images / f"plan-{scheme}-{width}.png", full_page=True)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert crowded(tab) == []
            assert serious(tab) == []
