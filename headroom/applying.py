"""A patch on its way into a cluster: tried, applied, watched, and undone when it does harm.

current? --> dry run --> patches in order --> roll-out --> watch --> done
|                                |           |
'-- said, nothing changed        '-----------'--> rollbacks in reverse order
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

import yaml

from headroom.patching import Patches, Workload
from profiles.errors import HeadroomError
from recommender.inputs.workloads import RefusedByCluster, Workloads, progress_of
from recommender.inventory import TEMPLATES
from recommender.resources import PLACES, parse_quantity
from reports.patch import Change, Patch

_LOOK_SECONDS, _UNDO_TRIES = 2.0, 3
#: Says why what is served now is worse than the budget allows, or None.
Judge = Callable[[], str | None]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Watch:
    """How long to look.

    :ivar rollout_seconds: in which every replica is to be new and available
    :ivar after_seconds: and how long after that
    """

    rollout_seconds: float = 600.0
    after_seconds: float = 600.0


def steps_of(patches: Patches, workload: Workload) -> list[Patch]:
    """The patches of one workload in order, its autoscaler's among them."""
    scaler = patches.autoscalers.get(workload)
    own = {workload, *([scaler.patch.target] if scaler else [])}
    return [patch for patch in patches.in_order if patch.target in own]


def dry_run(workloads: Workloads, patch: Patch) -> list[str]:
    """What the API server would make of a patch: a line for each thing that changes, and its warnings.

    :raises RefusedByCluster: with its own words
    """
    before = workloads.get(patch.target)
    answer = workloads.patch(patch.target, *_content(patch.patch, patch.suffix), dry_run=True)
    lines = [
        f"{place}: {_shown(old)} -> {_shown(new)}"
        for place, old, new in _differences(_settings(before), _settings(answer.document))
    ]
    return [*(lines or ["nothing changes"]), *(f"warning: {each}" for each in answer.warnings)]


def changed_since(workloads: Workloads, changes: Sequence[Change]) -> str | None:
    """What is not as the recommendation knew it; None where all is."""
    if not changes:
        return None
    now = _settings(workloads.get(changes[0].workload))
    for change in changes:
        for place, before in change.before.items():
            group, resource = PLACES[place]
            found = now.get(f"{change.target.container} {group}.{resource}")
            known = None if before is None else parse_quantity(before)
            if (None if found is None else parse_quantity(found)) != known:
                name = f"{group}.{resource} of {change.target.container}"
                return f"{name} is {_shown(found)}, and was {_shown(before)} when the store was pulled"
    return None


def apply(workloads: Workloads, steps: Sequence[Patch], watch: Watch, judge: Judge, tell: Tell) -> str | None:
    """Apply the patches of one workload and watch it; returns why they were undone, None when they stay.

    :raises RefusedByCluster: when the server does not take one; those before it are undone
    """
    target = _main(steps).target
    old = workloads.pod_uids(target)
    begun: list[Patch] = []
    try:
        for patch in steps:
            begun.append(patch)  # first: it may be stored though no answer comes
            _apply_one(workloads, patch, begun)
            tell(f"applied {patch.name}.{patch.suffix} to {_name(patch.target)}")
        why = _rolled_out(workloads, target, old, watch, tell)
        why = why or _stays_well(workloads, target, old, watch, judge, tell)
    except (Exception, KeyboardInterrupt) as error:  # whatever happens, nothing is left half way
        if begun:
            tell(f"undoing it: {str(error) or 'interrupted'}")
            undo(workloads, begun, tell)
        raise
    if why:
        tell(f"undoing it: {why}")
        undo(workloads, begun, tell)
    return why


def _apply_one(workloads: Workloads, patch: Patch, begun: list[Patch]) -> None:
    try:
        workloads.patch(patch.target, *_content(patch.patch, patch.suffix), dry_run=False)
    except RefusedByCluster:
        begun.remove(patch)  # nothing to undo
        raise


def undo(workloads: Workloads, steps: Sequence[Patch], tell: Tell) -> None:
    """Apply the rollbacks, last first, every one that the server takes.

    :raises HeadroomError: when it does not take one, with the lines that do it by hand
    """
    left: list[tuple[Patch, HeadroomError]] = []
    for patch in reversed(steps):
        try:
            _set_back(workloads, patch)
            tell(f"set back {_name(patch.target)}")
        except HeadroomError as error:
            left.append((patch, error))
    if left:
        raise HeadroomError(
            f"{' and '.join(_name(patch.target) for patch, _ in left)} could not be set back: {left[0][1].sentence}",
            f"Do it by hand: {' && '.join(_by_hand(patch) for patch, _ in left)}",
        ) from left[0][1]


