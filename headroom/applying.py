"""What a patch would do to a cluster: what changes, what admission says, what is not as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from headroom.patching import Patches
from recommender.inputs.workloads import Workloads
from recommender.inventory import TEMPLATES
from recommender.quality import Workload
from recommender.resources import PLACES, parse_quantity
from reports.patch import Change, Patch


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
    answer = workloads.patch(patch.target, *content_of(patch.patch, patch.suffix), dry_run=True)
    lines = [
        f"{place}: {_shown(old)} -> {_shown(new)}"
        for place, old, new in _differences(settings_of(before), settings_of(answer.document))
    ]
    return [*(lines or ["nothing changes"]), *(f"warning: {each}" for each in answer.warnings)]


def changed_since(workloads: Workloads, changes: Sequence[Change]) -> str | None:
    """What is not as the recommendation knew it; None where all is."""
    if not changes:
        return None
    now = settings_of(workloads.get(changes[0].workload))
    for change in changes:
        for place, before in change.before.items():
            group, resource = PLACES[place]
            found = now.get(f"{change.target.container} {group}.{resource}")
            known = None if before is None else parse_quantity(before)
            if (None if found is None else parse_quantity(found)) != known:
                name = f"{group}.{resource} of {change.target.container}"
                return f"{name} is {_shown(found)}, and was {_shown(before)} when the store was pulled"
    return None


def content_of(text: str, suffix: str) -> tuple[str, str]:
    """A patch as the API server takes it, and its kind."""
    if suffix == "json":
        return text, "json"
    return json.dumps(yaml.safe_load(text)), "strategic"


def settings_of(document: Mapping[str, Any]) -> dict[str, str]:
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
