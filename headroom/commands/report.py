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
def command(store: Path, policy_name: str, out: Path) -> None:
    """Write the report: one HTML file with the traffic, usage and headroom curve of each workload.

    \b
    Example:
      headroom report --store host.db --out report.html
    """
    from headroom import __version__
    from headroom.output import progress
    from headroom.patching import patches_of
    from headroom.sizing import size_store, write_report
    from reports.html import to_html

    with progress("drawing"):
        recording, rows = size_store(store, policy_name)
        text = to_html(recording, rows, patches_of(rows).by_container, __version__)
    write_report(text, out)
    click.echo(str(out))
