"""``headroom top``: its figures against those counted by hand, and what it does on a real terminal."""

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from headroom.cli import main
from profiles.histogram import LATENCY, Histogram
from profiles.schema import WITHOUT_ENDINGS, Identity, TrafficRow, UsageRow, Window
from profiles.sqlite import StoreReader, StoreWriter
from profiles.status import is_server_error
from recommender.inputs.recording import read_recording
from reports.top import COLUMNS, TopRow, cells, screen, top_rows

BEGIN, MEBIBYTE = 1_700_000_000.0, 2**20
ROOT = Path(__file__).parents[2]
UNKNOWN = TopRow("shop/unknown/main", None, None, None, None, None, None, None, None, 1)


def identity(workload, instance):
    return Identity("local", "shop", "Deployment", workload, "main", f"/{workload}-{instance}")


def came(who, requests, seconds=0.01, status=200, role="server", outcome="answered"):
    latency = Histogram.of(LATENCY, [seconds] * requests)
    return TrafficRow(who, role, "http1", False, "GET", "/", status, latency, requests * seconds, 0, 0, outcome)


def used(who, cpu, memory=None, **more):
    return UsageRow(who, cpu, memory_working_set_bytes=memory, **more)


@pytest.fixture
def rows_of(tmp_path):
    """Of windows of 10 s, each with rows of traffic and of usage."""

    def rows_of(*windows, last=None, by="cpu_cores", lost=()):
        writer = StoreWriter(tmp_path / "made.db")
        for place, (traffic, usage) in enumerate(windows):
            writer.write(Window(BEGIN + 10 * place, 10.0, lost=dict(lost)), traffic, usage)
        writer.close()
        return top_rows(read_recording(tmp_path / "made.db", last), by)

    return rows_of


def test_rates_errors_and_latency_are_those_that_were_counted(rows_of):
    web = identity("web", 1)
    first = [came(web, 90), came(web, 5, 0.1, 503), came(web, 5, 0.02, 404), came(web, 50, 9.0, role="client")]
    second = [came(web, 80, 0.02), came(web, 20, 9.0, 0, outcome="timed_out")]
    (row,) = rows_of((first, [used(web, 3.0)]), (second, [used(web, 5.0)]))
    assert row.requests_per_second == 180 / 20
    assert row.error_share == (5 + 20) / (180 + 20)
    assert row.p95_seconds == pytest.approx(0.02, rel=0.05), "the time of those without an answer is no latency"
    assert row.cpu_cores == pytest.approx(8 / 20)
    assert (row.throttled_share, row.cpu_headroom_share, row.memory_bytes, row.memory_headroom_share) == (None,) * 4


def test_only_the_last_windows_count(rows_of):
    web = identity("web", 1)
    windows = [([came(web, 1000, status=500)], [used(web, 9.0)])] * 3 + [([came(web, 50)], [used(web, 1.0)])]
    (row,) = rows_of(*windows, last=10.0)
    assert (row.requests_per_second, row.error_share, row.cpu_cores) == (5.0, 0.0, 0.1)


def test_of_several_instances_sums_are_shown_and_what_the_fullest_has_left(rows_of):
    one, two, gone = (identity("web", number) for number in (1, 2, 3))
    of = {"cpu_limit_cores": 1.0, "memory_limit_bytes": 100 * MEBIBYTE, "periods": 100}
    begin = [
        used(one, 9.0, 95 * MEBIBYTE, throttled_periods=30, **of),
        used(gone, 1.0, 99 * MEBIBYTE, throttled_periods=0, **of),
    ]
    end = [
        used(one, 2.0, 30 * MEBIBYTE, throttled_periods=10, **of),
        used(two, 4.0, 80 * MEBIBYTE, throttled_periods=0, **of),
    ]
    (row,) = rows_of(([came(one, 10)], begin), ([came(one, 10), came(two, 30)], end))
    assert (row.instances, row.memory_bytes) == (2, 110 * MEBIBYTE), "as it is now"
    assert row.memory_headroom_share == pytest.approx(0.2), "80 of 100 MiB now; 99 was before"
    assert row.cpu_headroom_share == pytest.approx(0.1), "0.9 of 1 core in one window"
    assert row.throttled_share == 40 / 400
    assert row.cpu_cores == pytest.approx(16 / 20)
    assert row.requests_per_second == 50 / 20


def test_a_limit_of_one_instance_alone_is_held_against_that_one(rows_of):
    free, bound = identity("web", 1), identity("web", 2)
    (row,) = rows_of(([], [used(free, 90.0, 9), used(bound, 1.0, 6, cpu_limit_cores=0.4, memory_limit_bytes=8)]))
    assert (row.cpu_headroom_share, row.memory_headroom_share) == (pytest.approx(0.75), 0.25)
    assert row.throttled_share is None


