"""Recommendations -> files to apply: patches, their rollbacks, autoscalers' targets, a kustomization."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

import yaml

from profiles.errors import OutputError, UsageError
from recommender.autoscaler import Retarget, retargets
from recommender.history import Container
from recommender.quality import Workload
from recommender.recommendation import Recommendation, Verdict
from reports import json_patch, yaml_text
from reports.helm_values import Mapped, values_of
from reports.manifest import Target, read_manifests
from reports.patch import (
    OURS,
    Change,
    Lists,
    Patch,
    change_of,
    declared_target,
    is_ours,
    make_patch,
    object_name,
    target_of,
)

_KUSTOMIZATION, _HELM_VALUES = "kustomization.yaml", "helm-values.yaml"
_LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class ScalerPatch:
    """Another target for an autoscaler, and whether it is applied before its workload's patch."""

    patch: Patch
    goes_first: bool


@dataclass(frozen=True, slots=True)
class Patches:
    """What there is to apply.

    :ivar by_container: containers of one workload share theirs
    :ivar without: why there is none
    :ivar autoscalers: patches of autoscalers, by the workload whose requests they go with
    :ivar changes: what changes, by workload
    """

    by_container: dict[Container, Patch]
    without: dict[Container, str]
    autoscalers: dict[Workload, ScalerPatch]
    changes: dict[Workload, list[Change]]

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
    without: dict[Container, str] = {}
    changes: dict[Workload, list[Change]] = defaultdict(list)
    for row in rows:
        target = target_of(row, targets, kind, namespace)
        if isinstance(target, str):
            without[row.container] = target
            continue
        change = change_of(row, target)
        if change is None:
            reason = next(iter(row.reasons.values())) if row.verdict == "refuse" else "right as it is"
            without[row.container] = reason
        else:
            changes[change.workload].append(change)
    names, lists = names_of(changes), _lists(rows, targets)
    made: dict[Container, Patch] = {}
    for workload, own in changes.items():
        patch = make_patch(own, names[workload], lists.get(workload) or lists.get(("", *workload[1:]), {}))
        for each in own:
            if isinstance(patch, str):
                without[each.row.container] = patch
            else:
                made[each.row.container] = patch
    written = [each for own in changes.values() for each in own if each.row.container in made]
    return Patches(made, without, _autoscalers(rows, written), dict(changes))


