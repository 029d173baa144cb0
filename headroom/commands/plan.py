"""``headroom plan``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import Traffic, output_option, policy_option, prices_option, store_option


@click.command("plan")
@store_option()
@policy_option()
@prices_option()
@click.option("--cluster", metavar="NAME", help="Which, where the store has several.")
@click.option("--weeks", type=click.IntRange(1, 12), default=12, show_default=True, help="How far ahead.")
@click.option("--certainty", type=click.FloatRange(50, 99), default=90, show_default=True, help="In percent.")
@click.option(
    "--headroom", "free", type=click.FloatRange(0, 90), default=10, show_default=True, help="Kept free, in %."
)
@click.option("--zones", type=click.IntRange(1, 20), help="Spread over so many.  [default: those of the nodes]")
@click.option(
    "--traffic",
    "scenarios",
    type=Traffic(),
    multiple=True,
    metavar="FACTOR[@DATE]",
    help="What if: 1.5@2027-03-01; may be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the page there as well (HTML).")
@output_option()
def command(
    store: Path,
    policy_name: str,
    prices: Path | None,
    cluster: str | None,
    weeks: int,
    certainty: float,
    free: float,
    zones: int | None,
    scenarios: tuple[tuple[float, float | None], ...],
    out: Path | None,
    output: str,
) -> None:
    """Review capacity: nodes needed now and later, when the present ones run out, what a lost zone means.

    \b
    Example:
      headroom plan --store fleet --prices prices.yaml --out plan.html
      headroom plan --store fleet --traffic 1.5@2027-03-01 -o csv
    """
    from headroom.output import is_terminal, progress, uses_color
    from headroom.planning import question_of, review_of
    from headroom.sizing import write_report
    from reports import machine, plan, table

    with progress("planning"):
        document = review_of(
            store, policy_name, prices, cluster, lambda end: question_of(weeks, certainty, free, zones, scenarios, end)
        )
    if out is not None:
        write_report(plan.to_html(document), out)
    if output == "table":
        cells = [plan.cells(case, document["currency"]) for case in document["cases"]]
        click.echo(table.rows_as_table(plan.HEADINGS, cells, terminal=is_terminal(), color=uses_color()), nl=False)
        click.echo("".join(f"\n{each}" for each in plan.sentences(document)))
    elif output == "csv":
        click.echo(machine.to_csv(plan.rows(document)), nl=False)
    else:
        click.echo(machine.to_json(document) if output == "json" else machine.to_yaml(document), nl=False)
    if out is not None:
        click.echo(str(out), err=True)
