"""``headroom peers``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import output_option, store_option


@click.command("peers")
@store_option()
@click.option("--workload", help="Only this workload.")
@output_option()
def command(store: Path, workload: str | None, output: str) -> None:
    """List who talks to whom over TCP, whatever the protocol: connections and bytes by peer.

    \b
    Example:
      headroom peers --store host.db
      headroom peers --store host.db --workload checkout -o json
    """
    from headroom.rows import show_rows
    from profiles.errors import UsageError
    from profiles.sqlite import StoreReader
    from reports import peers

    with StoreReader(store) as reader:
        seconds = sum(window.duration_seconds for _, window in reader.windows())
        found = [row for _, row in reader.peers()]
    names = {row.identity.name: row.identity.workload for row in found}
    if workload is not None and found and workload not in names and workload not in names.values():
        raise UsageError(f"{workload} has no peer in this store.", f"Those that have: {', '.join(sorted(names))}.")
    rows = peers.peer_sums(
        (row for row in found if workload in (None, row.identity.name, row.identity.workload)), seconds
    )
    if output == "table" and not rows:
        click.echo("no TCP connection was seen; headroom doctor tells what is watched", err=True)
    show_rows([row.as_record() for row in rows], peers.HEADINGS, [peers.cells(row) for row in rows], output)
