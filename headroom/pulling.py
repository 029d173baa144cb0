"""Prometheus -> a store that is up to date: the wiring that ``pull`` and ``recommend --prometheus`` share."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from headroom.options import PrometheusOptions
from profiles.errors import HeadroomError, UsageError
from recommender.inputs.access import Access, is_in_cluster
from recommender.inputs.cadvisor import ROW_SECONDS, Source, look
from recommender.inputs.inventory_file import read_inventories, write_inventory
from recommender.inputs.kube_state import read_kube_state
from recommender.inputs.objects_file import read_objects
from recommender.inputs.prometheus import Connection, Cost, Prometheus
from recommender.inputs.prometheus_import import Part, alone, checked_cluster, import_parts, missing_parts
from recommender.inventory import Inventory, merged


@dataclass(frozen=True, slots=True)
class Pull:
    """What to bring into which store.

    :ivar until_unix_seconds: the end of the newest row at most; None for now
    :ivar samples: about how many may come in one answer
    :ivar namespaces: these alone; all when empty
    :ivar keep_seconds: parts that are wholly older are deleted; None to keep all
    :ivar objects: files that say what is declared; else `access` to the API server, else kube-state-metrics
    """

    connection: Connection
    store: Path
    seconds: float
    until_unix_seconds: float | None = None
    cluster: str = "cluster"
    samples: int = 300_000
    namespaces: tuple[str, ...] = ()
    objects: tuple[Path, ...] = ()
    access: Access | None = None
    keep_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of it."""

    cost: Cost
    seconds: float
    inventory: Inventory
    source: Source


def pull(wanted: Pull, tell: Callable[[str], None]) -> Pulled:
    """Bring the store up to date.

    :param tell: of the parts, as they come
    :raises HeadroomError: when Prometheus has no usage, or does not answer
    """
    begin = time.monotonic()
    until = wanted.until_unix_seconds if wanted.until_unix_seconds is not None else time.time()
    if wanted.until_unix_seconds is None:
        until -= ROW_SECONDS  # what is scraped late, or written late by another, is in by then
    end = int(until) // ROW_SECONDS * ROW_SECONDS
    start = end - int(wanted.seconds) // ROW_SECONDS * ROW_SECONDS
    total = Cost()
    cluster = checked_cluster(wanted.cluster)
    prometheus = Prometheus(wanted.connection, total)
    source = look(prometheus, start, end, wanted.namespaces)
    if not source.series:
        raise HeadroomError(
            f"{wanted.connection.url} has no CPU usage of containers (container_cpu_usage_seconds_total).",
            "Scrape the kubelets' /metrics/cadvisor; headroom doctor --prometheus URL says what is there.",
        )
    inventory = _inventory(wanted, prometheus, end)
    connect = partial(Prometheus, wanted.connection)
    with alone(wanted.store):
        if wanted.access is not None and wanted.access.namespace is not None:
            known = [each for each in read_inventories(wanted.store) if each.cluster == cluster]
            inventory = merged(known[0], inventory, wanted.namespaces) if known else inventory
        write_inventory(wanted.store, inventory)
        parts = missing_parts(wanted.store, cluster, source, start, end, wanted.keep_seconds)
        done = import_parts(connect, wanted.store, inventory, source, parts, wanted.samples)
        for number, (part, cost) in enumerate(done, 1):
            total += cost
            tell(_line(number, len(parts), part))
    return Pulled(total, time.monotonic() - begin, inventory, source)


