"""Kubernetes objects, as the API server or ``kubectl get -o json`` gives them -> an inventory.

Only what sizes depend on is read, from plain dictionaries: typed models of 5,000 pods cost ten seconds
and a third of a gigabyte. An object of a kind that is not known here still owns its pods.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from profiles.errors import UsageError
from recommender.history import Container
from recommender.inventory import (
    ANNOTATION_PREFIX,
    TEMPLATES,
    Autoscaler,
    Bounds,
    Declared,
    Inventory,
    Metric,
    Node,
    Quota,
    sorted_containers,
)
from recommender.resources import parse_quantity

_Object = Mapping[str, Any]
_Named = tuple[str, str, str]  # namespace, kind and name


def inventory_of(
    objects: Iterable[_Object], cluster: str, source: str = "files", missing: tuple[str, ...] = ()
) -> Inventory:
    """What the objects declare, whatever their order; kinds that are no use here are passed over.

    :param objects: each with its ``kind``
    :raises UsageError: when a quantity is none, naming the object
    """
    by_kind: dict[str, list[_Object]] = defaultdict(list)
    for each in objects:
        by_kind[str(each.get("kind"))].append(each)
    named = {_name(each): each for kind in (*TEMPLATES, "Pod") for each in by_kind[kind]}
    owners = {
        (namespace, name): _top(named, (namespace, kind, name))[1:] for namespace, kind, name in named if kind == "Pod"
    }
    scalers = {target: scaler for each in by_kind["HorizontalPodAutoscaler"] for target, scaler in [_scaler(each)]}
    vertical = {target: mode for each in by_kind["VerticalPodAutoscaler"] for target, mode in [_vertical(each)]}
    of_namespace = {each["metadata"]["name"]: _annotations(each) for each in by_kind["Namespace"]}
    declared = []
    for key, each in named.items():
        top = _top(named, key)
        if top != key and top in named:
            continue  # what owns it declares it
        replicas = each["spec"].get("replicas") if key[1] not in ("Job", "CronJob", "Pod", "DaemonSet") else None
        for role, position, spec in _containers(each):
            resources = spec.get("resources") or {}
            declared.append(
                Declared(
                    Container(cluster, *top, str(spec["name"])),
                    role,
                    _quantities(each, resources.get("requests")),
                    _quantities(each, resources.get("limits")),
                    replicas,
                    scalers.get(top),
                    str(each.get("apiVersion", "")) if top == key else "",
                    position if top == key else None,
                    vertical.get(top),
                    of_namespace.get(key[0], {}) | _annotations(each),
                )
            )
    return Inventory(
        source,
        sorted_containers(declared),
        owners,
        missing,
        tuple(_bounds(by_kind["LimitRange"])),
        tuple(map(_quota, by_kind["ResourceQuota"])),
        tuple(map(_node, by_kind["Node"])),
    )


def _name(each: _Object) -> _Named:
    metadata = each["metadata"]
    return str(metadata.get("namespace", "default")), str(each["kind"]), str(metadata["name"])


def _top(named: Mapping[_Named, _Object], key: _Named) -> _Named:
    """What controls the object in the end; a static pod, which a node controls, is its own."""
    seen = {key}
    while (each := named.get(key)) is not None:
        above = next((ref for ref in each["metadata"].get("ownerReferences") or () if ref.get("controller")), None)
        if above is None or above["kind"] == "Node":
            break
        key = key[0], str(above["kind"]), str(above["name"])
        if key in seen:
            break
        seen.add(key)
    return key


def _containers(each: _Object) -> Iterator[tuple[str, int, _Object]]:
    """Role, position and spec."""
    spec = each["spec"]
    for step in TEMPLATES.get(str(each["kind"]), ()):
        spec = spec.get(step) or {}
    if each["kind"] != "Pod":
        spec = spec.get("spec") or {}
    for position, container in enumerate(spec.get("initContainers") or ()):
        yield ("sidecar" if container.get("restartPolicy") == "Always" else "init"), position, container
    for position, container in enumerate(spec.get("containers") or ()):
        yield "main", position, container


def _quantities(each: _Object, group: Mapping[str, Any] | None) -> dict[str, str]:
    found = {name: str(group[name]) for name in ("cpu", "memory") if group and group.get(name) is not None}
    for text in found.values():
        _number(each, text)
    return found


def _number(each: _Object, text: Any) -> float:
    try:
        return parse_quantity(text)
    except UsageError as error:
        raise UsageError(f"{'/'.join(_name(each))}: {error.sentence}", error.next_step) from error


def _annotations(each: _Object) -> dict[str, str]:
    found = each["metadata"].get("annotations") or {}
    return {name: str(value) for name, value in sorted(found.items()) if name.startswith(ANNOTATION_PREFIX)}


def _target(each: _Object, reference: str) -> _Named:
    of = each["spec"][reference]
    return _name(each)[0], str(of["kind"]), str(of["name"])


def _scaler(each: _Object) -> tuple[_Named, Autoscaler]:
    spec = each["spec"]
    metrics = tuple(map(_metric, spec.get("metrics") or ()))
    if "targetCPUUtilizationPercentage" in spec:  # autoscaling/v1
        metrics = (Metric("Resource", "cpu", None, int(spec["targetCPUUtilizationPercentage"])),)
    least, most = int(spec.get("minReplicas") or 1), int(spec["maxReplicas"])
    return _target(each, "scaleTargetRef"), Autoscaler(_name(each)[2], least, most, metrics)


def _metric(each: Mapping[str, Any]) -> Metric:
    kind = str(each["type"])
    of = each.get(kind[0].lower() + kind[1:]) or {}
    percent = (of.get("target") or {}).get("averageUtilization")
    name = of.get("name") or (of.get("metric") or {}).get("name") or ""
    return Metric(kind, str(name), of.get("container"), None if percent is None else int(percent))


def _vertical(each: _Object) -> tuple[_Named, str]:
    return _target(each, "targetRef"), str((each["spec"].get("updatePolicy") or {}).get("updateMode", "Auto"))


def _bounds(ranges: Iterable[_Object]) -> Iterator[Bounds]:
    for each in ranges:
        for item in each["spec"].get("limits") or ():
            if item.get("type") not in ("Container", "Pod"):
                continue
            for resource in ("cpu", "memory"):
                least, most, ratio, default = (
                    None if (text := (item.get(what) or {}).get(resource)) is None else _number(each, text)
                    for what in ("min", "max", "maxLimitRequestRatio", "default")
                )
                if (least, most, ratio, default) != (None, None, None, None):
                    yield Bounds(*_name(each)[::2], str(item["type"]), resource, least, most, ratio, default)


def _quota(each: _Object) -> Quota:
    status = each.get("status") or {}
    hard, used = (
        {name: _number(each, text) for name, text in sorted((status.get(what) or {}).items())}
        for what in ("hard", "used")
    )
    if not hard:
        hard = {name: _number(each, text) for name, text in sorted((each["spec"].get("hard") or {}).items())}
    return Quota(*_name(each)[::2], hard, used)


def _node(each: _Object) -> Node:
    has = (each.get("status") or {}).get("allocatable") or {}
    return Node(
        str(each["metadata"]["name"]), _number(each, has.get("cpu", "0")), _number(each, has.get("memory", "0"))
    )