def _set_back(workloads: Workloads, patch: Patch) -> None:
    """Apply its rollback; a server that fails is asked again."""
    for attempt in range(_UNDO_TRIES):
        try:
            workloads.patch(patch.target, *_content(patch.rollback, patch.suffix), dry_run=False)
        except RefusedByCluster:
            raise
        except HeadroomError:
            if attempt == _UNDO_TRIES - 1:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return


def _by_hand(patch: Patch) -> str:
    """The line that undoes it; its file was never written, so it brings the content along."""
    command = patch.rollback_command.partition(" --patch-file ")[0]
    content = json.dumps(yaml.safe_load(patch.rollback))  # JSON is YAML, too
    return f"{command} --patch {quote(content)}"


def _rolled_out(workloads: Workloads, target: Workload, old: Collection[str], watch: Watch, tell: Tell) -> str | None:
    """Wait until every replica is new; why they will not be."""
    last = ""
    for _ in _looks(watch.rollout_seconds):
        document = workloads.get(target)
        progress = progress_of(document)
        if progress.told and progress.told != last:
            tell(progress.told)
            last = progress.told
        trouble = progress.failed or ("" if progress.done else workloads.health(target, document, old).trouble)
        if trouble:
            return f"the roll-out fails: {trouble}"
        if progress.done:
            return None
    return f"the roll-out did not end within {watch.rollout_seconds:.0f} s"


def _stays_well(
    workloads: Workloads, target: Workload, old: Collection[str], watch: Watch, judge: Judge, tell: Tell
) -> str | None:
    """Look at pods and latency for a while; why it is not well."""
    if watch.after_seconds:
        tell(f"rolled out; watching for {watch.after_seconds:.0f} s")
    for _ in _looks(watch.after_seconds):
        now = workloads.health(target, workloads.get(target), old)
        if now.trouble:
            return now.trouble
        if now.killed:
            return "the kernel killed a container of it for want of memory"
        why = judge()
        if why:
            return why
    return None


def _looks(seconds: float) -> Iterator[None]:
    """Now and then, for so long, and once at the end."""
    end = time.monotonic() + seconds
    while True:
        yield
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(_LOOK_SECONDS, left))


def _main(steps: Sequence[Patch]) -> Patch:
    return next(patch for patch in steps if patch.target[1] != "HorizontalPodAutoscaler")


def _content(text: str, suffix: str) -> tuple[str, str]:
    """A patch as the API server takes it, and its kind."""
    if suffix == "json":
        return text, "json"
    return json.dumps(yaml.safe_load(text)), "strategic"


def _settings(document: Mapping[str, Any]) -> dict[str, str]:
    """Sizes of every container, and an autoscaler's targets, by what they are called."""
    spec = document.get("spec") or {}
    if document.get("kind") == "HorizontalPodAutoscaler":
        sources = [each.get("resource") or each.get("containerResource") or {} for each in spec.get("metrics") or ()]
        return {_metric(each): _aim(each["target"]) for each in sources if each}
    for step in TEMPLATES.get(str(document.get("kind")), ("template",)):
        spec = spec.get(step) or {}
    spec = spec.get("spec") or {}
    return {
        f"{container['name']} {group}.{resource}": str(value)
        for groups in ("initContainers", "containers")
        for container in spec.get(groups) or ()
        for group in ("requests", "limits")
        for resource, value in ((container.get("resources") or {}).get(group) or {}).items()
    }


def _metric(source: Mapping[str, Any]) -> str:
    of = f" of {source['container']}" if "container" in source else ""
    return f"target of {source.get('name')}{of}"


def _aim(target: Mapping[str, Any]) -> str:
    share = target.get("averageUtilization")
    return f"{share}%" if share is not None else str(target.get("averageValue", target.get("value")))


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[tuple[str, str | None, str | None]]:
    for place in dict.fromkeys([*before, *after]):
        old, new = before.get(place), after.get(place)
        if old == new:
            continue
        if old is None or new is None or old.endswith("%") or parse_quantity(old) != parse_quantity(new):
            yield place, old, new


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _name(target: Workload) -> str:
    return f"{target[1]} {target[2]}/{target[3]}"
