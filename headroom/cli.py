"""The entry point: finds the command, runs it, and turns errors into a sentence.

Exit codes: 0 done, 1 it did not work, 2 it was asked wrongly. Data goes to stdout, all else
to stderr.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from headroom import __version__
from profiles.errors import HeadroomError

# name -> the line that `headroom --help` shows; the module is imported only when it runs
COMMANDS = {
    "record": "Record traffic, CPU and memory of this host's workloads.",
    "push": "Leave a node's profiles where a cluster's are collected.",
    "pull": "Bring a store up to date with a cluster's.",
    "recommend": "Recommend CPU and memory for each workload.",
    "patch": "Write a kubectl patch, and its rollback, per workload.",
    "apply": "Try a patch on a cluster, or apply, watch and undo it.",
    "report": "Write the report as one HTML file.",
    "serve": "Show report, APIs and capacity in a browser.",
    "plan": "Review capacity: nodes needed, and when they run out.",
    "explain": "Show how the numbers of one workload came about.",
    "top": "Show workloads as they are now.",
    "apis": "List routes with their rate, errors and latency.",
    "peers": "List who talks to whom over TCP, and how much.",
    "export": "Roll a store up into a folder of Parquet files.",
    "backtest": "Judge every recommender on your own history.",
    "doctor": "Say what works on this machine, and what does not.",
    "demo": "Show the whole idea on real servers and real load.",
    "completion": "Print the shell completion script.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"headroom.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headroom")
def cli() -> None:
    """Size workloads for a stated latency budget, from their live traffic.

    \b
    Start here:
      headroom doctor                              does it work on this machine?
      headroom record --store host.db --duration 10m
      headroom recommend --store host.db
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    name = "kubectl headroom" if os.path.basename(sys.argv[0]) == "kubectl-headroom" else "headroom"  # noqa: PTH119
    try:
        code = cli.main(arguments, prog_name=name, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk shows here, not after the exit code is chosen
    except HeadroomError as error:
        click.echo(f"error: {error.sentence}\n  next: {error.next_step}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(1)
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output went away: not our failure
            _drop_output()
            sys.exit(0)
        click.echo(f"error: {error}\n  next: Make room, or choose another place for the output.", err=True)
        _drop_output()
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _drop_output() -> None:
    """What is left in the buffer of a stdout that takes nothing must not be tried again at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
