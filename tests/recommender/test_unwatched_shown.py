"""What is shown of containers that an agent watched at times, and Prometheus always."""

import dataclasses
import json
import math
import re

import pytest

from headroom.cli import main
from profiles.histogram import LATENCY, Histogram
from profiles.parquet import ParquetWriter
from profiles.tables import USAGE_NUMBERS
from recommender.evidence import Observation
from recommender.resources import RESOURCE_NAMES
from tests.recommender.conftest import bank_for
from tests.recommender.test_parquet import profile_rows
from tests.recommender.test_unwatched_sizes import others


def columns(frame):
    made = {name: frame[name].astype(float).tolist() for name in USAGE_NUMBERS if name in frame.columns}
    made |= dict.fromkeys(set(USAGE_NUMBERS) - set(made), [None] * len(frame))
    made = {name: [None if value is None or math.isnan(value) else value for value in made[name]] for name in made}
    for name in ("requests", "errors", "oom_kills"):
        made[name] = [None if value is None else int(value) for value in made[name]]
    return made | {"instance": list(frame["instance"]), "unix_seconds": [int(t) for t in frame["start_unix_seconds"]]}


@pytest.fixture
def mixed(make_history, tmp_path):
    """Served and watched for long; without requests; and with an agent that has just come."""
    recording = dict.fromkeys(("seconds", "start_unix_seconds"), 1.7e9) | {"end_unix_seconds": 1.8e9, "windows": 9}
    recording |= {"clock_steps": 0, "lost": "{}", "agent": "{}"}

    def served(unwatched, windows=120, **settings):
        return dataclasses.replace(make_history(windows=windows, seconds=60.0, **settings), unwatched=unwatched)

    made = {
        "serves": served(others(cores=0.4)),
        "works": served(others(cores=0.4), rate=lambda _: 0.0),
        "young": served(others(cores=0.4), windows=3),
        "elsewhere": served(others(cores=0.4, pod="/web-9")),
    }
    for source in ("agent", "prometheus"):
        with ParquetWriter(tmp_path / "mixed", source) as writer:
            for name in sorted(made):
                history = made[name]
                tables = {"usage": columns(history.frame if source == "agent" else history.unwatched)}
                if source == "agent":
                    tables["profiles"] = profile_rows([observed(row) for row in history.frame.itertuples()])
                writer.write(("c", "shop", "Deployment", name, "app"), tables)
            writer.finish([recording])
    return tmp_path / "mixed"


def observed(row):
    latency = Histogram(LATENCY, {LATENCY.bucket_of(0.01): int(row.requests)} if row.requests else {})
    bank = bank_for(row.cpu_cores, 60.0, int(row.requests))
    return Observation(latency, bank, row.cpu_cores * 60.0, 60.0)


@pytest.fixture
def run(capsys, mixed):
    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments), "--store", str(mixed)])
        told = capsys.readouterr()
        assert (caught.value.code, "Traceback" in told.err) == (0, False), told.err
        return told.out

    return run


def no_nan(text):
    assert not re.search(r"\b(nan|inf|infinity)\b", text, re.IGNORECASE)


def test_every_command_shows_numbers_of_such_a_store(run, tmp_path):
    table = run("recommend")
    for name in ("serves", "works", "young", "elsewhere"):
        assert f"shop/{name}/app" in table
        text = run("explain", name)
        assert f"shop/{name}/app" in text
        no_nan(text)
    assert "young/app: sized by its usage alone: its agent has seen 3 of 30 windows needed" in table
    run("report", "--out", tmp_path / "report.html")
    for text in (table, (tmp_path / "report.html").read_text(), run("apis"), run("recommend", "-o", "csv")):
        no_nan(text)


def test_the_document_of_such_a_store_has_sizes_and_reasons_for_all(run):
    found = {each["workload"]: each for each in json.loads(run("recommend", "-o", "json"))["recommendations"]}
    assert set(found) == {"serves", "works", "young", "elsewhere"}
    for each in found.values():
        assert each["verdict"] == "resize"
        assert all(each["target"][name] for name in RESOURCE_NAMES if name != "cpu_limit_cores")
    for name in ("serves", "elsewhere"):
        assert "for it was busier when no agent watched it: 0.4 cores" in found[name]["reasons"]["cpu_request_cores"]
        assert found[name]["evidence"]["requests"] > 0
    assert (found["young"]["curve"], found["young"]["evidence"]["requests"]) == ([], 0)
    assert found["works"]["target"]["cpu_request_cores"] >= 0.4


def test_what_is_kept_in_sizes_only_is_what_is_said_of_everything(run):
    table = run("recommend")
    document = json.loads(run("recommend", "-o", "json"))
    for each in document["recommendations"]:
        assert each["target"]["quantities"]["cpu_request_cores"] in table
