"""Whose cgroup is this? A systemd unit, a container, or a named group, read off its path.

    systemd    kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice/cri-containerd-<id>.scope
    cgroupfs   kubepods/burstable/pod<uid>/<id>
    nested     docker/<id>/kubelet/kubepods/...

The last one is a node that is itself a container: what counts is the pod's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from collector.cgroups import Cgroup, CgroupTree
from profiles.schema import HOST_NAMESPACE, Identity

LOCAL_CLUSTER = "local"
UNATTRIBUTED = Identity(LOCAL_CLUSTER, HOST_NAMESPACE, "Unattributed", "unattributed", "unattributed", "")

# docker-<id>.scope, cri-containerd-<id>.scope, crio-<id>.scope, libpod-<id>.scope, or the bare id; of CRI-O the
# monitor of a container has a group beside the container's own
_CONTAINER = re.compile(r"^(?!.*conmon)(?:[a-z][a-z-]*-)?([0-9a-f]{64})(?:\.scope)?$")
# of a static pod the UID is a hash without dashes
_POD = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f_-]{27}|[0-9a-f]{32})(?:\.slice)?$")
_POD_KIND = "Pod"
#: Characters of a container's id that tell it apart.
ID_SHOWN = 12


def identify(path: str, bases: Sequence[str] = ()) -> Identity | None:
    """The workload that the group at `path` belongs to, or None for a group of groups (a slice).

    A group inside a container or a unit belongs to that container or unit. A named group is
    called by its path below the nearest of `bases`, its slashes written as dots.
    """
    parts = path.strip("/").split("/")
    pod, found = None, None
    for depth, part in enumerate(parts, 1):
        if match := _POD.search(part):
            pod, found = match[1].replace("_", "-"), None
        elif found is None and (match := _CONTAINER.match(part)):
            container = match[1][:ID_SHOWN]
            found = _identity(_POD_KIND if pod else "Container", pod or container, container, parts[:depth])
    if found is not None:
        return found
    for depth in range(len(parts), 0, -1):
        name, _, suffix = parts[depth - 1].rpartition(".")
        if suffix in ("service", "scope") and name:
            return _identity("SystemdUnit", name, name, parts[:depth])
    if parts[-1].endswith(".slice") or pod:
        return None
    name = _below(path.strip("/"), bases).replace("/", ".")
    return _identity("Cgroup", name, name, parts)


def pod_of(identity: Identity) -> tuple[str, str] | None:
    """UID and container id, as :func:`identify` read them off a path; None for what is no pod's."""
    is_pods = identity.kind == _POD_KIND and identity.namespace == HOST_NAMESPACE
    return (identity.workload, identity.container) if is_pods else None


def attribute(tree: CgroupTree, present: Iterable[Cgroup], bases: Sequence[str] = ()) -> dict[Cgroup, Identity]:
    """Those of the `present` groups that belong to a workload.

    :param bases: only these groups and those below them; all when empty
    """
    found: dict[Cgroup, Identity] = {}
    groups = [each for each in present if is_below(each.path, bases)]
    parents = {group.path.rpartition("/")[0] for group in groups}
    for group in groups:
        identity = identify(group.path, bases)
        if identity is None:
            continue
        # a named group with groups below it and nothing of its own only holds the others together
        if identity.kind == "Cgroup" and group.path in parents and not tree.has_processes(group.path):
            continue
        found[group] = identity
    return found


def is_below(path: str, bases: Sequence[str]) -> bool:
    """Whether the group at `path` is one of `bases` or below one; any is where there are none."""
    return not bases or any(f"{path}/".startswith(f"{base.strip('/')}/") for base in bases)


def _identity(kind: str, workload: str, container: str, parts: Sequence[str]) -> Identity:
    return Identity(LOCAL_CLUSTER, HOST_NAMESPACE, kind, workload, container, "/" + "/".join(parts))


def _below(path: str, bases: Sequence[str]) -> str:
    for base in sorted((base.strip("/") for base in bases), key=len, reverse=True):
        if path.startswith(base + "/"):
            return path[len(base) + 1 :]
        if path == base:
            return path.rpartition("/")[2]
    return path
