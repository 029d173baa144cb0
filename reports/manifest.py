"""Manifests of workloads, as ``kubectl get -o yaml`` prints them: what is set today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from profiles.errors import UsageError
from recommender.inventory import Quantity
from recommender.resources import parse_quantity

KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")


@dataclass(frozen=True, slots=True)
class Target:
    """The object in the cluster that a patch is for.

    :ivar current: resources as it is declared, where that is known
    :ivar role: ``main``, ``init`` or ``sidecar``
    :ivar position: of the container in its list, where that is known
    :ivar groups: which of ``requests`` and ``limits`` are there; None where it is not known
    """

    kind: str
    namespace: str
    name: str
    container: str
    current: Mapping[str, Mapping[str, Quantity]] | None = None
    role: str = "main"
    api_version: str = ""
    position: int | None = None
    has_resources: bool = True
    groups: tuple[str, ...] | None = None

    @property
    def group(self) -> str:
        """The list that the container stands in."""
        return "containers" if self.role == "main" else "initContainers"

    @property
    def resource(self) -> str:
        """How kubectl calls its kind: with the group where the kind alone may be another's."""
        group = self.api_version.rpartition("/")[0]
        kind = self.kind.lower()
        return kind if group in ("", "apps", "batch") else f"{kind}.{group}"


_Quantities = dict[str, str | int | float] | None


class _Resources(BaseModel):
    requests: _Quantities = None
    limits: _Quantities = None


class _Container(BaseModel):
    name: str
    resources: _Resources | None = None


class _PodSpec(BaseModel):
    containers: list[_Container]


class _Template(BaseModel):
    spec: _PodSpec


class _Spec(BaseModel):
    template: _Template


class _Metadata(BaseModel):
    name: str
    namespace: str = "default"


class _Workload(BaseModel):
    kind: str
    metadata: _Metadata
    spec: _Spec


def read_manifests(paths: Sequence[Path]) -> list[Target]:
    """Every container of the workloads in YAML or JSON manifests.

    :raises UsageError: naming the file, and the place in it that is no manifest
    """
    return [target for path in paths for target in _read(path)]


def _read(path: Path) -> list[Target]:
    advice = "Give the output of kubectl get -o yaml."
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", advice) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{where}: not a readable manifest.", advice) from error
    items = [item for document in documents for item in _items(document)]
    found = [item for item in items if isinstance(item, dict) and item.get("kind") in KINDS]
    if not found:
        raise UsageError(f"{path} has no {', '.join(KINDS[:-1])} or {KINDS[-1]}.", advice)
    targets: list[Target] = []
    for item in found:
        try:
            targets.extend(_targets(_Workload.model_validate(item)))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"{path}: {item['kind']}: {place}: {first['msg']}.", advice) from error
        except UsageError as error:
            raise UsageError(f"{path}: {error.sentence}", error.next_step) from error
    return targets


def _items(document: Any) -> list[Any]:
    items = document.get("items", [document]) if isinstance(document, dict) else []
    return items if isinstance(items, list) else []


def _targets(workload: _Workload) -> Iterator[Target]:
    for position, container in enumerate(workload.spec.template.spec.containers):
        own = container.resources or _Resources()
        groups = {"requests": own.requests or {}, "limits": own.limits or {}}
        current = {name: {key: str(value) for key, value in group.items()} for name, group in groups.items()}
        for group in current.values():
            for key in ("cpu", "memory"):
                if key in group:
                    parse_quantity(group[key])
        metadata = workload.metadata
        name = metadata.name
        yield Target(workload.kind, metadata.namespace, name, container.name, current, position=position)
