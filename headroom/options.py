"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Seconds(click.ParamType[float]):
    """A duration: 90, 90s, 10m, 2h, 14d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)", str(value).strip())
        if not match or float(match[1]) <= 0:
            self.fail(f"{value!r} is not a duration; write 90s, 10m or 2h", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


class Address(click.ParamType[tuple[str, int]]):
    """Where to listen: 9464 (on loopback), 127.0.0.1:9464, [::1]:9464."""

    name = "[host:]port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).strip().rpartition(":")
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
            self.fail(f"{value!r} is no address; write 9464 or 127.0.0.1:9464", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


def store_option(*, must_exist: bool = True) -> Decorator:
    """``--store FILE``; a folder is a Parquet store (``headroom export``)."""
    text = "Profile store to read; a folder is one of Parquet files."
    if not must_exist:
        text = "Profile store to write (SQLite; made if missing)."
    return click.option(
        "--store",
        type=click.Path(path_type=Path, dir_okay=must_exist),
        required=True,
        envvar="HEADROOM_STORE",
        show_envvar=True,
        help=text,
    )


def output_option(default: str = "table") -> Decorator:
    """``-o table|json|yaml|csv``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml", "csv"]),
        default=default,
        show_default=True,
        help="Format of the data on stdout.",
    )


def policy_option() -> Decorator:
    """``--policy NAME|FILE``."""
    return click.option(
        "--policy",
        "policy_name",
        default="balanced",
        show_default=True,
        metavar="NAME|FILE",
        help="balanced, lean, safe, or a YAML file of policies.",
    )
