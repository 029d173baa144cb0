"""Recommendations as text for machines: JSON, YAML, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_json(document: Any) -> str:
    """Stable text: same document, same bytes."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def to_yaml(document: Any) -> str:
    """The same as YAML."""
    return yaml.safe_dump(json.loads(json.dumps(document, allow_nan=False)), sort_keys=False, allow_unicode=True)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per row, nested values under dotted names; lists are left to JSON.

    Text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    flat = [{name: _no_formula(value) for name, value in _flat(row)} for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")  # a row may end there, and the next cell begin
    return f"'{text}" if value.startswith(_FORMULA) else text


def _flat(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            pairs.extend(_flat(value, f"{prefix}{name}."))
        elif not isinstance(value, list):
            pairs.append((prefix + name, value))
    return pairs
