"""A patch per workload, the patch that undoes it, and the exact command.

A patch names the containers and numbers that change, nothing else, so sidecars stay as they are, and
a workload is rolled out once. The rollback sets what was there before; null removes what was not.
Kinds that the API server does not know by itself take no strategic merge: a JSON patch that tests
what it replaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from profiles.schema import HOST_NAMESPACE
from recommender.inventory import TEMPLATES, Declared, Quantity
from recommender.recommendation import Recommendation, Verdict
from recommender.resources import PLACES, Resources, format_resource, parse_quantity
from reports import json_patch, yaml_text
from reports.manifest import Target

#: How every file begins that may be replaced by the next run.
OURS = "# headroom: "
_BATCH = ("CronJob", "Job")
#: Kinds that `kubectl patch --type strategic` knows how to merge.
STRATEGIC = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "CronJob")
#: The containers of a workload's own template in their order, by the list they stand in.
Lists = Mapping[str, Sequence[str]]
_IMMUTABLE = {
    "Job": "the template of a Job cannot be changed: change what makes it",
    "Pod": "a pod of nobody is not patched: make it anew with other requests",
}


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch and its rollback as text, with the file names they go under.

    :ivar target: cluster, kind, namespace and name of what it is for
    """

    name: str
    suffix: str
    patch: str
    rollback: str
    command: str
    rollback_command: str
    target: tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """What changes of one container: quantities to set by resource name, and what they were; null is "not set"."""

    row: Recommendation
    target: Target
    wanted: Mapping[str, str | None]
    before: Mapping[str, Quantity | None]

    @property
    def workload(self) -> tuple[str, str, str, str]:
        """Cluster, kind, namespace and name."""
        return self.row.container.cluster, self.target.kind, self.target.namespace, self.target.name


def target_of(row: Recommendation, manifests: Sequence[Target], kind: str, namespace: str) -> Target | str:
    """Where the recommendation goes: the manifest's container, what the cluster declares, or a workload of that name.

    A sentence when manifests were given and it is not clear which container is meant, or it cannot be patched.
    """
    of = row.container
    if not manifests:
        return _without_manifest(row, kind, namespace)
    own = [each for each in manifests if each.name == of.workload]
    named = [each for each in own if each.container == of.container]
    if len(named) > 1 and row.declared is not None:
        named = [each for each in named if (each.kind, each.namespace) == (of.kind, of.namespace)] or named
    if len(named) == 1:
        return named[0]
    if named:
        places = ", ".join(f"{each.kind} in {each.namespace}" for each in named)
        return f"more than one manifest has it ({places}): give one"
    if own:
        return (
            f"{own[0].kind} {of.workload} has no container {of.container}, only {', '.join(e.container for e in own)}"
        )
    return "no manifest that was given has it"


def _without_manifest(row: Recommendation, kind: str, namespace: str) -> Target | str:
    of = row.container
    if row.declared is not None:
        return declared_target(row.declared)
    if of.namespace != HOST_NAMESPACE:
        return "nothing that is declared has it: it was injected, or its workload may not be read"
    return Target(kind, namespace, object_name(of.workload), object_name(of.container))


def change_of(row: Recommendation, target: Target) -> Change | None:
    """What changes of the target's container, or None when nothing does."""
    if row.verdict is not Verdict.RESIZE:
        return None
    stays = [name for name in PLACES if getattr(row.target, name) == getattr(row.current, name)]
    is_declared = target.current is not None and row.declared is not None
    row = _with_current(row, target)
    wanted: dict[str, str | None] = {}
    before: dict[str, Quantity | None] = {}
    for name, (group, key) in PLACES.items():
        after = format_resource(name, getattr(row.target, name))
        if (after is None and name not in row.unset) or (is_declared and name in stays):
            continue  # what stays is not written anew, not even rounded
        was: Quantity | None
        if target.current is not None:
            was = target.current.get(group, {}).get(key)
        else:
            was = format_resource(name, getattr(row.current, name))
        if was is None or after is None:
            same = was == after and target.current is not None  # a cgroup does not show all that a manifest says
        else:
            same = parse_quantity(was) == parse_quantity(after)
        if same:
            continue
        wanted[name], before[name] = after, was
    return Change(row, target, wanted, before) if wanted else None


def make_patch(changes: Sequence[Change], name: str, lists: Lists) -> Patch | str:
    """The patch of one workload's containers under a file name; a sentence where it cannot be made.

    :param lists: the workload's own containers, where they are known
    """
    target = changes[0].target
    changes = sorted(changes, key=lambda each: each.target.position or 0)  # a merge takes the order of the patch
    if target.kind in _IMMUTABLE:
        return _IMMUTABLE[target.kind]
    if target.kind in STRATEGIC:
        return _strategic(changes, name, lists)
    if any(each.target.position is None or not each.target.api_version for each in changes):
        return f"a {target.kind} takes no strategic merge; the API server's own list is needed for a JSON patch"
    return _by_position(changes, name)


def resize_document(changes: Sequence[Change]) -> str:
    """The patch of a running pod's subresource ``resize``; nothing is taken away."""
    ordered = sorted(changes, key=lambda each: each.target.position or 0)
    sized = [(each.target, {name: text for name, text in each.wanted.items() if text is not None}) for each in ordered]
    return yaml_text.dump({"spec": _containers([each for each in sized if each[1]])})


