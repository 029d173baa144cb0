"""A strategic-merge patch per workload, the patch that undoes it, and the exact command.

A patch names one container and the numbers that change, nothing else, so sidecars stay as
they are. The rollback sets what was there before; null removes what was not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from recommender.recommendation import Recommendation, Verdict
from recommender.resources import Resources, format_resource, parse_quantity
from reports.manifest import Target

_PLACES = {
    "cpu_request_cores": ("requests", "cpu"),
    "cpu_limit_cores": ("limits", "cpu"),
    "memory_request_bytes": ("requests", "memory"),
    "memory_limit_bytes": ("limits", "memory"),
}
_OURS = "# headroom: "


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch and its rollback as text, with the file names they go under."""

    name: str
    patch: str
    rollback: str
    command: str
    rollback_command: str


def target_of(row: Recommendation, manifests: Sequence[Target], kind: str, namespace: str) -> Target | str:
    """Where the recommendation goes: the manifest's container, or a workload of the same name.

    A sentence when manifests were given and it is not clear which container is meant.
    """
    of = row.container
    if not manifests:
        return Target(kind, namespace, object_name(of.workload), object_name(of.container))
    own = [each for each in manifests if each.name == of.workload]
    named = [each for each in own if each.container == of.container]
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


def make_patch(row: Recommendation, target: Target, name: str) -> Patch | None:
    """The patch of one recommendation under a file name, or None when there is nothing to change."""
    if row.verdict is not Verdict.RESIZE:
        return None
    wanted, before = _changes(row, target)
    if not wanted:
        return None
    what = f"{target.kind.lower()} {target.name} --namespace {target.namespace}"
    where = f"kubectl patch {what} --type strategic --patch-file"
    command, undo = f"{where} {name}.yaml", f"{where} rollback/{name}.yaml"
    why = [f"{place}: {row.reasons[place]}" for place in wanted]
    if target.current is not None:
        restores = "restores what the manifest given says"
    else:
        restores = "restores what the cgroup showed; a memory request does not show there. Give --manifest to be sure"
    about = f"{row.container.name} ({row.classification.name.value})"
    return Patch(
        name,
        _document([about, *why, f"apply: {command}", f"rollback: {undo}"], target, wanted),
        _document([f"undoes the patch of {row.container.name}; {restores}", f"apply: {undo}"], target, before),
        command,
        undo,
    )


def is_ours(path: Path) -> bool:
    """Whether a file was written by :func:`make_patch`."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().startswith(_OURS)


def with_current(row: Recommendation, target: Target) -> Recommendation:
    """The recommendation with the manifest's resources as the current ones."""
    if target.current is None:
        return row
    values = {
        name: parse_quantity(text) if (text := target.current.get(group, {}).get(key)) is not None else None
        for name, (group, key) in _PLACES.items()
    }
    return replace(row, current=Resources(**values))


def _changes(row: Recommendation, target: Target) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Quantities to set by resource name, and what they were; only what differs."""
    wanted: dict[str, str | None] = {}
    before: dict[str, str | None] = {}
    for name, (group, key) in _PLACES.items():
        after = format_resource(name, getattr(row.target, name))
        if after is None and name not in row.unset:
            continue
        if target.current is not None:
            was = target.current.get(group, {}).get(key)
        else:
            was = format_resource(name, getattr(row.current, name))
        if was is not None and after is not None and parse_quantity(was) == parse_quantity(after):
            continue
        wanted[name], before[name] = after, was
    return wanted, before


def _document(comments: Sequence[str], target: Target, values: Mapping[str, str | None]) -> str:
    resources: dict[str, dict[str, str | None]] = {}
    for name, value in values.items():
        group, key = _PLACES[name]
        resources.setdefault(group, {})[key] = value
    container = {"name": target.container, "resources": resources}
    content = {"spec": {"template": {"spec": {"containers": [container]}}}}
    first, *others = (" ".join(line.split()) for line in comments)
    head = f"{_OURS}{first}\n" + "".join(f"# {line}\n" for line in others)
    return head + yaml.safe_dump(content, sort_keys=False)


def object_name(name: str) -> str:
    """A name as Kubernetes allows it (RFC 1123): nginx@1 -> nginx-1."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63] or "workload"
