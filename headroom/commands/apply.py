"""``headroom apply``."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headroom.options import Seconds, policy_option, store_option

if TYPE_CHECKING:
    from headroom.patching import Patches
    from recommender.inputs.prometheus import Prometheus
    from recommender.inputs.served import Usual
    from recommender.inputs.workloads import Workloads
    from recommender.quality import Workload
    from recommender.recommendation import Recommendation

_SETTLE_SECONDS, _SLACK_SECONDS = 60.0, 20.0
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


class _SecondsOrNone(Seconds):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        return 0.0 if value == "0" else super().convert(value, param, ctx)


@click.command("apply", short_help="Try a patch on a cluster, or apply it, watch it, and undo it when it does harm.")
@click.argument("name", metavar="[WORKLOAD]", required=False)
@store_option()
@policy_option()
@click.option("--kubeconfig", type=_FILE, help="Of somebody who may patch. Default: the usual one.")
@click.option("--context", metavar="NAME", help="Of the kubeconfig.")
@click.option("--dry-run", is_flag=True, help="Ask the API server what it would make of every patch; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before it is applied.")
@click.option("--timeout", type=Seconds(), default="10m", show_default=True, help="For the roll-out.")
@click.option("--watch", type=_SecondsOrNone(), default="10m", show_default=True, help="For so long after it; or 0.")
@click.option("--prometheus", metavar="URL", help="With the agents' metrics: latency and errors are watched as well.")
@click.option("--bearer-token-file", type=_FILE, help="For Prometheus.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Sent to Prometheus; may be repeated.")
@click.option("--match", "matches", multiple=True, metavar="LABEL=VALUE", help="Only such series; may be repeated.")
def command(
    name: str | None,
    store: Path,
    policy_name: str,
    kubeconfig: Path | None,
    context: str | None,
    dry_run: bool,
    yes: bool,
    timeout: float,
    watch: float,
    prometheus: str | None,
    bearer_token_file: Path | None,
    headers: tuple[str, ...],
    matches: tuple[str, ...],
) -> int:
    """Try patches on a cluster, or apply the one of a workload, watch it, and undo it when it does harm.

    A dry run goes through all of the API server's admission. Applied is one workload at a time: its roll-out is
    watched, then its pods, and with --prometheus its latency and errors. When the roll-out fails, a container is
    killed for want of memory, or latency leaves the policy's budget, what was there before is put back.

    \b
    Example:
      headroom apply --dry-run --store fleet --context prod
      headroom apply shop/web --store fleet --context prod --prometheus http://127.0.0.1:9090
    """
    from headroom import applying
    from headroom.keep import Keep
    from headroom.patching import patches_of
    from headroom.rollout import Watch, apply
    from headroom.sizing import size_store
    from profiles.errors import UsageError
    from recommender.inputs.access import Access
    from recommender.inputs.workloads import Workloads

    if name is None and not dry_run:
        raise UsageError("Which workload?", "Name one, as shop/web; --dry-run tries them all.")
    rows = [row for row in size_store(store, policy_name, keep=Keep.SIZES)[1] if name is None or _is_called(row, name)]
    if not any(row.declared for row in rows):
        what = "these workloads are" if name is None else f"{name} is"
        raise UsageError(
            f"What {what} declared as is not known.", "Look at its name, or pull the store with --context."
        )
    patches = patches_of(rows)
    chosen = list(dict.fromkeys(patch.target for patch in patches.by_container.values()))
    if not chosen:
        click.echo(f"nothing to apply: {next(iter(patches.without.values()))}")
        return 0
    of_name = {(row.container.kind, row.container.namespace, row.container.workload) for row in rows}
    if len(of_name) > 1 and not dry_run:
        names = ", ".join(map("/".join, sorted(of_name)))
        raise UsageError(f"{name} are several workloads: {names}.", "Name one of them whole, as deployment/shop/web.")
    if len({target[0] for target in chosen}) > 1:
        raise UsageError("This store is of several clusters.", "Pull one of them into a store of its own.")
    workloads = Workloads(Access(kubeconfig, context))
    try:
        _same_cluster(workloads, store, chosen[0][0])
        refused = sum(_tried(workloads, patches, each, rows) for each in chosen)
        if dry_run or refused:
            return 1 if refused else 0
        if not yes:
            _ask(workloads, patches, chosen[0])
        judge = _judge(prometheus, bearer_token_file, (headers, matches), chosen[0], rows[0])
        for number in (signal.SIGTERM, signal.SIGHUP):  # a job that is cancelled, a terminal that is gone: undo as well
            signal.signal(number, signal.default_int_handler)
        steps = applying.steps_of(patches, chosen[0])
        why = apply(workloads, steps, Watch(timeout, judge.long_enough(watch)), judge, _tell)
    finally:
        workloads.close()
    name = "/".join(chosen[0][2:])
    click.echo(f"{name}: undone: {why}" if why else f"{name}: applied; its pods are well; {judge.sentence}")
    return 1 if why else 0


def _ask(workloads: Workloads, patches: Patches, workload: Workload) -> None:
    """Go on only with a yes, and if nothing has changed meanwhile."""
    from headroom import applying
    from profiles.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError("Nobody is there to say yes.", "Give --yes.")
    click.confirm("Apply it?", abort=True, err=True)
    changed = applying.changed_since(workloads, patches.changes[workload])
    if changed:
        raise UsageError(f"{changed[0].upper()}{changed[1:]}.", "Pull the store again.")


def _same_cluster(workloads: Workloads, store: Path, cluster: str) -> None:
    """See that the kubeconfig is of the cluster that the store is of, where both can be told."""
    from profiles.errors import UsageError
    from recommender.inputs.inventory_file import read_inventories

    known = next((each.uid for each in read_inventories(store) if each.cluster == cluster), "")
    found = workloads.cluster_uid() if known else ""
    if found and found != known:
        raise UsageError(f"This is another cluster than {cluster} was when the store was pulled.", "Give --context.")


def _is_called(row: Recommendation, name: str) -> bool:
    of = row.container
    whole = f"{of.kind}/{of.namespace}/{of.workload}"
    return name in (of.workload, f"{of.namespace}/{of.workload}") or name.lower() == whole.lower()


def _tried(workloads: Workloads, patches: Patches, workload: Workload, rows: Sequence[Recommendation]) -> bool:
    """Say what the server would make of it; whether it, or we, refuse."""
    from headroom import applying
    from recommender.inputs.workloads import RefusedByCluster
    from recommender.quality import workload_of

    _, kind, namespace, name = workload
    click.echo(f"{kind} {namespace}/{name}")
    try:
        changed = applying.changed_since(workloads, patches.changes[workload])
        if changed:
            click.echo(f"  refused: {changed}")
            return True
        for row in rows:
            if workload_of(row.container) == workload:
                for note in row.notes:
                    click.echo(f"  note: {row.container.container}: {note}")
        for patch in applying.steps_of(patches, workload):
            for line in applying.dry_run(workloads, patch):
                click.echo(f"  {line}")
    except RefusedByCluster as error:
        click.echo(f"  refused: {error.sentence} {error.next_step}")
        return True
    return False


def _judge(
    url: str | None,
    token: Path | None,
    options: tuple[tuple[str, ...], tuple[str, ...]],
    workload: Workload,
    row: Recommendation,
) -> _Judge:
    """Whether what is served stays within the policy's budget."""
    if url is None:
        click.echo("note: without --prometheus latency and errors are not watched", err=True)
        return _Judge(None, None, workload, row)
    from headroom.connection import header, matcher
    from recommender.inputs.prometheus import Connection, Prometheus
    from recommender.inputs.served import usual

    headers, matches = options
    prometheus = Prometheus(Connection(url, dict(map(header, headers)), token, matchers=tuple(map(matcher, matches))))
    before = usual(prometheus, workload[2], workload[3], time.time(), row.policy.latency.quantile)
    if before is None:
        few = "Prometheus knows of too few HTTP requests before"
        click.echo(f"note: {few}: latency and errors are not watched", err=True)
    return _Judge(prometheus, before, workload, row)


