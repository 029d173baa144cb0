"""``headroom pull``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import PullOptions, Seconds, pull_options


@click.command("pull")
@click.option(
    "--store", type=click.Path(path_type=Path, file_okay=False), required=True, envvar="HEADROOM_STORE",
    show_envvar=True, help="Folder of Parquet files to bring up to date (made if missing).",
)  # fmt: skip
@click.option("--keep", type=Seconds(), help="Delete what is older than this (30d). Default: nothing.")
@pull_options()
def command(store: Path, keep: float | None, asked: PullOptions) -> None:
    """Bring a store up to date with what Prometheus and the nodes' agents know of a cluster.

    From Prometheus: usage, owners, requests, limits. From the agents (headroom push): requests, latency, and what
    limits would add to it. Only what the store lacks is asked for, and a pull that was interrupted goes on.

    \b
    Example:
      headroom pull --prometheus http://127.0.0.1:9090 --store fleet --days 7
      headroom pull --prometheus http://127.0.0.1:9090 --profiles s3://bucket/profiles --store fleet
      headroom recommend --store fleet
    """
    from headroom.pulling import pull_as_asked

    pull_as_asked(asked, store, keep)
    click.echo(f"next: headroom recommend --store {store}", err=True)
