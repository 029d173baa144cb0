"""Recommendations -> files to apply: patches, their rollbacks, autoscalers' targets, a kustomization."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from profiles.errors import OutputError
from recommender.autoscaler import Retarget, retargets
from recommender.inventory import Inventory
from recommender.recommendation import Recommendation
from reports import json_patch
from reports.manifest import read_manifests
from reports.patch import OURS, Change, Patch, change_of, is_ours, make_patch, object_name, resize_document, target_of

_KUSTOMIZATION = "kustomization.yaml"


@dataclass(frozen=True, slots=True)
class ScalerPatch:
    """Another target for an autoscaler, and whether it is applied before its workload's patch."""

    patch: Patch
    goes_first: bool


@dataclass(frozen=True, slots=True)
class Patches:
    """What there is to apply.

    :ivar by_container: by name of the container; containers of one workload share theirs
    :ivar without: why there is none, by name of the container
    :ivar autoscalers: patches of autoscalers, by the workload whose requests they go with
    :ivar changes: what changes, by workload
    """

    by_container: dict[str, Patch]
    without: dict[str, str]
    autoscalers: dict[tuple[str, str, str], ScalerPatch]
    changes: dict[tuple[str, str, str], list[Change]]

    @property
    def in_order(self) -> list[Patch]:
        """As they are to be applied.

        An autoscaler whose target falls goes before its workload, one whose target rises goes after: in
        between there are then more replicas than needed, not fewer.
        """
        ordered: list[Patch] = []
        for patch in dict.fromkeys(self.by_container.values()):
            scaler = self.autoscalers.get(patch.target)
            before = [scaler.patch] if scaler and scaler.goes_first else []
            after = [scaler.patch] if scaler and not scaler.goes_first else []
            ordered += [*before, patch, *after]
        return ordered


def patches_of(
    rows: Sequence[Recommendation], manifests: Sequence[Path] = (), kind: str = "Deployment", namespace: str = "default"
) -> Patches:
    """One patch per workload, and for containers without one the reason why."""
    targets = read_manifests(manifests)
    without: dict[str, str] = {}
    changes: dict[tuple[str, str, str], list[Change]] = defaultdict(list)
    for row in rows:
        target = target_of(row, targets, kind, namespace)
        if isinstance(target, str):
            without[row.container.name] = target
            continue
        change = change_of(row, target)
        if change is None:
            reason = next(iter(row.reasons.values())) if row.verdict == "refuse" else "right as it is"
            without[row.container.name] = reason
        else:
            changes[target.kind, target.namespace, target.name].append(change)
    names = _names(changes)
    made: dict[str, Patch] = {}
    for workload, own in changes.items():
        patch = make_patch(own, names[workload])
        for each in own:
            if isinstance(patch, str):
                without[each.row.container.name] = patch
            else:
                made[each.row.container.name] = patch
    return Patches(made, without, _autoscalers(rows, changes), dict(changes))


def write_patches(patches: Patches, folder: Path) -> list[Path]:
    """Every patch in `folder`, its rollback in ``rollback/``, and a kustomization; patches of before go.

    :returns: the files of an earlier run that were removed
    :raises OutputError: when the folder cannot be written
    """
    rollback, every = folder / "rollback", patches.in_order
    wanted = {where / f"{patch.name}.{patch.suffix}" for patch in every for where in (folder, rollback)}
    try:
        rollback.mkdir(parents=True, exist_ok=True)
        there = [path for where in (folder, rollback) for path in where.glob("*.yaml") if path.name != _KUSTOMIZATION]
        old = [path for path in there if path not in wanted and is_ours(path)]
        for path in old:
            path.unlink()
        for patch in every:
            (folder / f"{patch.name}.{patch.suffix}").write_text(patch.patch, encoding="utf-8")
            (rollback / f"{patch.name}.{patch.suffix}").write_text(patch.rollback, encoding="utf-8")
        for where in (folder, rollback):
            (where / _KUSTOMIZATION).write_text(_kustomization(every), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.", "Give --out another folder.") from error
    return old


def write_resizes(patches: Patches, inventory: Inventory, folder: Path) -> list[str]:
    """A patch of the pods' sizes in place per workload, in ``resize/``; returns a kubectl line per pod.

    :raises OutputError: when the folder cannot be written
    """
    lines: list[str] = []
    where = folder / "resize"
    try:
        where.mkdir(parents=True, exist_ok=True)
        for (kind, namespace, name), changes in patches.changes.items():
            path = where / f"{object_name(f'{namespace}-{kind}-{name}')}.yaml"
            path.write_text(resize_document(changes), encoding="utf-8")
            pods = sorted(pod for pod, owner in inventory.owners.items() if (pod[0], *owner) == (namespace, kind, name))
            lines += [
                f"kubectl patch pod {pod} --namespace {namespace} --subresource resize --patch-file {path}"
                for _, pod in pods
            ]
    except OSError as error:
        raise OutputError(f"{where} cannot be written: {error.strerror}.", "Give --out another folder.") from error
    return lines


def _names(workloads: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """File names: as short as they are unambiguous."""
    known = list(workloads)
    by_name, by_namespace = Counter(name for _, _, name in known), Counter((space, name) for _, space, name in known)
    names = {}
    for kind, space, name in known:
        full = f"{space}-{name}" if by_namespace[space, name] == 1 else f"{space}-{kind}-{name}"
        names[kind, space, name] = object_name(name if by_name[name] == 1 else full)
    return names


def _autoscalers(
    rows: Sequence[Recommendation], changed: Iterable[tuple[str, str, str]]
) -> dict[tuple[str, str, str], ScalerPatch]:
    """The autoscalers whose targets go with the workloads that change."""
    by_scaler: dict[tuple[str, str], list[Retarget]] = defaultdict(list)
    for each in retargets(rows):
        by_scaler[each.namespace, each.autoscaler].append(each)
    scalers = {
        (row.container.kind, row.container.namespace, row.container.workload): row.declared.autoscaler.name
        for row in rows
        if row.declared is not None and row.declared.autoscaler is not None
    }
    found = {workload: by_scaler.get((workload[1], scalers[workload])) for workload in changed if workload in scalers}
    return {workload: _scaler_patch(own) for workload, own in found.items() if own}


def _scaler_patch(own: Sequence[Retarget]) -> ScalerPatch:
    first = own[0]
    name = object_name(f"{first.namespace}-{first.autoscaler}-hpa")
    where = f"kubectl patch hpa {first.autoscaler} --namespace {first.namespace} --type json --patch-file"
    forth, back = (json_patch.text(json_patch.retarget_operations(own, undo=undo)) for undo in (False, True))
    target = "HorizontalPodAutoscaler", first.namespace, first.autoscaler
    patch = Patch(name, "json", forth, back, f"{where} {name}.json", f"{where} rollback/{name}.json", target)
    return ScalerPatch(patch, first.after < first.before)


def _kustomization(patches: Iterable[Patch]) -> str:
    entries = []
    for patch in patches:
        entry: dict[str, object] = {"path": f"{patch.name}.{patch.suffix}"}
        if patch.suffix == "json":  # it does not say what it is for
            entry["target"] = dict(zip(("kind", "namespace", "name"), patch.target, strict=True))
        entries.append(entry)
    head = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "patches": entries}
    return f"{OURS}the same patches for kustomize, as a component\n{yaml.safe_dump(head, sort_keys=False)}"
