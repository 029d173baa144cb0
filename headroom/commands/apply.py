"""``headroom apply``."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headroom.options import Seconds, policy_option, store_option

if TYPE_CHECKING:
    from headroom.patching import Patches, Workload
    from recommender.inputs.prometheus import Prometheus
    from recommender.inputs.served import Usual
    from recommender.inputs.workloads import Workloads
    from recommender.recommendation import Recommendation

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
    if len(chosen) > 1 and not dry_run:
        names = ", ".join("/".join(each[1:]) for each in chosen)
        raise UsageError(f"{name} are several workloads: {names}.", "Name one of them whole, as deployment/shop/web.")
    if len({target[0] for target in chosen}) > 1:
        raise UsageError("This store is of several clusters.", "Pull one of them into a store of its own.")
    workloads = Workloads(Access(kubeconfig, context))
    try:
        refused = sum(_tried(workloads, patches, each) for each in chosen)
        if dry_run or refused:
            return 1 if refused else 0
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError("Nobody is there to say yes.", "Give --yes.")
            click.confirm("Apply it?", abort=True, err=True)
        judge = _judge(prometheus, bearer_token_file, headers, chosen[0], rows[0])
        steps = applying.steps_of(patches, chosen[0])
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job that is cancelled undoes as well
        why = applying.apply(workloads, steps, applying.Watch(timeout, watch), judge, _tell)
    finally:
        workloads.close()
    served = f"latency and errors as usual in {judge.windows} windows" if judge.windows else "latency was not judged"
    click.echo(f"{'/'.join(chosen[0][2:])}: {f'undone: {why}' if why else f'applied; its pods are well; {served}'}")
    return 1 if why else 0


def _is_called(row: Recommendation, name: str) -> bool:
    of = row.container
    whole = f"{of.kind}/{of.namespace}/{of.workload}"
    return name in (of.workload, f"{of.namespace}/{of.workload}") or name.lower() == whole.lower()


def _tried(workloads: Workloads, patches: Patches, workload: Workload) -> bool:
    """Say what the server would make of it; whether it, or we, refuse."""
    from headroom import applying
    from recommender.inputs.workloads import RefusedByCluster

    _, kind, namespace, name = workload
    click.echo(f"{kind} {namespace}/{name}")
    try:
        changed = applying.changed_since(workloads, patches.changes[workload])
        if changed:
            click.echo(f"  refused: {changed}")
            return True
        for patch in applying.steps_of(patches, workload):
            for line in applying.dry_run(workloads, patch):
                click.echo(f"  {line}")
    except RefusedByCluster as error:
        click.echo(f"  refused: {error.sentence} {error.next_step}")
        return True
    return False


def _judge(
    url: str | None, token: Path | None, headers: tuple[str, ...], workload: Workload, row: Recommendation
) -> _Judge:
    """Whether what is served stays within the policy's budget."""
    if url is None:
        click.echo("note: without --prometheus latency and errors are not watched", err=True)
        return _Judge(None, None, workload, row)
    from headroom.connection import header
    from recommender.inputs.prometheus import Connection, Prometheus
    from recommender.inputs.served import usual

    prometheus = Prometheus(Connection(url, dict(map(header, headers)), token))
    before = usual(prometheus, workload[2], workload[3], time.time(), row.policy.latency.quantile)
    if before is None:
        click.echo("note: Prometheus knows of too few requests before: latency and errors are not watched", err=True)
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

    def __call__(self) -> str | None:
        """Two windows in a row: one alone may be chance."""
        now, budget = time.time(), self.row.policy.latency
        if self.prometheus is None or self.before is None or now < self.due:
            return None
        begins, self.due = not self.due, now + self.before.window_seconds
        if begins:  # the first window begins now
            return None
        from profiles.errors import HeadroomError
        from recommender.inputs.served import served

        try:
            length = self.before.window_seconds
            found = served(self.prometheus, self.workload[2], self.workload[3], now, length, budget.quantile)
        except HeadroomError as error:  # that it cannot be asked is no harm done
            click.echo(f"note: {error.sentence}", err=True)
            return None
        self.windows += bool(found.requests[-1] > 0)
        last, self.first = self.first, self.before.broken_by(found, budget.limit_adds_percent)
        return self.first if last else None


def _tell(line: str) -> None:
    click.echo(line, err=True)
