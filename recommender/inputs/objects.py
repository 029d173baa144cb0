"""Kubernetes objects, as the API server or ``kubectl get -o json`` gives them -> an inventory.

Only what sizes depend on is read, from plain dictionaries: typed models of 5,000 pods cost ten seconds
and a third of a gigabyte. An object of a kind that is not known here still owns its pods.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from policies.annotations import PREFIX
from profiles.errors import UsageError
from profiles.owners import guessed_owner
from recommender.history import Container
from recommender.inventory import (
    TEMPLATES,
    Autoscaler,
    Bounds,
    Declared,
    Inventory,
    Metric,
    Node,
    Quantity,
    Quota,
    sorted_containers,
)
from recommender.resources import parse_quantity

#: Annotation of a ReplicaSet.
REVISION = "deployment.kubernetes.io/revision"
#: The namespace whose uid is taken for the cluster's: it is made with it, and lives as long.
SYSTEM = "kube-system"
_WITHOUT_REPLICAS = ("Job", "CronJob", "Pod", "DaemonSet")
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
    for same in by_kind.values():
        same.sort(key=_name)
    named = {_name(each): each for kind in (*TEMPLATES, "Pod") for each in by_kind[kind]}
    owners = {(key[0], key[2]): _top(named, key)[1:] for key in named if key[1] == "Pod"}
    scalers = dict(map(_scaler, by_kind["HorizontalPodAutoscaler"]))
    vertical = dict(map(_vertical, by_kind["VerticalPodAutoscaler"]))
    of_namespace = {each["metadata"]["name"]: _annotations(each) for each in by_kind["Namespace"]}
    declared: list[Declared] = []
    deployed = _deployed(named, [*by_kind["ReplicaSet"], *by_kind["ControllerRevision"]])
    priority = next((_name(each)[2] for each in by_kind["PriorityClass"] if each.get("globalDefault")), "")
    for top, each in sorted(_declaring(named).items(), key=lambda entry: entry[0]):
        replicas = each["spec"].get("replicas") if each["kind"] not in _WITHOUT_REPLICAS else None
        own = _name(each) == top
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
                    str(each.get("apiVersion", "")) if own else "",
                    position,
                    vertical.get(top),
                    of_namespace.get(top[0], {}) | _annotations(named.get(top, each)),
                    "resources" in spec,
                    _pod_spec(each).get("priorityClassName") or priority,
                    deployed.get(top, ()),
                    tuple(name for name in ("requests", "limits") if name in resources),
                )
            )
    system = [each["metadata"] for each in by_kind["Namespace"] if each["metadata"]["name"] == SYSTEM]
    return Inventory(
        cluster,
        source,
        sorted_containers(declared),
        owners,
        missing,
        tuple(_bounds(by_kind["LimitRange"])),
        tuple(map(_quota, by_kind["ResourceQuota"])),
        tuple(map(_node, by_kind["Node"])),
        str(system[0].get("uid", "")) if system else "",
    )


def _declaring(named: Mapping[_Named, _Object]) -> dict[_Named, _Object]:
    """By workload the object whose containers are its own: itself, or what is nearest to it of what it owns.

    A workload of an unknown kind, or one that refers to another's template, has none of its own; then its
    newest set with replicas declares them, and without one its pods do.
    """
    found: dict[_Named, tuple[tuple[int, int, int, _Named], _Object]] = {}
    for key, each in named.items():
        top = _top(named, key)
        if not list(_containers(each)):
            continue
        distance = 0 if top == key else 2 if key[1] == "Pod" else 1
        rank = (-distance, int(bool(each["spec"].get("replicas"))), _revision(each), key)
        if top not in found or rank > found[top][0]:
            found[top] = rank, each
    return {top: each for top, (_, each) in found.items()}


def _deployed(named: Mapping[_Named, _Object], versions: Iterable[_Object]) -> dict[_Named, tuple[float, ...]]:
    """By workload, when its versions were made."""
    found: dict[_Named, list[float]] = defaultdict(list)
    for each in versions:
        made, above = each["metadata"].get("creationTimestamp"), _controller(each)
        if made and above is not None:
            top = _top(named, (_name(each)[0], str(above["kind"]), str(above["name"])))
            with contextlib.suppress(ValueError):
                found[top].append(datetime.fromisoformat(str(made)).timestamp())
    return {top: tuple(sorted(times)) for top, times in found.items()}


def _controller(each: _Object) -> Mapping[str, Any] | None:
    return next((ref for ref in each["metadata"].get("ownerReferences") or () if ref.get("controller")), None)


def _revision(each: _Object) -> int:
    text = str((each["metadata"].get("annotations") or {}).get(REVISION, "0"))
    return int(text) if text.isdecimal() else 0


def _name(each: _Object) -> _Named:
    metadata = each["metadata"]
    return str(metadata.get("namespace", "default")), str(each["kind"]), str(metadata["name"])


def _top(named: Mapping[_Named, _Object], key: _Named) -> _Named:
    """What controls the object in the end; a static pod, which a node controls, is its own."""
    seen, labels = {key}, (named[key]["metadata"].get("labels") or {}) if key in named else {}
    while (each := named.get(key)) is not None:
        above = _controller(each)
        if above is None or above["kind"] == "Node":
            break
        key = key[0], str(above["kind"]), str(above["name"])
        if key in seen:
            break
        seen.add(key)
    return key if key in named else (key[0], *guessed_owner(key[1], key[2], labels))


def _containers(each: _Object) -> Iterator[tuple[str, int, _Object]]:
    """Role, position and spec."""
    spec = _pod_spec(each)
    for position, container in enumerate(spec.get("initContainers") or ()):
        yield ("sidecar" if container.get("restartPolicy") == "Always" else "init"), position, container
    for position, container in enumerate(spec.get("containers") or ()):
        yield "main", position, container


def _pod_spec(each: _Object) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = each["spec"]
    for step in TEMPLATES.get(str(each["kind"]), ()):
        spec = spec.get(step) or {}
    return spec if each["kind"] == "Pod" else spec.get("spec") or {}


def _quantities(each: _Object, group: Mapping[str, Any] | None) -> dict[str, Quantity]:
    found = {name: value for name, value in (group or {}).items() if value is not None}
    for name in ("cpu", "memory"):
        if name in found:
            _number(each, found[name])
    return found


def _number(each: _Object, text: Any) -> float:
    try:
        return parse_quantity(text)
    except UsageError as error:
        raise UsageError(f"{'/'.join(_name(each))}: {error.sentence}", error.next_step) from error


def _annotations(each: _Object) -> dict[str, str]:
    found = each["metadata"].get("annotations") or {}
    return {name: str(value) for name, value in sorted(found.items()) if name.startswith(PREFIX)}


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
    labels = each["metadata"].get("labels") or {}
    return Node(
        str(each["metadata"]["name"]),
        _number(each, has.get("cpu", "0")),
        _number(each, has.get("memory", "0")),
        str(labels.get("node.kubernetes.io/instance-type", "")),
        str(labels.get("topology.kubernetes.io/zone", "")),
        int(_number(each, has.get("pods", "110"))),
        _is_open(each),
    )


def _is_open(node: _Object) -> bool:
    spec = node.get("spec") or {}
    closed = any(taint.get("effect") in ("NoSchedule", "NoExecute") for taint in spec.get("taints") or ())
    ready = {each.get("type"): each.get("status") for each in (node.get("status") or {}).get("conditions") or ()}
    return not spec.get("unschedulable") and not closed and ready.get("Ready", "True") == "True"
