"""Rules and dashboards for Prometheus: promtool takes them, and every metric and label in them exists."""

import gzip
import json
import re
import shutil
import subprocess
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from collector.metrics import Metrics, gathered
from profiles.histogram import LATENCY, Histogram
from profiles.schema import Identity, TrafficRow, UsageRow, Window

ROOT = Path(__file__).parents[2]
RULES = sorted(each for each in (ROOT / "deploy" / "rules").glob("*.yaml") if not each.name.endswith("_test.yaml"))
TESTS = sorted((ROOT / "deploy" / "rules").glob("*_test.yaml"))
DASHBOARDS = sorted((ROOT / "deploy" / "dashboards").glob("*.json"))
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
POD = Identity("prod", "shop", "Deployment", "cart", "main", "cart-1")
#: What a scrape adds: Prometheus itself, and the relabelings of deploy/chart.
OF_THE_SCRAPE = {"cluster", "node", "instance", "job"}


def told():
    """What an agent tells that has seen everything."""
    metrics = Metrics("1", 20_000)
    rows = [
        TrafficRow(
            POD, role, protocol, False, "GET", "/a", status, Histogram.of(LATENCY, [0.1]), 0.1, 1, 1, "answered", 0.0
        )
        for role in ("server", "client")
        for protocol, status in (("http1", 503), ("http2", 200), ("grpc", 14))
    ]
    numbers = {each.name: 1 for each in fields(UsageRow) if each.name != "identity"}
    program = {
        "program_seconds": 0.1,
        "request_program_seconds": 0.1,
        "requests": 9.0,
        "served": 9.0,
        "served_seconds": 1.0,
    }
    window = Window(
        1_700_000_000.0,
        10.0,
        0.0,
        {"pipelined": 2},
        {"cpu_seconds": 0.1, "resident_bytes": 5, "map_bytes": 5} | program,
    )
    metrics.add(replace(window), [gathered(each) for each in rows], [UsageRow(POD, **numbers)])
    return "".join(metrics.text())


@cache
def known():
    """Names of metrics and of labels: the agent's, kube-state-metrics' and cAdvisor's as recorded, and our rules'."""
    texts = [told()]
    for name in ("ksm", "cadvisor"):
        with gzip.open(ROOT / "tests" / "cluster" / "recorded" / f"{name}.txt.gz", "rt") as file:
            texts.append(file.read())
    lines = [line for text in texts for line in text.splitlines() if line and not line.startswith("#")]
    names = {re.match(r"[a-zA-Z_:][\w:]*", line)[0] for line in lines} | {"up"}
    labels = {label for line in lines for label in re.findall(r'[{,](\w+)="', line)} | OF_THE_SCRAPE
    rules = [rule for path in RULES for rule in rules_of(path) if "record" in rule]
    labels |= {label for rule in rules for label in rule.get("labels", ())}
    return names | {rule["record"] for rule in rules}, labels


def rules_of(path):
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


WITHOUT_METRICS = re.compile(
    r'"(?:[^"\\]|\\.)*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right) *\([^)]*\)'
)
WORDS = {"and", "or", "unless", "offset", "bool", "by", "without", "on"}


def metrics_in(expression):
    bare = WITHOUT_METRICS.sub(" ", expression)
    return {name for name in re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*(?![\w:])(?! *\()", bare) if name not in WORDS}


def labels_in(expression):
    """Those of matchers and of groupings, and those that label_replace makes or reads."""
    without = re.sub(r'(=~|!~|!=|=) *"(?:[^"\\]|\\.)*"', "=", expression)
    found = set(re.findall(r"[{,] *(\w+) *=", without))
    for inside in re.findall(r"\b(?:by|without|on) *\(([^)]*)\)", expression):
        found |= {each.strip() for each in inside.split(",")}
    return found | {name for pair in re.findall(r'"(\w+)", "\$1", "(\w+)"', expression) for name in pair}


def panels(board):
    return [each for each in board["panels"] if each["type"] != "row"]


def expressions():
    """Each expression, and where it is."""
    for path in RULES:
        for rule in rules_of(path):
            yield f"{path.stem}: {rule.get('record') or rule['alert']}", rule["expr"]
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for panel in panels(board):
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                inside = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
                yield f"{path.stem}: ${variable['name']}", f"count by ({inside[2]}) ({inside[1]})"


ALL = list(expressions())


def test_the_parser_finds_names():
    text = (
        'topk(10, sum by (a, b) (rate(x_total{c=~"$v", d!=""}[5m])) / on (e) f:g:h * 1e6 or vector(0)) > 40e6 offset 1h'
    )
    assert metrics_in(text) == {"x_total", "f:g:h"}
    assert labels_in(text) == {"a", "b", "c", "d", "e"}


@pytest.mark.parametrize(("where", "expression"), ALL, ids=[where for where, _ in ALL])
def test_every_metric_and_every_label_exists(where, expression):
    names, labels = known()
    assert metrics_in(expression)
    assert metrics_in(expression) <= names
    assert labels_in(expression) - {"le"} <= labels


def test_every_metric_of_an_agent_is_known_here_by_its_full_name():
    assert {"headroom_lost_total", "headroom_program_seconds_per_request", "headroom_agent_map_bytes"} <= known()[0]
    assert "headroom_lost" not in known()[0]


@needs_promtool
def test_promtool_takes_the_rules():
    done = subprocess.run(["promtool", "check", "rules", *RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_rules_do_what_their_tests_say():
    done = subprocess.run(["promtool", "test", "rules", *TESTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_not_to_and_every_rule_is_tested():
    cases = [each for path in TESTS for each in yaml.safe_load(path.read_text())["tests"]]
    fired, silent = set(), set()
    for case in cases:
        for each in case.get("alert_rule_test", ()):
            (fired if each["exp_alerts"] else silent).add(each["alertname"])
    rules = [rule for path in RULES for rule in rules_of(path)]
    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    assert fired == silent == alerts
    asked = " ".join(each["expr"] for case in cases for each in case.get("promql_expr_test", ()))
    assert {rule["record"] for rule in rules if "record" in rule} == metrics_in(asked)


@needs_promtool
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_expression_of_a_dashboard_is_promql(path, tmp_path):
    rules = [
        {"record": "x", "expr": target["expr"]}
        for panel in panels(json.loads(path.read_text()))
        for target in panel["targets"]
    ]
    for number, rule in enumerate(rules):
        rule["labels"] = {"number": str(number)}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": rules}]}))
    command = ["promtool", "check", "rules", tmp_path / "rules.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path):
    board = json.loads(path.read_text())
    assert board["schemaVersion"] == 39  # Grafana 11
    names = [each["name"] for each in board["templating"]["list"]]
    assert names == ["datasource", "cluster", "namespace", *(["workload"] if path.stem == "workload" else [])]
    assert board["uid"] == f"headroom-{path.stem}"
    numbers = [each["id"] for each in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    for panel in panels(board):
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            used = set(re.findall(r"\$(\w+)", re.sub(r'"\$\d"', "", target["expr"])))
            assert used <= set(names)
            assert "cluster" in used