def test_what_was_not_counted_is_not_known_and_no_zero(rows_of):
    web, silent = identity("web", 1), identity("silent", 1)
    rows = rows_of(([came(web, 10)], [used(silent, 0.0)]), lost={WITHOUT_ENDINGS: 1}.items())
    assert {row.name: (row.cpu_cores, row.memory_bytes, row.error_share, row.p95_seconds) for row in rows} == {
        "shop/web/main": (None, None, 0.0, pytest.approx(0.01, rel=0.05)),
        "shop/silent/main": (0.0, None, None, None),
    }
    assert cells(UNKNOWN)[1:] == ["-"] * 8 + ["1"]


def test_figures_of_the_recording_are_those_of_its_rows(recorded):
    """Counted again without a frame, from the rows of the store."""
    with StoreReader(recorded) as reader:
        windows, traffic, usage = dict(reader.windows()), list(reader.traffic()), list(reader.usage())
    newest = max(each.start_unix_seconds + each.duration_seconds for each in windows.values())
    asked, failed, cpu, seen = (defaultdict(float) for _ in range(4))
    kept = {n for n, each in windows.items() if each.start_unix_seconds + each.duration_seconds > newest - 20}
    for number, row in traffic:
        if number in kept and row.role == "server":
            asked[row.identity.name] += row.requests
            failed[row.identity.name] += row.requests * (not row.answered or is_server_error(row.protocol, row.status))
            seen[row.identity.name, number] = windows[number].duration_seconds
    for number, row in usage:
        if number in kept:
            cpu[row.identity.name] += row.cpu_seconds
            seen[row.identity.name, number] = windows[number].duration_seconds
    rows = top_rows(read_recording(recorded, 20.0), "name")
    assert len(rows) == 5
    for row in rows:
        seconds = math.fsum(each for (name, _), each in seen.items() if name == row.name)
        assert row.requests_per_second == pytest.approx(asked[row.name] / seconds)
        assert row.cpu_cores == pytest.approx(cpu[row.name] / seconds)
        assert row.error_share == (pytest.approx(failed[row.name] / asked[row.name]) if asked[row.name] else None)


@pytest.mark.parametrize("by", [name for name in COLUMNS if name not in ("name", "instances")])
def test_what_is_worst_comes_first_and_what_is_not_known_last(rows_of, by):
    """Of what is left, the least is the worst."""
    windows = [], []
    for place, name in enumerate(("b", "d", "a", "c")):
        who, size = identity(name, 1), (3, 1, 4, 2)[place]
        windows[0].extend([came(who, 10 * size, 0.01 * size), came(who, size * size, 0.01 * size, 500)])
        of = {"cpu_limit_cores": 1.0, "memory_limit_bytes": 99, "periods": 9, "throttled_periods": size}
        windows[1].append(used(who, float(size), 10 * size, **of))
    unknown = identity("unknown", 1)
    windows[by != "cpu_cores"].append(came(unknown, 1) if by == "cpu_cores" else used(unknown, 0.0))
    rows = rows_of(windows, by=by)
    known = [row.name for row in rows if getattr(row, by) is not None]
    assert known[:4] == [f"shop/{name}/main" for name in "abcd"]
    assert all(getattr(row, by) is None for row in rows[len(known) :])


def test_rows_without_a_value_and_with_the_same_are_in_order_of_their_names(rows_of):
    usage = [used(identity(name, 1), 1.0) for name in "cab"]
    for by in COLUMNS:
        assert [row.name for row in rows_of(([], usage), by=by)] == [f"shop/{name}/main" for name in "abc"]


def test_what_is_dangerous_stands_out_and_what_has_no_room_is_counted():
    bad = replace(
        UNKNOWN, name="bad", error_share=0.5, throttled_share=0.2, memory_headroom_share=0.01, cpu_headroom_share=0.1
    )
    console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system="standard")
    console.print(screen([bad, *[UNKNOWN] * 9], "cpu_cores", "about", 4, console.width))
    text = console.file.getvalue()
    for colour, figure in (("1;31", "50.0%"), ("1;31", "20.0%"), ("1;31", "1%"), ("1;33", "10%"), ("7", "CPU")):
        assert re.search(rf"\x1b\[[0-9;]*{colour}m[^\x1b]*\b{figure}", text), figure
    assert "and 6 more" in text
    assert text.count("shop/unknown") == 3


def test_names_cannot_steer_the_terminal():
    """A container may call itself what it likes."""
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    row = replace(UNKNOWN, name="a\x1b]0;owned\x07\x1b[2Jb\r[red]c")
    console.print(screen([row], "cpu_cores", "about", 4, console.width))
    assert "\x1b]0;" not in console.file.getvalue()
    assert "\x1b[2J" not in console.file.getvalue()
    assert "[red]c" in console.file.getvalue()


