"""``headroom push``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import click

from headroom.options import Seconds, store_option

_LEAST_EVERY_SECONDS = 60.0
_SPREAD = 0.1  # of the interval: not all nodes at once
_LAST_WINDOW_SECONDS = 3.0  # in which an agent that is ended at the same time stores it


@click.command("push", short_help="Leave a node's profiles where a cluster's are collected.")
@store_option()
@click.option(
    "--to", "depot", metavar="DEPOT", required=True, help="A folder, s3://bucket/path, gs://..., or abfss://..."
)
@click.option(
    "--node", default=os.uname().nodename, envvar="NODE_NAME", show_envvar=True, help="Default: this machine's name."
)
@click.option("--cluster", help="How the cluster is called. Default: as its rows say.")
@click.option("--every", type=Seconds(), help="Go on, so often; a last time when it is ended. Default: once.")
@click.option("--keep", type=Seconds(), help="Delete what is older than this there, of any node. Default: nothing.")
def command(store: Path, depot: str, node: str, cluster: str | None, every: float | None, keep: float | None) -> None:
    """Roll up what a store has that the depot lacks, and leave it there.

    Rows are of a minute, as those of headroom export. headroom pull --profiles brings what all nodes left into
    one store.

    \b
    Example:
      headroom push --store node.db --to /mnt/profiles
      headroom push --store node.db --to s3://bucket/profiles --every 1h
    """
    if every is not None:
        options = {"--to": depot, "--node": node, "--cluster": cluster, "--keep": f"{keep}s" if keep else None}
        _often(every, [str(store), *(text for name, value in options.items() if value for text in (name, value))])
        return
    from headroom.pushing import push

    done = push(store, depot, node, cluster, keep)
    click.echo(f"{done.parts} parts with {done.containers} containers of {node} left in {done.depot}", err=True)


def _often(every: float, arguments: list[str]) -> None:
    """Push so often, in a process of its own each time: between two there is no library in memory.

    Ends at SIGTERM or SIGINT, after a last push.
    """
    from profiles.errors import StoreError, UsageError

    if every < _LEAST_EVERY_SECONDS:
        raise UsageError(f"--every {every:g}s is too often.", "A row is a minute; --every 1h is usual.")
    command = [sys.executable, "-m", "headroom", "push", "--store", *arguments]
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    later = zlib.crc32(" ".join(arguments).encode()) / 2**32 * _SPREAD * every
    while not stop.wait(every - (time.time() - later) % every):
        subprocess.run(command, check=False)  # what fails is said there, and is made up for by the next one
    time.sleep(_LAST_WINDOW_SECONDS)
    if subprocess.run(command, check=False).returncode:
        raise StoreError("The last push failed.", "What it would have left is in the store, and goes with the next.")
