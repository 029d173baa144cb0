"""Documentation that can be checked is checked."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from benchmarks.__main__ import lines
from bpf import layout
from headroom.cli import COMMANDS
from policies.schema import Policy

ROOT = Path(__file__).parent.parent


_HELP = """
import click, json
from headroom.cli import COMMANDS, cli
options = dict(help_option_names=["-h", "--help"], max_content_width=110, terminal_width=110)
told = {}
for name in COMMANDS:
    command = cli.get_command(click.Context(cli), name)
    told[name] = command.get_help(click.Context(command, info_name=f"headroom {name}", **options))
print(json.dumps(told))
"""


def helps():
    """By command; in a process of its own, since click keeps the help option of whoever asked first."""
    return json.loads(subprocess.run([sys.executable, "-c", _HELP], capture_output=True, check=True).stdout)


def test_the_command_reference_is_what_the_commands_say(golden):
    sections = [f"## headroom {name}\n\n```text\n{text}\n```\n" for name, text in helps().items()]
    text = "# Commands\n\nWritten by `make golden` from the commands' own help.\n\n" + "\n".join(sections)
    golden("../../docs/commands.md", text)


def keys(model, prefix=""):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + (field.alias or name)


@pytest.mark.parametrize("key", list(keys(Policy)))
def test_every_policy_key_is_documented(key):
    assert f"`{key}`" in (ROOT / "docs/policies.md").read_text()


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_in_the_readme_or_one_click_away(name):
    assert f"headroom {name}" in (ROOT / "README.md").read_text() + (ROOT / "docs/commands.md").read_text()


def test_the_figures_in_the_readme_are_those_that_were_measured(golden):
    rows = lines(json.loads((ROOT / "benchmarks/results.json").read_text()))
    table = "".join(f"| {what} | {measured} | {aim} |\n" for what, measured, aim in rows)
    head, begin, rest = (ROOT / "README.md").read_text().partition("| | measured | at most |\n|---|---|---|\n")
    _, end, tail = rest.partition("\n## ")
    golden("../../README.md", f"{head}{begin}{table}{end}{tail}")


def test_every_target_of_the_makefile_has_its_line_of_help():
    text = (ROOT / "Makefile").read_text()
    for name in ("help", "dev", "demo", "test", "check", "bench", "bpf", "golden", "clean"):
        assert re.search(rf"^{name}:.*## ", text, re.MULTILINE), name


def test_links_between_documents_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"


def enumerators(header, name):
    body = re.search(rf"enum {name} {{(.*?)}}", header, re.DOTALL)[1]
    return re.findall(r"\b[A-Z][A-Z_]+\b", re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL))


@pytest.mark.parametrize(
    ("header", "name", "mirror", "prefix"),
    [
        ("traffic_layout.h", "method", layout.Method, "METHOD_"),
        ("traffic_layout.h", "role", layout.Role, "ROLE_"),
        ("traffic_layout.h", "loss", layout.TrafficLoss, "LOSS_"),
        ("traffic_layout.h", "outcome", layout.Outcome, "OUTCOME_"),
        ("network_layout.h", "network_loss", layout.NetworkLoss, "NETWORK_LOSS_"),
        ("cpu_layout.h", "cpu_loss", layout.CpuLoss, "CPU_LOSS_"),
    ],
)
def test_numbers_shared_with_the_kernel_have_the_same_names(header, name, mirror, prefix):
    names = [each.removeprefix(prefix) for each in enumerators((ROOT / "bpf" / header).read_text(), name)]
    names = [each for each in names if each not in {"NONE", "REASONS"}]
    assert names == [each.name for each in mirror]
