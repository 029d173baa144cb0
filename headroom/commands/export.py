"""``headroom export``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import Seconds, store_option


@click.command("export")
@store_option()
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the Parquet store."
)
@click.option("--every", type=Seconds(), default="60s", show_default=True, help="Length of one row; whole seconds.")
@click.option(
    "--name", metavar="NAME", help="Of the files; an export of the same name is replaced. Default: the store's."
)
def command(store: Path, out: Path, every: float, name: str | None) -> None:
    """Roll a store up to minutes, into a folder of Parquet files.

    Stores of many hosts go side by side into one folder; every command reads it as --store.

    \b
    Example:
      headroom export --store host.db --out fleet
      headroom recommend --store fleet
    """
    import re

    from headroom.output import progress
    from profiles.errors import UsageError
    from profiles.parquet import ParquetWriter
    from profiles.rollup import export_store
    from profiles.sqlite import StoreReader
    from recommender.history import busiest_rows

    if every != int(every):
        raise UsageError(f"--every {every:g}s is not whole seconds.", "Rows of a Parquet store begin at whole seconds.")
    named = store.stem if name is None else name
    if not re.fullmatch(r"\w[\w.-]*", named):
        raise UsageError(f"{named!r} cannot begin the name of a file.", "Give --name with letters, digits, . _ or -.")
    with progress("rolling up"), StoreReader(store) as reader, ParquetWriter(out, named) as writer:
        containers, rows = export_store(reader, writer, int(every), busiest_rows)
    click.echo(f"{containers} containers, {rows} rows of {every:g} s in {out}", err=True)
