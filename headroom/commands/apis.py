"""``headroom apis``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import output_option, store_option


@click.command("apis")
@store_option()
@click.option(
    "--by", type=click.Choice(["route", "status"]), default="route", show_default=True, help="One row per ..."
)
@click.option("--workload", help="Only this workload.")
@output_option()
def command(store: Path, by: str, workload: str | None, output: str) -> None:
    """List routes with requests, rate, error share, P50 and P95.

    \b
    Example:
      headroom apis --store host.db
      headroom apis --store host.db --by status -o csv
    """
    from headroom.rows import show_rows
    from profiles.errors import UsageError
    from recommender.inputs.recording import read_recording
    from reports import apis

    recording = read_recording(store)
    rows = apis.api_rows(recording, by_status=by == "status")
    if workload is not None:
        names = {history.container.name: history.container.workload for history in recording.histories}
        if workload not in names and workload not in names.values():
            raise UsageError(f"{workload} is not in this store.", f"There are: {', '.join(names)}.")
        rows = [row for row in rows if workload in (row.workload, names[row.workload])]
    told = sum(each.requests for each in recording.histories if each.by_metrics)
    if told:
        click.echo(
            f"{told} requests are known from metrics alone, without their routes: headroom push has them", err=True
        )
    elif output == "table" and not rows:
        click.echo("no HTTP requests were seen; headroom doctor tells what is watched", err=True)
    show_rows([row.as_record() for row in rows], apis.HEADINGS, [apis.cells(row) for row in rows], output)