def _lists(rows: Sequence[Recommendation], manifests: Sequence[Target]) -> dict[Workload, Lists]:
    """The containers of templates of which the whole is known, in their order; manifests are of no cluster."""
    told = [("", each) for each in manifests]
    if not told:
        known = [row.declared for row in rows if row.declared is not None and row.declared.api_version]
        told = [(each.container.cluster, declared_target(each)) for each in known]
    found: dict[Workload, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for cluster, each in sorted(told, key=lambda entry: entry[1].position or 0):
        found[cluster, each.kind, each.namespace, each.name][each.group].append(each.container)
    return dict(found)


def write_patches(patches: Patches, folder: Path) -> list[Path]:
    """Every patch in `folder`, its rollback in ``rollback/``, and a kustomization; patches of before go.

    :returns: the files of an earlier run that were removed
    :raises OutputError: when the folder cannot be written
    """
    rollback, every = folder / "rollback", patches.in_order
    wanted = {where / f"{patch.name}.{patch.suffix}" for patch in every for where in (folder, rollback)}
    try:
        rollback.mkdir(parents=True, exist_ok=True)
        old = [path for where in (folder, rollback) for path in _ours(where) if path not in wanted]
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


def _ours(folder: Path) -> Iterator[Path]:
    """Patches of an earlier run: those that say so themselves, and those of JSON that its kustomization names."""
    yield from (path for path in folder.glob("*.yaml") if path.name != _KUSTOMIZATION and is_ours(path))
    with contextlib.suppress(OSError, yaml.YAMLError, TypeError, KeyError):
        told = yaml.safe_load((folder / _KUSTOMIZATION).read_text(encoding="utf-8"))["patches"]
        named = (folder / str(each["path"]) for each in told)
        yield from (path for path in named if path.suffix == ".json" and path.parent == folder and path.exists())


def write_values(patches: Patches, mapping: Mapped, folder: Path) -> list[str]:
    """Values for Helm and their rollback; returns the containers that change and are not in the mapping.

    :raises OutputError: when the folder cannot be written
    """
    changes = [each for own in patches.changes.values() for each in own if each.row.container in patches.by_container]
    twice = [name for name, times in Counter(each.row.container.name for each in changes).items() if times > 1]
    if twice:
        raise UsageError(
            f"{twice[0]} is in two clusters, or of two kinds.", "Pull one cluster into a store of its own."
        )
    try:
        for where, text in zip((folder, folder / "rollback"), values_of(changes, mapping), strict=True):
            (where / _HELM_VALUES).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.", "Give --out another folder.") from error
    return [each.row.container.name for each in changes if each.row.container.name not in mapping]


def names_of(workloads: Iterable[Workload]) -> dict[Workload, str]:
    """File names: as short as they are unambiguous, with a hash where they would not be."""
    known = sorted(set(workloads))
    names: dict[Workload, str] = {}
    told = [Counter(object_name(each) for each in map(longer, known)) for longer in _LONGER]
    for workload in known:
        for longer, counts in zip(_LONGER, told, strict=True):
            whole = longer(workload)
            short = object_name(whole)
            if counts[short] == 1 and len(whole) <= _LONGEST_NAME and short not in ("kustomization", "helm-values"):
                break
        else:
            digest = hashlib.sha256("/".join(workload).encode()).hexdigest()[:8]
            short = f"{object_name(workload[3])[: _LONGEST_NAME - 9]}-{digest}"
        names[workload] = short
    return names


#: What a file may be called after, from short to long.
_LONGER: tuple[Callable[[Workload], str], ...] = (
    lambda of: of[3],
    lambda of: f"{of[2]}-{of[3]}",
    lambda of: f"{of[2]}-{of[1]}-{of[3]}",
    lambda of: "-".join((of[0], of[2], of[1], of[3])),
)


def _autoscalers(rows: Sequence[Recommendation], changes: Sequence[Change]) -> dict[Workload, ScalerPatch]:
    """The autoscalers whose targets go with what is patched; what is not patched stays as it is."""
    patched = {each.row.container: each.row for each in changes}
    sized = [patched.get(row.container) or replace(row, verdict=Verdict.KEEP) for row in rows]
    by_scaler: dict[tuple[str, str, str], list[Retarget]] = defaultdict(list)
    for each in retargets(sized):
        by_scaler[each.cluster, each.namespace, each.autoscaler].append(each)
    names = names_of(_scaler_of(own[0]) for own in by_scaler.values())
    found: dict[Workload, ScalerPatch] = {}
    for change in changes:
        of, declared = change.row.container, change.row.declared
        if declared is not None and declared.autoscaler is not None:
            own = by_scaler.get((of.cluster, of.namespace, declared.autoscaler.name))
            if own:
                found[change.workload] = _scaler_patch(own, f"{names[_scaler_of(own[0])]}-hpa")
    return found


def _scaler_of(each: Retarget) -> Workload:
    return each.cluster, "HorizontalPodAutoscaler", each.namespace, each.autoscaler


def _scaler_patch(own: Sequence[Retarget], name: str) -> ScalerPatch:
    first = own[0]
    where = f"kubectl patch hpa {quote(first.autoscaler)} --namespace {quote(first.namespace)} --type json --patch-file"
    forth, back = (json_patch.text(json_patch.retarget_operations(own, undo=undo)) for undo in (False, True))
    patch = Patch(name, "json", forth, back, f"{where} {name}.json", f"{where} rollback/{name}.json", _scaler_of(first))
    return ScalerPatch(patch, first.after < first.before)


def _kustomization(patches: Iterable[Patch]) -> str:
    entries = []
    for patch in patches:
        entry: dict[str, object] = {"path": f"{patch.name}.{patch.suffix}"}
        if patch.suffix == "json":  # it does not say what it is for
            entry["target"] = dict(zip(("kind", "namespace", "name"), patch.target[1:], strict=True))
        entries.append(entry)
    head = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "patches": entries}
    return f"{OURS}the same patches for kustomize, as a component\n{yaml_text.dump(head)}"
