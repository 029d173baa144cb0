"""Rows to stdout, in whichever form was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from headroom.output import is_terminal, uses_color
from reports import machine, table


def show_rows(
    records: Sequence[dict[str, Any]], headings: Sequence[str], cells: Sequence[Sequence[str]], form: str
) -> None:
    """As a table of `cells` under `headings`, or the records' plain data as JSON, YAML or CSV."""
    if form == "table":
        text = table.rows_as_table(headings, cells, terminal=is_terminal(), color=uses_color())
    else:
        text = {"json": machine.to_json, "yaml": machine.to_yaml, "csv": machine.to_csv}[form](records)
    click.echo(text, nl=False)
