"""What executes the programs of each cgroup: Go, a JVM, Node ... read off what its processes have mapped.

    runtimes.bpf.o --program, telling libraries, Go's heap--> processes --the main one--> runtime by cgroup

Names of files are all that is looked at, through the kernel: no process is touched, and neither hostPID nor the right
to trace is needed. Rust leaves no trace there, so it is called native, like C.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bpf.layout import Mapped, MappedFile
from bpf.loader import BpfObject, load
from profiles.schema import Runtime

_AGAIN_SECONDS, _YOUNG_SECONDS = 300.0, 30.0
#: They start the main process, and may stay beside it.
_BESIDE = re.compile(
    r"(ba|da|a|z|k)?sh|busybox|tini(-static)?|dumb-init|catatonit|s6-.*|runit|runsv.*|su-exec|gosu|sudo|env"
)
_PROGRAMS = (
    (Runtime.JVM, re.compile(r"java")),
    (Runtime.NODE, re.compile(r"node(js)?[0-9.]*")),
    (Runtime.PYTHON, re.compile(r"python[0-9.]*|pypy[0-9.]*")),
    (Runtime.RUBY, re.compile(r"ruby[0-9.]*")),
    (Runtime.DOTNET, re.compile(r"dotnet")),
    (Runtime.PHP, re.compile(r"php(-fpm|-cgi)?[0-9.]*")),
    (Runtime.BEAM, re.compile(r"beam\.smp")),
)
#: The first that is there tells: a JVM and Node use C++'s library, too.
_LIBRARIES = (
    (Runtime.JVM, "libjvm."),
    (Runtime.DOTNET, "libcoreclr."),
    (Runtime.NODE, "libnode."),
    (Runtime.RUBY, "libruby"),
    (Runtime.PHP, "libphp."),
    (Runtime.PYTHON, "libpython"),
    (Runtime.CPP, "libstdc++."),
)


@dataclass(slots=True)
class _Process:
    """What one process has mapped."""

    program: str = ""
    libraries: list[str] = field(default_factory=list)
    has_go_heap: bool = False

    @property
    def runtime(self) -> Runtime:
        for runtime, names in _PROGRAMS:
            if names.fullmatch(self.program):
                return runtime
        if self.has_go_heap:
            return Runtime.GO
        for runtime, begin in _LIBRARIES:
            if any(name.startswith(begin) for name in self.libraries):
                return runtime
        return Runtime.NATIVE


class Runtimes:
    """The open object, and what was found when it was last asked."""

    def __init__(self, kernel: BpfObject, read: Callable[[], bytes]) -> None:
        self.kernel, self._read = kernel, read
        self._found: dict[int, Runtime] = {}
        self._asked = -_AGAIN_SECONDS

    @classmethod
    def attach(cls) -> Runtimes:
        """Make ready to look.

        :raises bpf.loader.KernelRefused: when this kernel does not take the object
        """
        kernel = load("runtimes")
        try:
            return cls(kernel, kernel.attach_reader("look_at_mapping"))
        except BaseException:
            kernel.close()
            raise

    def of(self, cgroups: Iterable[int]) -> dict[int, Runtime]:
        """Of those of these cgroups that have a process; looked at anew when there are others, or it was long ago.

        A container's main process may come some seconds after its cgroup.
        """
        since = time.monotonic() - self._asked
        if since >= _AGAIN_SECONDS or (since >= _YOUNG_SECONDS and not self._found.keys() >= set(cgroups)):
            self._asked = time.monotonic()
            with contextlib.suppress(OSError):  # no memory just now: what was found before still holds
                self._found = runtimes_in(self._read())
        return self._found


def runtimes_in(mapped: bytes) -> dict[int, Runtime]:
    """By cgroup, the runtime of its main process: the first that does not just start others.

    :param mapped: ``struct mapped_file`` after each other, as the kernel writes them
    """
    processes: dict[int, dict[int, _Process]] = defaultdict(lambda: defaultdict(_Process))
    size = ctypes.sizeof(MappedFile)
    for at in range(0, len(mapped) - size + 1, size):
        each = MappedFile.from_buffer_copy(mapped, at)
        process, name = processes[each.cgroup_id][each.process], each.name.decode(errors="replace")
        if each.what == Mapped.PROGRAM:
            process.program = name
        elif each.what == Mapped.LIBRARY:
            process.libraries.append(name)
        else:
            process.has_go_heap = True
    return {cgroup: _main(own).runtime for cgroup, own in processes.items()}


def _main(processes: dict[int, _Process]) -> _Process:
    in_order = [processes[number] for number in sorted(processes)]
    return next((each for each in in_order if not _BESIDE.fullmatch(each.program)), in_order[0])