def is_ours(path: Path) -> bool:
    """Whether a file was written by :func:`make_patch`."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().startswith(OURS)


def object_name(name: str) -> str:
    """A name as Kubernetes allows it (RFC 1123): nginx@1 -> nginx-1."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63] or "workload"


def declared_target(declared: Declared) -> Target:
    """Where a container is declared."""
    of = declared.container
    current = {"requests": declared.requests, "limits": declared.limits}
    return Target(
        of.kind,
        of.namespace,
        of.workload,
        of.container,
        current,
        declared.role,
        declared.api_version,
        declared.position,
        declared.has_resources,
        declared.groups,
    )


def _with_current(row: Recommendation, target: Target) -> Recommendation:
    """The recommendation with the manifest's resources as the current ones."""
    if target.current is None:
        return row
    values = {}
    for name, (group, key) in PLACES.items():
        text = target.current.get(group, {}).get(key, target.current.get("limits", {}).get(key))
        values[name] = None if text is None else parse_quantity(text)  # a limit alone is the request, too
    return replace(row, current=Resources(**values))


def _strategic(changes: Sequence[Change], name: str, lists: Lists) -> Patch:
    target = changes[0].target
    command, undo = _commands(target, name, "strategic", "yaml")
    wanted, before = (
        _object(target, [(each.target, getattr(each, which)) for each in changes], lists)
        for which in ("wanted", "before")
    )
    if all(each.target.current is not None for each in changes):
        restores = "restores what was declared"
    else:
        restores = "restores what the cgroup showed; a memory request does not show there. Give --manifest to be sure"
    about = ", ".join(f"{each.row.container.name} ({each.row.classification.name.value})" for each in changes)
    names = ", ".join(each.row.container.name for each in changes)
    return Patch(
        name,
        "yaml",
        _document([about, *_reasons(changes), f"apply: {command}", f"rollback: {undo}"], wanted),
        _document([f"undoes the patch of {names}; {restores}", f"apply: {undo}"], before),
        command,
        undo,
        changes[0].workload,
    )


def _by_position(changes: Sequence[Change], name: str) -> Patch:
    target = changes[0].target
    command, undo = _commands(target, name, "json", "json")
    forth, back = [], []
    for each in changes:
        template = "/".join(TEMPLATES.get(target.kind, ("template",)))
        place = f"/spec/{template}/spec/{each.target.group}/{each.target.position}"
        wanted = {PLACES[of]: text for of, text in each.wanted.items()}
        current, there = each.target.current or {}, each.target.has_resources
        absent = () if each.target.groups is None else {"requests", "limits"}.difference(each.target.groups)
        forth += json_patch.operations(
            place, each.target.container, current, wanted, has_resources=there, absent=absent
        )
        back += json_patch.undo(place, each.target.container, current, wanted, has_resources=there)
    return Patch(name, "json", json_patch.text(forth), json_patch.text(back), command, undo, changes[0].workload)


def _commands(target: Target, name: str, kind: str, suffix: str) -> tuple[str, str]:
    what = f"{quote(target.resource)} {quote(target.name)} --namespace {quote(target.namespace)}"
    where = f"kubectl patch {what} --type {kind} --patch-file"
    return f"{where} {name}.{suffix}", f"{where} rollback/{name}.{suffix}"


def _reasons(changes: Sequence[Change]) -> list[str]:
    several = len(changes) > 1
    return [
        f"{f'{each.target.container}: ' if several else ''}{place}: {each.row.reasons[place]}"
        for each in changes
        for place in each.wanted
    ]


def _document(comments: Sequence[str], content: Mapping[str, Any]) -> str:
    first, *others = (
        " ".join("".join(each if each.isprintable() else " " for each in line).split()) for line in comments
    )
    head = f"{OURS}{first}\n" + "".join(f"# {line}\n" for line in others)
    return head + yaml_text.dump(content)


def _object(
    target: Target, values: Sequence[tuple[Target, Mapping[str, Quantity | None]]], lists: Lists
) -> dict[str, Any]:
    """With its kind and name, so that kustomize finds what it is for."""
    content: dict[str, Any] = {
        "spec": {group: _in_order(own, lists.get(group, ())) for group, own in _containers(values).items()}
    }
    for step in reversed(TEMPLATES[target.kind]):
        content = {step: content}
    version = target.api_version or ("batch/v1" if target.kind in _BATCH else "apps/v1")
    version = "v1" if target.kind == "ReplicationController" else version
    metadata = {"name": target.name} | ({} if target.current is None else {"namespace": target.namespace})
    return {"apiVersion": version, "kind": target.kind, "metadata": metadata, "spec": content}


def _in_order(changed: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """With the names of those beside them where they would else move: kustomize puts what is patched first."""
    by_name = {each["name"]: each for each in changed}
    if list(by_name) == list(names[: len(by_name)]) or not by_name.keys() <= set(names):
        return changed
    return [by_name.get(name, {"name": name}) for name in names]


def _containers(values: Sequence[tuple[Target, Mapping[str, Quantity | None]]]) -> dict[str, Any]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for target, quantities in values:
        resources: dict[str, dict[str, Quantity | None]] = {}
        for name, text in quantities.items():
            group, key = PLACES[name]
            resources.setdefault(group, {})[key] = text
        groups.setdefault(target.group, []).append({"name": target.container, "resources": resources})
    return groups