@pytest.fixture
def top(capsys):
    def top(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["top", *map(str, arguments)])
        told = capsys.readouterr()
        return caught.value.code, told.out, told.err

    return top


def test_in_a_pipe_and_once_it_is_a_table_in_each_form(top, recorded):
    code, table, err = top("--store", recorded)
    assert (code, err, "\x1b" in table, len(table.splitlines())) == (0, "", False, 6)
    assert top("--store", recorded, "--once")[1] == table
    records = json.loads(top("--store", recorded, "-o", "json")[1])
    assert [set(each) for each in records] == [set(COLUMNS)] * 5
    assert [each["name"] for each in records] == [line.split()[0] for line in table.splitlines()[1:]]
    assert len(list(csv.DictReader(io.StringIO(top("--store", recorded, "-o", "csv")[1])))) == 5
    busiest = json.loads(top("--store", recorded, "--sort", "rps", "-o", "json")[1])
    assert busiest[0]["name"] == "host/nginx-static/nginx-static"


def test_what_cannot_be_shown_is_a_sentence(top, tmp_path, recorded):
    code, out, err = top("--store", tmp_path / "none.db", "--once")
    assert (code, out) == (1, "")
    assert err.startswith("error: There is no store at")
    subprocess.run(
        [sys.executable, "-m", "headroom", "export", "--store", recorded, "--out", tmp_path / "fleet"], check=True
    )
    code, out, err = top("--store", tmp_path / "fleet")
    assert (code, out, "Traceback" in err) == (2, "", False)
    assert "Leave --last out" not in err, "it was not given"


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_was_set_is_no_end_of_it(recorded, top, step):
    with StoreReader(recorded) as reader:
        number, last = list(reader.windows())[-1]
        usage = [row for at, row in reader.usage() if at == number]
    writer = StoreWriter(recorded)
    writer.write(replace(last, start_unix_seconds=last.start_unix_seconds + step, clock_step_seconds=step), [], usage)
    writer.close()
    (row, *_) = json.loads(top("--store", recorded, "-o", "json")[1])
    assert row["cpu_cores"] > 0


@pytest.fixture
def terminal(tmp_path):
    """A real one of 120 columns and 20 lines, with a shell in it: what is on it, and keys."""
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux here")
    shell = {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}

    def tmux(*arguments):
        command = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | shell).stdout

    def shows(*wanted, seconds=15):
        end = time.monotonic() + seconds
        while any(each not in (text := tmux("capture-pane", "-p")) for each in wanted):
            assert time.monotonic() < end, f"not shown: {wanted}\n{text}"
            time.sleep(0.1)
        return text

    tmux("new-session", "-d", "-x", "120", "-y", "20", "PS1='$ ' exec bash --norc --noprofile")
    try:
        shows("$")
        yield tmux, shows
    finally:
        tmux("kill-server")


def test_a_terminal_is_drawn_again_and_is_as_it_was_after_ctrl_c(terminal, recorded, tmp_path):
    tmux, shows = terminal
    tmux("send-keys", "echo what was there before", "Enter")
    before = shows("\nwhat was there before")
    command = f"{sys.executable} -m headroom top --store {recorded} --every 300ms; echo ended with $?"
    tmux("send-keys", command, "Enter")
    assert "what was there" not in shows("host/checkout/checkout", "throttled", "does the agent run?", "Ctrl-C ends")
    assert tmux("display", "-p", "#{alternate_on}#{cursor_flag}") == "10\n"
    with StoreReader(recorded) as reader:
        last = list(reader.windows())[-1][1]
    writer = StoreWriter(recorded)
    who = identity("fresh", 1)
    writer.write(
        replace(last, start_unix_seconds=time.time() - last.duration_seconds), [came(who, 7)], [used(who, 0.1)]
    )
    writer.close()
    assert "does the agent run?" not in shows("shop/fresh/main")
    moved = recorded.rename(tmp_path / "elsewhere.db")
    shows("There is no store at")
    moved.rename(recorded)
    shows("shop/fresh/main")
    tmux("send-keys", "C-c")
    after = shows("ended with ")
    assert after.startswith(before.split("\n$ \n")[0].rstrip("$ \n"))
    assert "fresh" not in after
    assert "Traceback" not in after
    assert tmux("display", "-p", "#{alternate_on}#{cursor_flag}") == "01\n"


def test_a_small_terminal_has_every_figure(terminal, images, recorded):
    """80 columns: names are cut, numbers are not."""
    tmux, shows = terminal
    tmux("resize-window", "-x", "80", "-y", "6")
    tmux("send-keys", f"{sys.executable} -m headroom top --store {recorded} --sort rps", "Enter")
    text = shows("throttled", "and ")
    assert "more" in text
    assert "127.7" in text
    (images / "top.txt").write_text(text)
    for figure in ("RPS", "errors", "P95", "CPU", "memory"):
        assert figure in text
    tmux("send-keys", "C-c")
