"""``headroom backtest``."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("backtest")
@click.option(
    "--traces",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PATH",
    help="A CSV or CSV.gz with a time and a value column, a profile store, or a folder of them.",
)
@click.option(
    "--resource", type=click.Choice(["cpu", "memory"]), default="cpu", show_default=True, help="What the values are."
)
@click.option("--column", metavar="NAME", help="Column of the values, where its name does not say so.")
@click.option("--time-column", metavar="NAME", help="Column of the times, likewise.")
@click.option(
    "--warmup-days",
    type=click.IntRange(1, 365),
    default=3,
    show_default=True,
    help="Days that rules may see before the first day is judged.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write a page.")
def command(
    traces: Path,
    resource: str,
    column: str | None,
    time_column: str | None,
    warmup_days: int,
    output: str,
    html: Path | None,
) -> None:
    """Judge every recommender on your own history: what it would have said, and what would have come of it.

    At every midnight each recommender sees what came before and says a request; the next day judges it.

    \b
    Example:
      headroom backtest --traces history.csv
      headroom backtest --traces traces/ --resource memory -o json
    """
    from headroom import __version__
    from headroom.output import is_terminal
    from headroom.sizing import write_report
    from recommender.backtest.run import backtest, steps
    from recommender.inputs.traces import Columns, read_workloads
    from reports import backtest as pages
    from reports import machine

    workloads = read_workloads(traces, resource, Columns(time_column, column))
    with click.progressbar(range(steps(resource)), label="backtest", file=sys.stderr) as bar:
        result = backtest(workloads, resource, warmup_days, lambda: bar.update(1))
    if html is not None:
        write_report(pages.to_html(result, __version__), html)
    document = machine.to_json(pages.as_document(result))
    click.echo(document if output == "json" else pages.to_table(result, terminal=is_terminal()), nl=False)
