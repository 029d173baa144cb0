"""``headroom doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from headroom.options import output_option


@click.command("doctor")
@click.option("--store", type=click.Path(path_type=Path), help="Look at this store as well.")
@output_option()
def command(store: Path | None, output: str) -> int:
    """Say what works on this machine and what does not, with a next step for each.

    Exit code 0 when recording works and the store given can be read, else 1.

    \b
    Example:
      headroom doctor
      headroom doctor --store host.db -o json
    """
    from collector.doctor import Check, examine
    from headroom.output import is_terminal, uses_color
    from profiles.errors import StoreError
    from recommender.inputs.recording import read_recording
    from reports import machine, table

    checks = list(examine())
    if store is not None:
        try:
            recording = read_recording(store)
            lost = ", ".join(f"{count} {reason}" for reason, count in recording.lost.items()) or "nothing"
            finding = f"{recording.windows} windows, {len(recording.histories)} workloads; lost: {lost}"
            checks.append(Check("store", "ok", finding))
        except StoreError as error:
            checks.append(Check("store", "failed", error.sentence, error.next_step))
    if output == "table":
        rows = [(check.status, check.name, check.finding, check.next_step) for check in checks]
        headings = ("status", "what", "finding", "next step")
        text = table.rows_as_table(headings, rows, terminal=is_terminal(), color=uses_color())
    else:
        records = [asdict(check) for check in checks]
        text = {"json": machine.to_json, "yaml": machine.to_yaml, "csv": machine.to_csv}[output](records)
    click.echo(text, nl=False)
    return 1 if any(check.status == "failed" for check in checks) else 0
