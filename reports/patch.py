"""A strategic-merge patch per workload, the patch that undoes it, and the exact command.

A patch names one container and the numbers that change, nothing else, so sidecars stay as
they are. The rollback sets what was there before; null removes what was not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from profiles.errors import UsageError
from recommender.recommendation import RESOURCE_NAMES, Recommendation, Resources, Verdict, format_resource

_PLACES = dict(
    zip(
        RESOURCE_NAMES,
        (("requests", "cpu"), ("limits", "cpu"), ("requests", "memory"), ("limits", "memory")),
        strict=True,
    )
)
_KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30,
          "Ti": 2**40, "Pi": 2**50}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """The object in the cluster that a patch is for.

    :ivar current: resources as its manifest has them, when a manifest was given
    """

    kind: str
    namespace: str
    name: str
    container: str
    current: Mapping[str, Mapping[str, str]] | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch and its rollback as text, with the file names they go under."""

    name: str
    patch: str
    rollback: str
    command: str
    rollback_command: str


def read_manifests(paths: Sequence[Path]) -> list[Target]:
    """Every container of the workloads in YAML or JSON manifests (also ``kubectl get -o yaml``).

    :raises UsageError: when a file cannot be read as that
    """
    targets: list[Target] = []
    for path in paths:
        try:
            documents = list(yaml.safe_load_all(path.read_text()))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(
                f"{path} is not a readable manifest: {error}.", "Give the output of kubectl get -o yaml."
            ) from error
        for document in documents:
            items = document.get("items", [document]) if isinstance(document, dict) else []
            for item in items:
                if isinstance(item, dict) and item.get("kind") in _KINDS:
                    targets.extend(_targets_of(item))
    return targets


def target_of(row: Recommendation, manifests: Sequence[Target], kind: str, namespace: str) -> Target | None:
    """Where the recommendation goes: the manifest's container, or a workload of the same name.

    None when manifests were given and none of them fits.
    """
    container = row.container
    if not manifests:
        return Target(kind, namespace, _object_name(container.workload), _object_name(container.container))
    own = [each for each in manifests if each.name == container.workload]
    named = [each for each in own if each.container == container.container]
    return named[0] if named else own[0] if len(own) == 1 else None


def make_patch(row: Recommendation, target: Target) -> Patch | None:
    """The patch of one recommendation, or None when there is nothing to change."""
    if row.verdict is not Verdict.RESIZE:
        return None
    wanted, before = _changes(row, target)
    if not wanted:
        return None
    name = _object_name(row.container.workload)
    what = f"{target.kind.lower()} {target.name} --namespace {target.namespace}"
    where = f"kubectl patch {what} --type strategic --patch-file"
    command, undo = f"{where} {name}.yaml", f"{where} rollback/{name}.yaml"
    why = [f"{place}: {row.reasons[place]}" for place in wanted]
    origin = "the manifest given" if target.current is not None else "what was in force when recorded"
    return Patch(
        name,
        _document([f"headroom: {row.container.name} ({row.classification.name.value})", *why, f"apply:    {command}",
                   f"rollback: {undo}"], target, wanted),
        _document([f"headroom: undoes the patch of {row.container.name}; restores {origin}", f"apply: {undo}"],
                  target, before),
        command,
        undo,
    )  # fmt: skip


def with_current(row: Recommendation, target: Target) -> Recommendation:
    """The recommendation with the manifest's resources as the current ones."""
    if target.current is None:
        return row
    values = {
        name: parse_quantity(text) if (text := target.current.get(group, {}).get(key)) is not None else None
        for name, (group, key) in _PLACES.items()
    }
    return replace(row, current=Resources(**values))


def parse_quantity(text: str | float) -> float:
    """A Kubernetes quantity in base units.

    >>> parse_quantity("100m"), parse_quantity("64Mi"), parse_quantity("128974848000m")
    (0.1, 67108864.0, 128974848.0)
    """
    match = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", str(text).strip())
    if not match or match[2] not in _UNITS:
        raise UsageError(f"{text!r} is not a Kubernetes quantity.", "Write 250m, 0.5, 128Mi or 1G.")
    return float(match[1]) / 1000 if match[2] == "m" else float(match[1]) * _UNITS[match[2]]


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
    head = "".join(f"# {' '.join(line.split())}\n" for line in comments)
    return head + yaml.safe_dump(content, sort_keys=False)


def _targets_of(item: Mapping[str, Any]) -> list[Target]:
    metadata = item.get("metadata", {})
    containers = item.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return [
        Target(
            item["kind"],
            metadata.get("namespace", "default"),
            metadata.get("name", ""),
            each.get("name", ""),
            {
                group: {key: str(value) for key, value in (each.get("resources", {}).get(group) or {}).items()}
                for group in ("requests", "limits")
            },
        )
        for each in containers
    ]


def _object_name(name: str) -> str:
    """A workload's name as Kubernetes allows it (RFC 1123): nginx@1 -> nginx-1."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63] or "workload"
