"""What executes the programs of each cgroup: Go, a JVM, Node ... read off what its processes have mapped.

    runtimes_all.bpf.o --program, telling libraries, Go's heap--> processes --the main one--> runtime by cgroup

Names of files are all that is looked at, through the kernel: no process is touched, and neither hostPID nor the right
to trace is needed (Linux 6.7). Rust leaves no trace there, so it is called native, like C.
"""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bpf.layout import ProcessKey, ProcessSeen, Sign
from bpf.loader import BpfObject, KernelRefused, load
from profiles.schema import Runtime

#: A container's main process may come some seconds after its cgroup, and be another one later.
_LOOKS_SECONDS, _AGAIN_SECONDS = (0.0, 30.0, 90.0), 300.0
_INITIAL_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO
#: They start the main process, and may stay beside it.
_BESIDE = re.compile(
    r"(ba|da|a|z|k)?sh|busybox|env|tini(-static)?|dumb-init|docker-init|catatonit|s6-.*|runit|runsv.*|my_init|systemd"
    r"|su-exec|gosu|sudo|su|runuser|timeout|flock|(memfd:)?runc.*|pause"
)
_PROGRAMS = (
    (Runtime.JVM, re.compile(r"java")),
    (Runtime.NODE, re.compile(r"node(js)?[0-9.]*")),
    (Runtime.PYTHON, re.compile(r"(python|pypy)[0-9.]*[a-z]?")),
    (Runtime.RUBY, re.compile(r"ruby[0-9.]*")),
    (Runtime.DOTNET, re.compile(r"dotnet")),
    (Runtime.PHP, re.compile(r"php(-fpm|-cgi)?[0-9.]*")),
    (Runtime.BEAM, re.compile(r"beam\.smp")),
)
#: The first that is there tells: a JVM may have a library in Go, and it and Node use C++'s.
_SIGNS = (
    (Runtime.JVM, Sign.JVM),
    (Runtime.DOTNET, Sign.DOTNET),
    (Runtime.NODE, Sign.NODE),
    (Runtime.GO, Sign.GO),
    (Runtime.RUBY, Sign.RUBY),
    (Runtime.PHP, Sign.PHP),
    (Runtime.PYTHON, Sign.PYTHON),
    (Runtime.CPP, Sign.CPP),
)


@dataclass(frozen=True, slots=True)
class Process:
    """What one process runs, and has mapped."""

    number: int
    program: str
    signs: Sign

    @property
    def runtime(self) -> Runtime | None:
        """What executes it; None where that could not be seen."""
        program = self.program.removeprefix("memfd:")
        for runtime, names in _PROGRAMS:
            if names.fullmatch(program):
                return runtime
        if Sign.UNSEEN in self.signs:
            return None
        return next((runtime for runtime, sign in _SIGNS if sign in self.signs), Runtime.NATIVE)


class Runtimes:
    """The open object, and what was found when it last looked."""

    def __init__(self, kernel: BpfObject, look: Callable[[], None]) -> None:
        self.kernel, self._look = kernel, look
        self._found: dict[int, Runtime] = {}
        self._due: dict[int, list[float]] = {}  # by cgroup, when to look for it
        self._looked = time.monotonic()

    @classmethod
    def attach(cls) -> Runtimes:
        """Make ready to look.

        :raises bpf.loader.KernelRefused: when this kernel does not take the object, or shows too few processes
        """
        try:
            return cls._opened("runtimes_all", lambda kernel: kernel.callable("look_at_all"))
        except KernelRefused as error:
            if error.code not in (errno.EINVAL, errno.ESRCH):  # there is what is called, and we may not
                raise
        if Path("/proc/self/ns/pid").stat().st_ino != _INITIAL_NAMESPACE:
            why = "before Linux 6.7 it needs hostPID to see other pods' processes"
            raise KernelRefused("runtimes", why, errno.EPERM)
        return cls._opened("runtimes", lambda kernel: kernel.attach_iterator("look_at_mapping"))

    @classmethod
    def _opened(cls, name: str, attach: Callable[[BpfObject], Callable[[], None]]) -> Runtimes:
        kernel = load(name)
        try:
            return cls(kernel, attach(kernel))
        except BaseException:
            kernel.close()
            raise

    def of(self, cgroups: Iterable[int]) -> dict[int, Runtime]:
        """Of those of these cgroups of which it is known; looked at anew when one is young, and from time to time."""
        now = time.monotonic()
        self._due = {each: self._due.get(each, [now + after for after in _LOOKS_SECONDS]) for each in cgroups}
        if now < self._looked + _AGAIN_SECONDS and not any(due and due[0] <= now for due in self._due.values()):
            return self._found
        self._looked = now
        self._due = {each: [at for at in due if at > now] for each, due in self._due.items()}
        with contextlib.suppress(OSError):  # no memory just now: what was found before still holds
            found = runtimes_of(self.processes())
            kept = {each: known for each, known in self._found.items() if each in self._due}
            self._found = kept | found
        return self._found

    def processes(self) -> dict[int, list[Process]]:
        """All that there are now, by cgroup.

        :raises OSError: when the kernel does not look
        """
        self._look()
        seen, made = self.kernel.map("processes"), defaultdict[int, list[Process]](list)
        for key, value in list(seen.items()):
            of, what = ProcessKey.from_buffer_copy(key), ProcessSeen.from_buffer_copy(value)
            made[of.cgroup_id].append(Process(of.process, what.program.decode(errors="replace"), Sign(what.signs)))
            seen.delete(key)
        return made


def runtimes_of(processes: dict[int, list[Process]]) -> dict[int, Runtime]:
    """By cgroup, the runtime of its main process: the first that does not just start others; none where all do."""
    found: dict[int, Runtime] = {}
    for cgroup, own in processes.items():
        main = [each for each in sorted(own, key=lambda each: each.number) if not _BESIDE.fullmatch(each.program)]
        if main and (runtime := main[0].runtime) is not None:
            found[cgroup] = runtime
    return found
