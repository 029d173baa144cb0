"""Prometheus and the nodes' profiles -> a store that is up to date: what ``pull`` and ``recommend`` share.

Prometheus --usage--.
+--> store
depot --profiles----'
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from headroom.connection import connection_of, default_store
from headroom.options import PullOptions
from profiles.depot import Depot
from profiles.errors import HeadroomError, UsageError
from profiles.gather import Gathered, forget, gather
from profiles.parts import Part, alone, checked_name
from recommender.history import busiest_rows
from recommender.inputs.access import Access, is_in_cluster
from recommender.inputs.cadvisor import ROW_SECONDS, Source, look
from recommender.inputs.inventory_file import read_inventories, write_inventory
from recommender.inputs.kube_state import read_kube_state
from recommender.inputs.objects_file import read_objects
from recommender.inputs.prometheus import Connection, Cost, Prometheus
from recommender.inputs.prometheus_import import import_parts, missing_parts
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
    cluster = checked_name(wanted.cluster, "--cluster")
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


def pull_as_asked(asked: PullOptions, store: Path | None, keep_seconds: float | None = None) -> Path:
    """Bring the store up to date as the command line says, and say what it cost; returns where the store is.

    :raises HeadroomError: when there is nothing to pull from, it does not answer, or the store cannot be written
    """
    if asked.url is None and asked.profiles is None:
        raise UsageError("There is nothing to pull from.", "Give --prometheus URL, --profiles DEPOT, or both.")
    connection = connection_of(asked) if asked.url is not None else None
    folder = store or default_store(connection, asked.profiles)
    if os.path.isfile(folder):  # noqa: PTH113 - Path.is_file raises where nothing may be read
        raise UsageError(f"{folder} is a file; what is pulled goes into a folder.", "Give --store a folder.")
    keep_seconds = keep_seconds if store else asked.days * 86400.0
    if connection is not None:
        _pull_usage(asked, connection, folder, keep_seconds)
    if asked.profiles is not None:
        _gather_profiles(asked, asked.profiles, folder, keep_seconds)
    return folder


def pull_again(asked: PullOptions, store: Path, every_seconds: float) -> None:
    """:func:`pull_as_asked`, again and again; what fails is said, and tried the next time."""
    while True:
        time.sleep(every_seconds)
        try:
            pull_as_asked(asked, store)
        except HeadroomError as error:
            click.echo(f"not pulled: {error.sentence} {error.next_step}", err=True)


def _pull_usage(asked: PullOptions, connection: Connection, folder: Path, keep_seconds: float | None) -> None:
    wanted = Pull(
        connection,
        folder,
        asked.days * 86400.0,
        asked.until,
        asked.cluster,
        asked.samples_a_query,
        asked.namespaces,
        asked.objects,
        _access(asked),
        keep_seconds,
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


def _gather_profiles(asked: PullOptions, name: str, folder: Path, keep_seconds: float | None) -> None:
    begin, cluster = time.monotonic(), checked_name(asked.cluster, "--cluster")
    until = asked.until if asked.until is not None else time.time()
    since = until - min(asked.days * 86400.0, keep_seconds or math.inf)
    depot = Depot.at(name)
    if depot.is_folder and Path(depot.root).resolve() == folder.resolve():
        raise UsageError(f"{folder} is both depot and store.", "Give --store another folder.")
    if asked.namespaces:
        click.echo("note: profiles are of all namespaces", err=True)
    with alone(folder):
        if asked.url is None:
            inventory, refused = _declared(asked.objects, _access(asked), cluster)
            if refused:
                click.echo(f"note: {refused}", err=True)
            if inventory is not None:
                write_inventory(folder, inventory)
        came = gather(depot, folder, cluster, since, until, busiest_rows)
        if keep_seconds is not None:
            forget(folder, cluster, until - keep_seconds)
    for each in came.left_out:
        click.echo(f"note: {each}", err=True)
    if not came.nodes:
        _say_none(depot, cluster, came, alone=asked.url is None)
        return
    click.echo(
        f"profiles of {came.nodes} nodes: {came.parts} new parts in {time.monotonic() - begin:.1f} s into {folder}",
        err=True,
    )


def _say_none(depot: Depot, cluster: str, came: Gathered, *, alone: bool) -> None:
    """The depot has nothing of this cluster.

    :param alone: there is nothing else to go by
    """
    others = ", ".join(came.other_clusters)
    sentence = f"{depot.name} has no profiles of cluster {cluster}" + (f", but of {others}." if others else ".")
    step = f"Give --cluster {came.other_clusters[0]}." if others else "Let headroom push --to it run on the nodes."
    if alone:
        raise HeadroomError(sentence, step)
    click.echo(f"note: {sentence} {step}", err=True)


def _access(asked: PullOptions) -> Access | None:
    """To the API server, where it is to be asked."""
    only = asked.namespaces[0] if len(asked.namespaces) == 1 else None
    is_asked = asked.kubeconfig is not None or asked.context is not None or is_in_cluster()
    return Access(asked.kubeconfig, asked.context, only) if is_asked else None


def _seconds(source: Source) -> str:
    return " to ".join(
        f"{each:g}" for each in sorted({min(source.scrape_seconds.values()), max(source.scrape_seconds.values())})
    )


def _line(number: int, parts: int, part: Part) -> str:
    return f"{number} of {parts}: {part.of}, {(part.end - part.start) / 3600:.0f} h"


def _inventory(wanted: Pull, prometheus: Prometheus, end: int) -> Inventory:
    known, refused = _declared(wanted.objects, wanted.access, wanted.cluster)
    if known is not None:
        return known
    if refused:
        refused += " So kube-state-metrics says what is declared."
    told = read_kube_state(prometheus, wanted.cluster, end)
    if told is not None:
        return replace(told, missing=(*told.missing, refused)) if refused else told
    missing = "kube-state-metrics is not in this Prometheus: owners are guessed, requests and limits are not known"
    return Inventory(wanted.cluster, "none", (), {}, (missing,))


def _declared(objects: tuple[Path, ...], access: Access | None, cluster: str) -> tuple[Inventory | None, str]:
    """What files or the API server say is declared; or why the server, which nobody named, did not."""
    if objects:
        return read_objects(objects, cluster), ""
    if access is None:
        return None, ""
    from recommender.inputs.cluster import read_cluster  # noqa: PLC0415 - only where the API server is asked

    try:
        return read_cluster(access, cluster), ""
    except HeadroomError as error:
        if access.is_named:
            raise
        return None, error.sentence
