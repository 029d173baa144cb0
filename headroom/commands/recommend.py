"""``headroom recommend``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import PullOptions, output_option, policy_option, pull_options, store_option


@click.command("recommend")
@store_option(required=False)
@pull_options()
@policy_option()
@output_option()
def command(store: Path | None, asked: PullOptions, policy_name: str, output: str) -> None:
    """Recommend CPU and memory for each workload: current -> target, and what the limit adds.

    Every workload of the store appears once, with a size or with the reason why not. With --prometheus or
    --profiles the store is first brought up to date (headroom pull); without --store it is in your cache folder.

    \b
    Example:
      headroom recommend --store host.db
      headroom recommend --store host.db --policy safe -o json
      headroom recommend --prometheus http://127.0.0.1:9090 --days 7
    """
    from headroom.keep import Keep
    from headroom.output import is_terminal, progress, uses_color
    from headroom.sizing import size_store
    from profiles.errors import UsageError
    from reports import document, machine, table
    from reports.record import as_record

    if asked.url is not None or asked.profiles is not None:
        from headroom.pulling import pull_as_asked

        store = pull_as_asked(asked, store)
    if store is None:
        raise UsageError("There is nothing to size.", "Give --store, --prometheus URL or --profiles DEPOT.")
    with progress("sizing"):
        recording, rows = size_store(store, policy_name, keep=Keep.SIZES if output == "table" else Keep.FIGURES)
    if output == "table":
        text = table.recommendations(rows, terminal=is_terminal(), color=uses_color())
    elif output == "csv":
        text = machine.to_csv([as_record(row) for row in rows])
    else:
        content = document.as_document(recording, rows)
        text = machine.to_json(content) if output == "json" else machine.to_yaml(content)
    click.echo(text, nl=False)
