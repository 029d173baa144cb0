"""``headroom apis``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import Seconds, output_option, store_option


@click.command("apis")
@store_option()
@click.option(
    "--by", type=click.Choice(["route", "status"]), default="route", show_default=True, help="One row per ..."
)
@click.option("--workload", help="Only this workload.")
@click.option("--last", type=Seconds(), help="Only the last so long, such as 15m.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page: routes, and each over time."
)
@output_option()
def command(store: Path, by: str, workload: str | None, last: float | None, html: Path | None, output: str) -> None:
    """List routes with requests, rate, error share, P50 and P95.

    \b
    Example:
      headroom apis --store host.db
      headroom apis --store host.db --by status --last 15m -o csv
      headroom apis --store host.db --html apis.html
    """
    from dataclasses import replace

    from headroom.rows import show_rows
    from headroom.sizing import write_report
    from profiles.errors import UsageError
    from recommender.inputs.recording import read_recording
    from reports import apis, apis_page

    if html is not None and (by != "route" or output != "table"):
        raise UsageError("A page has routes with their statuses.", "Leave --by and -o out, or --html.")
    recording = read_recording(store, last)
    if workload is not None:
        own = [each for each in recording.histories if workload in (each.container.name, each.container.workload)]
        if not own:
            names = ", ".join(each.container.name for each in recording.histories)
            raise UsageError(f"{workload} is not in this store.", f"There are: {names}.")
        recording = replace(recording, histories=tuple(own))
    rows = apis.api_rows(recording, by_status=by == "status")
    if html is not None:
        write_report(apis_page.to_html(apis_page.apis_document(recording, recording.histories)), html)
        click.echo(str(html))
        return
    told = sum(each.requests for each in recording.histories if each.by_metrics)
    if told:
        click.echo(
            f"{told} requests are known from metrics alone, without their routes: headroom push has them", err=True
        )
    elif output == "table" and not rows:
        click.echo("no HTTP requests were seen; headroom doctor tells what is watched", err=True)
    show_rows([row.as_record() for row in rows], apis.HEADINGS, [apis.cells(row) for row in rows], output)
