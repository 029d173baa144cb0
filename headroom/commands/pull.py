"""``headroom pull``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import PrometheusOptions, Seconds, prometheus_options


@click.command("pull")
@click.option(
    "--store", type=click.Path(path_type=Path, file_okay=False), required=True, envvar="HEADROOM_STORE",
    show_envvar=True, help="Folder of Parquet files to bring up to date (made if missing).",
)  # fmt: skip
@click.option("--keep", type=Seconds(), help="Delete what is older than this (30d). Default: nothing.")
@prometheus_options(required=True)
def command(store: Path, keep: float | None, asked: PrometheusOptions) -> None:
    """Bring a store up to date with what Prometheus knows of a cluster: usage, owners, requests, limits.

    Only what the store lacks is asked for. A pull that was interrupted goes on where it stopped.

    \b
    Example:
      headroom pull --prometheus http://127.0.0.1:9090 --store fleet --days 7
      headroom recommend --store fleet
    """
    from headroom.pulling import pull_as_asked

    pull_as_asked(asked, store, keep)
    click.echo(f"next: headroom recommend --store {store}", err=True)
