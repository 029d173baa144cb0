"""``headroom report``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import policy_option, store_option


@click.command("report")
@store_option()
@policy_option()
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default="report.html", show_default=True, help="File."
)
@click.option("--prices", type=click.Path(path_type=Path, dir_okay=False), help="What a core and a GiB cost: YAML.")
def command(store: Path, policy_name: str, out: Path, prices: Path | None) -> None:
    """Write the report: one HTML file with the traffic, usage and headroom curve of each workload.

    \b
    Example:
      headroom report --store host.db --out report.html
    """
    from headroom.output import progress
    from headroom.reporting import report_of
    from headroom.sizing import write_report
    from reports.html import to_html

    with progress("drawing"):
        text = to_html(report_of(store, policy_name, prices))
    write_report(text, out)
    click.echo(str(out))
