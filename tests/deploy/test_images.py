"""The images, as far as they can be looked at without building them."""

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import setuptools

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
LINES = re.sub(r"\\\n", " ", DOCKERFILE).splitlines()


def copied():
    """Sources of the build stage: what comes from the repository."""
    for line in LINES:
        if line.startswith("COPY ") and "--from" not in line:
            yield from line.split()[1:-1]


def test_what_is_copied_exists_and_is_let_through():
    rules = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    let_through = {each[1:] for each in rules if each.startswith("!")}
    assert rules[1] == "*"
    assert set(copied()) == let_through
    for source in copied():
        assert (ROOT / source).exists(), source


def test_every_package_of_the_project_is_copied():
    found = {each.split(".")[0] for each in setuptools.find_namespace_packages(str(ROOT), include=_packages())}
    assert {each for each in found if (ROOT / each).is_dir()} <= set(copied())
    assert set(_packages()) == {f"{each}*" for each in copied() if (ROOT / each).is_dir()}


def _packages():
    """As setup.cfg includes them."""
    text = (ROOT / "setup.cfg").read_text()
    return re.search(r"\[options\.packages\.find\]\ninclude =\n((?: +\S+\n)+)", text)[1].split()


def test_stages_come_from_stages_that_are_there_and_nothing_names_a_processor():
    stages = [line.split()[3] for line in LINES if line.startswith("FROM ")]
    assert {"agent", "cli"} <= set(stages)
    for line in LINES:
        for named in re.findall(r"--from=(\S+)", line):
            assert named in stages
        if line.startswith("FROM ") and not line.split()[1].startswith("debian:trixie-slim"):
            assert line.split()[1] in stages[: stages.index(line.split()[3])]
    assert not re.search(r"x86|amd64(?! and)|aarch64", DOCKERFILE)


def test_the_cli_is_not_root_and_the_agent_has_what_loads_its_programs():
    parts = {}
    for part in re.split(r"(?m)^FROM ", DOCKERFILE)[1:]:
        parts[part.split()[2]] = part
    assert "USER 65532:65532" in parts["cli"]
    assert "libbpf1" in parts["agent"]
    assert "clang" not in parts["agent"] + parts["base"] + parts["cli"]


def test_the_makefile_compiles_every_program_that_the_image_asks_for():
    asked = [f"{each.with_suffix('')}.o" for each in sorted((ROOT / "bpf").glob("*.bpf.c"))]
    names = [str(Path(each).relative_to(ROOT)) for each in asked]
    done = subprocess.run(["make", "-n", "-B", *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"-target bpf", done.stdout)) == len(names) > 0
    assert not any(fnmatch(each, "benchmarks/*") for each in names)


REFUSING = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"click", *ours} and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ModuleNotFoundError(f"{name} is not in the image")

ours = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Refuse())
from headroom.cli import main
sys.argv = ["headroom", *sys.argv[1:]]
main()
"""


def test_the_agent_runs_with_click_alone(tmp_path):
    """As in its image: up to the kernel, which is asked for a cgroup that is not there."""
    ours = ",".join(each for each in copied() if (ROOT / each).is_dir())
    command = [sys.executable, "-c", REFUSING, ours, "record", "--store", str(tmp_path / "a.db"), "--metrics", "0"]
    done = subprocess.run([*command, "--cgroup", "no/such"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" not in done.stderr
    assert "no/such" in done.stderr or "cgroup tree" in done.stderr
