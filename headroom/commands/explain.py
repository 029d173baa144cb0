"""``headroom explain``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import policy_option, store_option


@click.command("explain")
@click.argument("workload")
@store_option()
@policy_option()
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
def command(workload: str, store: Path, policy_name: str, output: str) -> None:
    """Show how the numbers of WORKLOAD came about: evidence, models, curve, policy, reasons.

    \b
    Example:
      headroom explain checkout --store host.db
    """
    from headroom.patching import patches_of
    from headroom.sizing import find, size_store
    from reports import machine
    from reports.explain import explain
    from reports.record import as_record

    _, rows = size_store(store, policy_name, only=workload)
    row = find(rows, workload)
    if output == "text":
        click.echo(explain(row, patches_of(rows).by_container.get(row.container)), nl=False)
        return
    record = as_record(row)
    click.echo(machine.to_json(record) if output == "json" else machine.to_yaml(record), nl=False)
