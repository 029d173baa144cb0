"""Changes -> patches of running pods' subresource ``resize``: new sizes without a restart.

A resize takes nothing away and leaves a pod's quality of service as it is; what would not, is left out and said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from headroom.patching import Patches, names_of
from profiles.errors import OutputError
from recommender.inventory import Inventory
from recommender.quality import Workload, quality_of, workload_of
from recommender.resources import PAIRS, Resources, parse_quantity
from reports.patch import Change, resize_document


@dataclass(frozen=True, slots=True)
class Resizes:
    """A kubectl line per pod, and what is left to the next roll-out, with the reason."""

    lines: list[str]
    left_out: list[str]


def write_resizes(patches: Patches, inventory: Inventory, folder: Path) -> Resizes:
    """A patch of the pods' sizes in place per workload, in ``resize/``.

    :raises OutputError: when the folder cannot be written
    """
    made, where = Resizes([], []), folder / "resize"
    of_here = {workload: own for workload, own in patches.changes.items() if workload[0] == inventory.cluster}
    names = names_of(of_here)
    pods: dict[Workload, list[str]] = defaultdict(list)
    for (namespace, pod), (kind, name) in sorted(inventory.owners.items()):
        pods[inventory.cluster, kind, namespace, name].append(pod)
    try:
        where.mkdir(parents=True, exist_ok=True)
        for workload, changes in of_here.items():
            can = _possible(changes, inventory, made.left_out) if pods[workload] else []
            if not can:
                continue
            path = where / f"{names[workload]}.yaml"
            path.write_text(resize_document(can), encoding="utf-8")
            end = f"--namespace {quote(workload[2])} --subresource resize --patch-file {quote(str(path))}"
            made.lines.extend(f"kubectl patch pod {quote(pod)} {end}" for pod in pods[workload])
    except OSError as error:
        raise OutputError(f"{where} cannot be written: {error.strerror}.", "Give --out another folder.") from error
    return made


def _possible(changes: Sequence[Change], inventory: Inventory, left_out: list[str]) -> list[Change]:
    """What a resize can do of the changes of one workload."""
    found: list[Change] = []
    for change in changes:
        if change.target.role == "init":  # it has ended
            continue
        wanted = _without_removals(change, left_out)
        if wanted:
            found.append(replace(change, wanted=wanted))
    if not found:
        return []
    of = found[0].row.container
    pod = workload_of(of)
    now = {each.container: each.resources for each in inventory.containers if workload_of(each.container) == pod}
    then = now | {each.row.container: _after(now.get(each.row.container, Resources()), each) for each in found}
    before, after = quality_of(list(now.values())), quality_of(list(then.values()))
    if before != after:
        name = f"{of.namespace}/{of.workload}"
        left_out.append(f"{name} is not resized in place: its pods are {before}, and would have to become {after}")
        return []
    return found


def _without_removals(change: Change, left_out: list[str]) -> dict[str, str | None]:
    """What is set; a request above a limit that was to go waits for that."""
    wanted: dict[str, str | None] = {name: text for name, text in change.wanted.items() if text is not None}
    for request, limit in PAIRS.values():
        stays = change.before.get(limit) if limit in change.wanted and change.wanted[limit] is None else None
        asked = wanted.get(request)
        if stays is not None and asked is not None and parse_quantity(asked) > parse_quantity(stays):
            del wanted[request]
            left_out.append(
                f"{change.row.container.name} keeps {change.before.get(request)} in place: a resize cannot take "
                f"its limit of {stays} away"
            )
    return wanted


def _after(now: Resources, change: Change) -> Resources:
    """What has a limit alone is given that as its request."""
    made = replace(now, **{name: parse_quantity(text) for name, text in change.wanted.items() if text is not None})
    alone = {ask: getattr(made, most) for ask, most in PAIRS.values() if getattr(made, ask) is None}
    return replace(made, **alone)
