"""``headroom doctor``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headroom.options import PullOptions, output_option, pull_options

if TYPE_CHECKING:
    from profiles.check import Check


@click.command("doctor")
@click.option("--store", type=click.Path(path_type=Path), help="Look at this store as well.")
@pull_options()
@output_option()
def command(store: Path | None, asked: PullOptions, output: str) -> int:
    """Say what works on this machine and what does not, with a next step for each.

    With --prometheus, --kubeconfig or --context it is not this machine that is looked at, but whether there
    is all in them that sizes are made from. Exit code 0 when what was asked for works, else 1.

    \b
    Example:
      headroom doctor
      headroom doctor --store host.db -o json
      headroom doctor --prometheus http://127.0.0.1:9090 --context prod
    """
    from collector.doctor import examine

    elsewhere = asked.url or asked.kubeconfig or asked.context or asked.profiles
    checks = list(_elsewhere(asked) if elsewhere else examine())
    checks += [_of_store(store)] if store is not None else []
    click.echo(_shown(checks, output), nl=False)
    return 1 if any(check.status == "failed" for check in checks) else 0


def _of_store(store: Path) -> Check:
    from profiles.check import Check
    from profiles.errors import StoreError
    from recommender.inputs.recording import read_recording

    try:
        recording = read_recording(store)
    except StoreError as error:
        return Check("store", "failed", error.sentence, error.next_step)
    lost = ", ".join(f"{count} {reason}" for reason, count in recording.lost.items()) or "nothing"
    return Check("store", "ok", f"{recording.windows} windows, {len(recording.histories)} workloads; lost: {lost}")


def _shown(checks: Sequence[Check], output: str) -> str:
    """As asked for; where only the agent is installed (its image has neither pandas nor rich) as lines of text."""
    try:
        from headroom.output import is_terminal, uses_color
        from reports import machine, table
    except ImportError:
        return "".join(f"{each.status:8}{each.name}: {each.finding}. {each.next_step}\n" for each in checks)
    if output == "table":
        rows = [(check.status, check.name, check.finding, check.next_step) for check in checks]
        headings = ("status", "what", "finding", "next step")
        return table.rows_as_table(headings, rows, terminal=is_terminal(), color=uses_color())
    records = [asdict(check) for check in checks]
    return {"json": machine.to_json, "yaml": machine.to_yaml, "csv": machine.to_csv}[output](records)


def _elsewhere(asked: PullOptions) -> Iterator[Check]:
    """A Prometheus, an API server, or both."""
    import time

    from headroom.connection import connection_of
    from recommender.inputs.access import Access
    from recommender.inputs.examine import examine_cluster, examine_prometheus
    from recommender.inputs.prometheus import Prometheus

    if asked.url:
        yield from examine_prometheus(Prometheus(connection_of(asked)), asked.until or time.time(), asked.days)
    if asked.profiles:
        from recommender.inputs.examine import examine_depot

        yield from examine_depot(asked.profiles, asked.cluster, asked.until or time.time())
    if asked.kubeconfig or asked.context:
        yield from examine_cluster(Access(asked.kubeconfig, asked.context))