def pull_as_asked(asked: PrometheusOptions, store: Path | None, keep_seconds: float | None = None) -> Path:
    """Bring the store up to date as the command line says, and say what it cost; returns where the store is."""
    connection = connection_of(asked)
    folder = store or default_store(connection)
    if os.path.isfile(folder):  # noqa: PTH113 - Path.is_file raises where nothing may be read
        raise UsageError(f"{folder} is a file; what Prometheus knows goes into a folder.", "Give --store a folder.")
    is_asked = asked.kubeconfig is not None or asked.context is not None or is_in_cluster()
    only = asked.namespaces[0] if len(asked.namespaces) == 1 else None
    wanted = Pull(
        connection,
        folder,
        asked.days * 86400.0,
        asked.until,
        asked.cluster,
        asked.samples_a_query,
        asked.namespaces,
        asked.objects,
        Access(asked.kubeconfig, asked.context, only) if is_asked else None,
        keep_seconds if store else asked.days * 86400.0,
    )
    shown = sys.stderr.isatty()
    done = pull(wanted, lambda line: click.echo(f"\r{line:<60}", nl=False, err=True) if shown else None)
    if shown:
        click.echo(f"\r{'':<60}\r", nl=False, err=True)
    for each in done.inventory.missing:
        click.echo(f"note: {each}", err=True)
    cost = done.cost
    click.echo(
        f"{len(done.source.series)} namespaces, {sum(done.source.series.values())} series every "
        f"{_seconds(done.source)} s: {cost.queries} queries, {cost.samples / 1e6:.1f} M samples, "
        f"{cost.bytes / 1e6:.0f} MB in {done.seconds:.1f} s into {folder}",
        err=True,
    )
    return folder


def connection_of(asked: PrometheusOptions) -> Connection:
    """Where, and as whom, as the command line says.

    :raises UsageError: when options contradict each other, or a file cannot be read
    """
    basic = certificate = None
    if asked.user is not None:
        if asked.password_file is None:
            raise UsageError("--user needs a --password-file.", "A password on a command line can be read by others.")
        basic = asked.user, _password(asked.password_file)
    if (asked.cert_file is None) != (asked.key_file is None):
        raise UsageError("--cert-file and --key-file go together.", "Give both.")
    if asked.cert_file is not None and asked.key_file is not None:
        certificate = asked.cert_file, asked.key_file
    return Connection(
        asked.url or "",
        dict(map(header, asked.headers)),
        asked.bearer_token_file,
        basic,
        certificate,
        asked.ca_file,
        asked.timeout,
        asked.compress,
        tuple(map(matcher, asked.matches)),
    )


def _password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"{path} cannot be read: {why}.", "Give another --password-file.") from error


def _seconds(source: Source) -> str:
    return " to ".join(
        f"{each:g}" for each in sorted({min(source.scrape_seconds.values()), max(source.scrape_seconds.values())})
    )


def default_store(connection: Connection) -> Path:
    """Where what was read of this server is kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    who = sorted(connection.headers.items()), connection.basic, str(connection.bearer_token_file)
    what = connection.url, connection.client_certificate, connection.matchers
    return cache / "headroom" / hashlib.sha256(repr((who, what)).encode()).hexdigest()[:16]


def header(text: str) -> tuple[str, str]:
    """``Name: value``.

    :raises UsageError: when it is none
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isprintable() or not text.isascii():
        raise UsageError(f"{text!r} is no header.", "Write --header 'X-Scope-OrgID: team'.")
    return name.strip(), value.strip()


def matcher(text: str) -> str:
    """``label=value``, as a selector has it.

    :raises UsageError: when it is none
    """
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[a-zA-Z_]\w*", name, re.ASCII):
        raise UsageError(f"{text!r} is no label and value.", "Write --match cluster=prod.")
    return f"{name}={json.dumps(value.strip(chr(34)), ensure_ascii=False)}"


def _line(number: int, parts: int, part: Part) -> str:
    return f"{number} of {parts}: {part.namespace}, {(part.end - part.start) / 3600:.0f} h"


def _inventory(wanted: Pull, prometheus: Prometheus, end: int) -> Inventory:
    refused = ""
    if wanted.objects:
        return read_objects(wanted.objects, wanted.cluster)
    if wanted.access is not None:
        from recommender.inputs.cluster import read_cluster  # noqa: PLC0415 - only where the API server is asked

        try:
            return read_cluster(wanted.access, wanted.cluster)
        except HeadroomError as error:
            if wanted.access.is_named:
                raise
            refused = f"{error.sentence} So kube-state-metrics says what is declared."
    told = read_kube_state(prometheus, wanted.cluster, end)
    if told is not None:
        return replace(told, missing=(*told.missing, refused)) if refused else told
    missing = "kube-state-metrics is not in this Prometheus: owners are guessed, requests and limits are not known"
    return Inventory(wanted.cluster, "none", (), {}, (missing,))
