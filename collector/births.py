"""Cgroups that came since the tree was last walked, those that have ended again among them."""

from __future__ import annotations

from dataclasses import dataclass

from bpf.layout import Birth
from bpf.loader import BpfObject, load
from collector.cgroups import Cgroup

_LONGEST_PATH = Birth.path.size - 1


@dataclass(frozen=True, slots=True)
class Births:
    """The open object."""

    kernel: BpfObject

    @classmethod
    def attach(cls) -> Births:
        """Start noting.

        :raises bpf.loader.KernelRefused: when this kernel does not take the object
        """
        kernel = load("births")
        try:
            kernel.attach_tracepoint("note_birth")
        except BaseException:
            kernel.close()
            raise
        return cls(kernel)

    def read(self) -> list[Cgroup]:
        """Those since this was last asked. One whose path did not fit is left to the next walk."""
        born = self.kernel.map("born")
        found = []
        for key, value in list(born.items()):
            path = Birth.from_buffer_copy(value).path
            born.delete(bytes(key))
            if len(path) < _LONGEST_PATH:
                found.append(Cgroup(path.decode(errors="replace").strip("/"), int.from_bytes(key, "little")))
        return found
