"""The command line as its users meet it: exit codes, sentences, streams."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headroom.cli import COMMANDS

ROOT = Path(__file__).parents[2]
HEAVY = ("pandas", "numpy", "statsmodels", "rich", "jinja2", "pydantic", "yaml")


def run(*arguments, **settings):
    command = [sys.executable, "-m", "headroom", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **settings)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_a_help_with_an_example(name):
    done = run(name, "--help")
    assert done.returncode == 0
    assert f"headroom {name}" in done.stdout
    assert "Example:" in done.stdout


def test_help_lists_every_command_and_loads_nothing_heavy():
    code = (
        "import sys, contextlib\nfrom headroom.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    for name in COMMANDS:
        assert f"  {name}" in done.stdout


def test_the_agent_loads_nothing_heavy():
    code = (
        "import sys\nimport collector.agent, headroom.commands.record\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [["recommend"], ["recommend", "-o", "json"], ["explain", "checkout"], ["explain", "checkout", "-o", "yaml"],
     ["apis"], ["apis", "--by", "status", "-o", "csv"]],
)  # fmt: skip
def test_data_goes_to_stdout_and_nothing_else_does(recorded, arguments):
    done = run(*arguments, "--store", recorded)
    assert (done.returncode, done.stderr) == (0, "")
    assert "checkout" in done.stdout
    if "json" in arguments:
        assert len(json.loads(done.stdout)["recommendations"]) == 5


def test_patch_and_report_write_what_they_say(recorded, tmp_path):
    done = run("patch", "--store", recorded, "--out", tmp_path / "patches")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 5
    assert sorted(path.name for path in (tmp_path / "patches").glob("*.yaml")) == sorted(
        path.name for path in (tmp_path / "patches" / "rollback").glob("*.yaml")
    )
    done = run("report", "--store", recorded, "--out", tmp_path / "r.html")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'r.html'}\n")
    assert (tmp_path / "r.html").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["recommend", "--store", "no.db"], 1, "There is no store at no.db."),
        (["recommend", "--store", "{store}", "--policy", "bold"], 2, "There is no policy bold"),
        (["explain", "chekout", "--store", "{store}"], 2, "chekout is not in this store."),
        (["apis", "--store", "{store}", "--workload", "x"], 2, "x is not in this store."),
        (["record", "--store", "x.db", "--duration", "soon"], 2, "'soon' is not a duration"),
        (["record", "--store", "x.db", "--window", "1ms"], 2, "is too short"),
        (["patch", "--store", "{store}", "--out", "/proc/x"], 1, "cannot be written"),
        (["report", "--store", "{store}", "--out", "/no/such/r.html"], 1, "cannot be written"),
        (["record", "--store", "x.db", "--keep", "0"], 2, "'0' is not a duration"),
        (["record", "--store", "x.db", "--keep=-1d"], 2, "is not a duration"),
        (["demo", "--replay", "--out", "/proc/x"], 1, "cannot be written"),
        (["patch", "--store", "{store}", "--out", "p", "--kind", "Pod; rm"], 2, "is not one of"),
        (["recommend"], 2, "There is nothing to size."),
        (["patch", "--out", "."], 2, "Missing option '--store'"),
        (["recomend"], 2, "No such command 'recomend'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_with_a_next_step(recorded, tmp_path, arguments, code, words):
    done = run(
        *(each.format(store=recorded) for each in arguments), cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == code
    assert words in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "next:" in done.stderr or "--help" in done.stderr


def test_a_reader_that_goes_away_is_no_error(recorded):
    command = f"{sys.executable} -m headroom explain checkout --store {recorded} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "host/checkout/checkout\n0\n"
    assert done.stderr == ""


def test_output_that_cannot_be_written_is_said(recorded):
    command = [sys.executable, "-m", "headroom", "recommend", "--store", str(recorded)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_report_is_utf8_whatever_the_locale(recorded, tmp_path):
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = run("report", "--store", recorded, "--out", tmp_path / "r.html", env=os.environ | plain)
    assert done.returncode == 0, done.stderr
    assert "\N{MIDDLE DOT}" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_patches_of_an_earlier_run_go_and_other_files_stay(recorded, tmp_path):
    run("patch", "--store", recorded, "--out", tmp_path)
    (tmp_path / "mine.yaml").write_text("# mine\n")
    (tmp_path / "old.yaml").write_text("# headroom: host/old/old\n")
    done = run("patch", "--store", recorded, "--out", tmp_path)
    assert "removed 1 files" in done.stderr
    assert (tmp_path / "mine.yaml").exists()
    assert not (tmp_path / "old.yaml").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell):
    assert "_HEADROOM_COMPLETE" in run("completion", shell).stdout


def test_doctor_tells_what_works():
    done = run("doctor", "-o", "json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert {"kernel", "privileges", "cgroups"} <= set(checks)
    assert all(check["next_step"] for check in checks.values() if check["status"] != "ok")
    assert done.returncode == int(any(check["status"] == "failed" for check in checks.values()))


@pytest.mark.kernel
def test_doctor_finds_nothing_wrong_where_recording_works(recorded):
    done = run("doctor", "--store", recorded, "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)[-1]["finding"].startswith("62 windows, 5 workloads")


def test_the_demo_replays_its_recording_where_it_cannot_record(tmp_path):
    for _ in range(2):
        done = run("demo", "--replay", "--out", tmp_path / "demo")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].endswith("demo/report.html")
    made = {path.relative_to(tmp_path / "demo").as_posix() for path in (tmp_path / "demo").rglob("*") if path.is_file()}
    assert {"recommendations.json", "report.html", "profiles.db", "patches/checkout.yaml"} <= made


@pytest.mark.kernel
def test_the_demo_records_sizes_and_checks_its_own_counts(tmp_path):
    """Short, so that sizes are refused with their reason; `make demo` is the long one."""
    done = run("demo", "--duration", "6s", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "equal for every workload and status" in done.stderr
    document = json.loads((tmp_path / "recommendations.json").read_text())
    rows = {row["workload"]: row for row in document["recommendations"]}
    assert sorted(rows) == ["checkout", "idle", "leaky", "nginx-gzip", "nginx-static"]
    assert all("of 30 windows needed" in row["reasons"]["cpu_limit_cores"] for row in rows.values())
    assert rows["nginx-static"]["evidence"]["requests"] > 100


@pytest.mark.kernel
def test_a_running_agent_can_be_read(tmp_path):
    store = tmp_path / "p.db"
    command = [sys.executable, "-m", "headroom", "record", "--store", str(store), "--window", "200ms"]
    agent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(4):
            done = run("recommend", "--store", store)
            assert done.returncode in {0, 1}
            assert "Traceback" not in done.stderr
            assert "damaged" not in done.stderr
    finally:
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0
