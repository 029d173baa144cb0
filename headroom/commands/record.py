"""``headroom record``."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headroom import __version__
from headroom.options import Address, Seconds, store_option

if TYPE_CHECKING:
    from collector.api_server import ApiServer
    from collector.groups import NameOf
    from profiles.schema import Store

_SECONDS_FOR_PODS = 10.0  # before it starts without their names


@click.command("record", short_help="Record traffic, CPU and memory of this host's workloads.")
@store_option(must_exist=False)
@click.option("--duration", type=Seconds(), help="Stop after this long (60s, 10m, 2h). Default: until stopped.")
@click.option("--window", type=Seconds(), default="10s", show_default=True, help="Length of one row.")
@click.option(
    "--cgroup", "cgroups", multiple=True, metavar="PATH", help="Only this cgroup and those below it; may be repeated."
)
@click.option(
    "--route",
    "routes",
    multiple=True,
    metavar="PATTERN",
    help="How to show paths: /users/{name}; may be repeated.",
)
@click.option("--keep", type=Seconds(), default="14d", show_default=True, help="History to keep in the store.")
@click.option("--metrics", type=Address(), help="Tell Prometheus at http://ADDRESS/metrics. Default: not.")
@click.option(
    "--metrics-series", type=click.IntRange(min=1), default=20_000, show_default=True,
    help="Most series of histograms; routes past it are told as __overflow__.",
)  # fmt: skip
@click.option("--node", envvar="NODE_NAME", show_envvar=True, help="In a cluster: name pods as the API server does.")
@click.option("--cluster", default="local", show_default=True, help="How the cluster is called in the store.")
@click.option("--api-server", metavar="URL", help="With --node. Default: that of the pod that this runs in.")
@click.option("--api-token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Likewise.")
@click.option("--api-ca-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Likewise.")
def command(
    store: Path,
    duration: float | None,
    window: float,
    cgroups: tuple[str, ...],
    routes: tuple[str, ...],
    keep: float,
    metrics: tuple[str, int] | None,
    metrics_series: int,
    node: str | None,
    cluster: str,
    api_server: str | None,
    api_token_file: Path | None,
    api_ca_file: Path | None,
) -> None:
    """Record traffic, CPU and memory of this host's workloads, with eBPF, until stopped.

    No application is changed or restarted. Ctrl-C or SIGTERM ends it after a last flush.

    \b
    Example:
      headroom record --store host.db --duration 10m
      headroom record --store web.db --cgroup system.slice/nginx.service
      headroom record --store host.db --metrics 9464
      headroom record --store host.db --route '/users/{name}' --route /users/me
      headroom record --store node.db --node worker-1 --cluster prod
    """
    from collector.agent import AgentSettings, record
    from collector.api_server import ApiServer
    from collector.routes import Pattern
    from profiles.errors import UsageError

    patterns = [Pattern.parse(each) for each in routes]
    if window < 0.1:
        raise UsageError(f"A window of {window:g} s is too short.", "Use at least --window 100ms; 10s is usual.")
    logging.basicConfig(level=logging.INFO, format="headroom: %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal is gone
        signal.signal(number, lambda *_: stop.set())
    shown = sys.stderr.isatty()

    def tick(seconds: float) -> None:
        if shown:
            total = f" of {duration:.0f} s" if duration else ""
            click.echo(f"\rrecording {seconds:.0f}{total or ' s'} into {store} (Ctrl-C ends it) ", nl=False, err=True)

    settings = AgentSettings(window, duration, cgroups, keep, patterns, names_pods=node is not None)
    server = ApiServer(api_server, api_token_file, api_ca_file) if api_server else None
    try:
        with naming(node, cluster, server, window) as name_of, telling(metrics, metrics_series, window) as around:
            record(settings, store, stop, tick, around, name_of)
    finally:
        if shown:
            click.echo("", err=True)
    click.echo(f"recorded into {store}; next: headroom recommend --store {store}", err=True)


@contextmanager
def naming(node: str | None, cluster: str, server: ApiServer | None, window_seconds: float) -> Iterator[NameOf]:
    """What cgroups are called: in a cluster their pods are asked for meanwhile."""
    if node is None:
        yield lambda identity: replace(identity, cluster=cluster)
        return
    from collector.api_server import ApiServer
    from collector.pod_watch import PodWatch
    from collector.pods import LEAST_REMEMBERED_SECONDS

    remembered = max(LEAST_REMEMBERED_SECONDS, 3 * window_seconds)
    watch = PodWatch(server or ApiServer.of_this_pod(), node, cluster, remembered)
    try:
        if watch.wait(_SECONDS_FOR_PODS):
            click.echo(f"{len(watch.pods)} pods on {node}", err=True)
        yield watch.pods.name_of
    finally:
        watch.close()


@contextmanager
def telling(
    address: tuple[str, int] | None, most_series: int, window_seconds: float
) -> Iterator[Callable[[Store], Store]]:
    """Serve metrics at `address` meanwhile, of what goes into the store; nothing is loaded for it without one."""
    if address is None:
        yield lambda store: store
        return
    from collector.exporter import Exporter, ExportingStore
    from collector.metrics import Metrics

    metrics = Metrics(__version__, most_series)
    exporter = Exporter(metrics, *address, patience_seconds=60.0 + 6 * window_seconds)
    click.echo(f"metrics at http://{address[0]}:{exporter.port}/metrics", err=True)
    try:
        yield lambda store: ExportingStore(store, metrics)
    finally:
        exporter.close()
