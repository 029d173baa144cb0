"""The cgroup tree of this machine: version 2, version 1, or both (hybrid).

    v2       /sys/fs/cgroup/<path>              everything in one tree
    hybrid   /sys/fs/cgroup/unified/<path>      v2 without controllers: ids for eBPF, pressure
             /sys/fs/cgroup/{cpu,memory,...}/<path>   v1 controllers: usage and limits
    v1       the second line alone: usage, but eBPF cannot tell workloads apart

The root is a parameter, so tests run on a tree of plain files. Paths of groups are text: Path interns each part of
each, a megabyte where pods come and go.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from profiles.errors import HeadroomError

SYSTEM_ROOT = Path("/sys/fs/cgroup")
_V1_CONTROLLERS = ("cpu", "cpuacct", "memory")


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One group: its path below the root, and the id by which eBPF knows it (None on v1)."""

    path: str
    id: int | None


@dataclass(frozen=True, slots=True)
class CgroupTree:
    """Where the hierarchies are mounted.

    :ivar unified: the v2 tree, or None
    :ivar v1: directory per v1 controller that matters to us
    """

    unified: Path | None
    v1: dict[str, Path] = field(default_factory=dict)
    proc: Path = Path("/proc")

    @property
    def version(self) -> str:
        """``v2``, ``hybrid`` or ``v1``."""
        if self.unified is None:
            return "v1"
        return "hybrid" if self.v1 else "v2"

    @property
    def root_id(self) -> int | None:
        """The id of the root group, where kernel threads and all that is in no group live."""
        return self.unified.stat().st_ino if self.unified else None

    def walk(self, below: str = "") -> Iterator[Cgroup]:
        """Every group below `below`, itself included, the root of the tree not."""
        top = self.unified or self.v1.get("cpu") or next(iter(self.v1.values()))
        pending = [below.strip("/")]
        while pending:
            path = pending.pop()
            try:
                with os.scandir(f"{top}/{path}") as entries:
                    below_here = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
                identifier = os.stat(f"{top}/{path}").st_ino if self.unified else None
            except OSError:
                continue  # it ended while we walked
            pending.extend(f"{path}/{name}".lstrip("/") for name in below_here)
            if path:
                yield Cgroup(path, identifier)

    def relative(self, path: str) -> str:
        """`path` as :meth:`walk` gives it: below the tree, whether it was given so or in full."""
        tops = sorted((str(top) for top in (self.unified, *self.v1.values()) if top), key=len, reverse=True)
        clean = posixpath.normpath(path)
        for top in tops:
            if clean == top or clean.startswith(f"{top}/"):
                clean = clean[len(top) :]
                break
        return "" if clean in {".", "/", ""} else clean.strip("/")

    def has_processes(self, path: str) -> bool:
        """Whether a process is in the group itself, not only below it."""
        tops = [self.unified] if self.unified else []
        return any(_first_line(f"{top}/{path}/cgroup.procs") for top in [*tops, *self.v1.values()])

    def directory(self, path: str, controller: str) -> str | None:
        """Where `controller` keeps the files of the group at `path`, or None.

        On a hybrid tree the v1 group may have another path than the v2 one; a member
        process knows it.
        """
        if not self.v1:
            return f"{self.unified}/{path}" if self.unified else None
        top = self.v1.get(controller)
        if top is None:
            return None
        if os.path.isdir(f"{top}/{path}"):
            return f"{top}/{path}"
        member = _first_line(f"{self.unified}/{path}/cgroup.procs") if self.unified else ""
        for line in _lines(f"{self.proc}/{member}/cgroup") if member else ():
            _, names, where = line.split(":", 2)
            if controller in names.split(",") and where != "/" and self._is_ours(f"{top}{where}", path):
                return f"{top}{where}"
        return None

    def _is_ours(self, directory: str, path: str) -> bool:
        """Whether a v1 group holds this v2 group's processes and nobody else's: else its files are not its own."""
        assert self.unified is not None
        members = set(_lines(f"{directory}/cgroup.procs"))
        return bool(members) and members <= set(_lines(f"{self.unified}/{path}/cgroup.procs"))

    def pressure_directory(self, path: str) -> str | None:
        """Where the pressure files of the group are (v2 only)."""
        return f"{self.unified}/{path}" if self.unified else None


def find_tree(root: Path = SYSTEM_ROOT, proc: Path = Path("/proc")) -> CgroupTree:
    """The tree mounted at `root`.

    :raises HeadroomError: when there is none
    """
    if (root / "cgroup.controllers").exists():
        return CgroupTree(root, proc=proc)
    unified = root / "unified" if (root / "unified" / "cgroup.procs").exists() else None
    v1: dict[str, Path] = {}
    for mount in sorted(root.iterdir()) if root.is_dir() else ():
        for controller in mount.name.split(","):
            if controller in _V1_CONTROLLERS and mount.is_dir():
                v1.setdefault(controller, mount)
    if unified is None and not v1:
        raise HeadroomError(
            f"No cgroup tree is mounted at {root}.", "Mount one (mount -t cgroup2 none /sys/fs/cgroup)."
        )
    return CgroupTree(unified, v1, proc)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip()
    except OSError:
        return ""
