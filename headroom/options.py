"""Options that several commands share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)

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


class Time(click.ParamType[float]):
    """A moment: 2026-11-20T10:00:00Z, or unix seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if re.fullmatch(r"[0-9]{9,11}", str(value)):
            return float(value)
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time; write 2026-11-20T10:00:00Z", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class Traffic(click.ParamType[tuple[float, float | None]]):
    """A what-if of traffic: 1.5, or 1.5@2027-03-01."""

    name = "factor[@date]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float | None]:
        if isinstance(value, tuple):
            return value
        factor, at, date = str(value).strip().removeprefix("x").partition("@")
        if (at and not date) or not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,4})?", factor) or not 0 < float(factor) <= 100:
            self.fail(f"{value!r} is no factor; write 1.5 or 1.5@2027-03-01", param, ctx)
        return float(factor), Time().convert(date, param, ctx) if date else None


def store_option(*, must_exist: bool = True, required: bool = True) -> Decorator:
    """``--store FILE``; a folder is a Parquet store (``headroom export``)."""
    text = "Profile store to read; a folder is one of Parquet files."
    if not must_exist:
        text = "Profile store to write (SQLite; made if missing)."
    return click.option(
        "--store",
        type=click.Path(path_type=Path, dir_okay=must_exist),
        required=required,
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


def prices_option() -> Decorator:
    """``--prices FILE``."""
    return click.option("--prices", type=_FILE, help="What a core, a GiB and a node cost (docs/policies.md).")


_option = functools.partial(click.option, show_default=True)


def pull_options() -> Decorator:
    """``--prometheus URL`` and how to be let in, and ``--profiles``; the function gets ``asked: PullOptions``."""
    options = [
        _option("--prometheus", "url", metavar="URL", help="Or Thanos, Mimir, VictoriaMetrics."),
        _option("--profiles", metavar="DEPOT", help="Where the nodes' headroom push leaves theirs: a folder, s3://..."),
        _option("--days", type=click.FloatRange(min=0.1, max=366), default=14, help="How far back."),
        _option("--until", type=Time(), help="The newest row, as 2026-11-20T10:00:00Z. Default: now."),
        _option("--cluster", default="cluster", help="How the cluster is called."),
        _option("--namespace", "namespaces", multiple=True, metavar="NAME", help="Only this one; may be repeated."),
        _option("--kubeconfig", type=_FILE, help="Ask the API server what is declared, not kube-state-metrics."),
        _option("--context", metavar="NAME", help="Of the kubeconfig; likewise."),
        _option("--objects", type=_FILE, multiple=True, help="Or take it from kubectl get -o json; may be repeated."),
        _option("--match", "matches", multiple=True, metavar="LABEL=VALUE", help="Only such series; may be repeated."),
        _option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Sent along; may be repeated."),
        _option("--bearer-token-file", type=_FILE, help="Read anew for every query."),
        _option("--user", metavar="NAME", help="For basic authentication, with --password-file."),
        _option("--password-file", type=_FILE, help="See --user."),
        _option("--ca-file", type=_FILE, help="Whom to trust instead of the system's authorities."),
        _option("--cert-file", type=_FILE, help="Client certificate, with --key-file."),
        _option("--key-file", type=_FILE, help="See --cert-file."),
        _option("--timeout", type=Seconds(), default="60s", help="For one query."),
        _option("--samples-a-query", type=click.IntRange(min=1000), default=300_000, help="About so many at most."),
        _option("--compress", is_flag=True, help="Ask for gzip: a slow network, at five times the server's CPU."),
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(**values: Any) -> Any:
            names = [each.name for each in fields(PullOptions)]
            return function(asked=PullOptions(**{name: values.pop(name) for name in names}), **values)

        for option in reversed(options):
            called = option(called)
        return called

    return decorate


@dataclass(frozen=True, slots=True)
class PullOptions:
    """As they were typed."""

    url: str | None
    profiles: str | None
    days: float
    until: float | None
    cluster: str
    namespaces: tuple[str, ...]
    kubeconfig: Path | None
    context: str | None
    objects: tuple[Path, ...]
    matches: tuple[str, ...]
    headers: tuple[str, ...]
    bearer_token_file: Path | None
    user: str | None
    password_file: Path | None
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None
    timeout: float
    samples_a_query: int
    compress: bool