@dataclass
class _Judge:
    """Asked now and then, once the roll-out is done; says why it is to be undone.

    :ivar windows: how many it has judged
    """

    prometheus: Prometheus | None
    before: Usual | None
    workload: Workload
    row: Recommendation
    windows: int = 0
    due: float = 0.0
    first: str | None = None

    def long_enough(self, watch_seconds: float) -> float:
        """So long that two windows are judged, where any is."""
        if self.before is None or not watch_seconds:
            return watch_seconds
        least = _SETTLE_SECONDS + 2 * self.before.window_seconds + _SLACK_SECONDS
        if watch_seconds < least:
            _tell(f"note: it is watched for {least:.0f} s: two windows of {self.before.window_seconds} s are judged")
        return max(watch_seconds, least)

    @property
    def sentence(self) -> str:
        """What came of it."""
        if self.first:
            return f"but in the last window {self.first}"
        return f"latency and errors as usual in {self.windows} windows" if self.windows else "latency was not judged"

    def __call__(self) -> str | None:
        """Two windows in a row: one alone may be chance."""
        now, budget = time.time(), self.row.policy.latency
        if self.prometheus is None or self.before is None or now < self.due:
            return None
        if not self.due:  # caches are cold at first; then the first window begins
            self.due = now + _SETTLE_SECONDS + self.before.window_seconds
            return None
        self.due += self.before.window_seconds
        from profiles.errors import HeadroomError
        from recommender.inputs.served import served

        try:
            length = self.before.window_seconds
            found = served(self.prometheus, self.workload[2], self.workload[3], now, length, budget.quantile)
        except HeadroomError as error:  # that it cannot be asked is no harm done
            click.echo(f"note: {error.sentence}", err=True)
            return None
        self.windows += self.before.is_judged(found)
        last, self.first = self.first, self.before.broken_by(found, budget.limit_adds_percent)
        return self.first if last else None


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # that nobody reads it must not keep anything from being undone
        click.echo(line, err=True)
