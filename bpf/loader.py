"""Bring up one compiled object: open, size its maps, load, attach, read.

    with load("traffic", {"requests": 4096}) as traffic:
        traffic.attach_cgroup("count_ingress", "/sys/fs/cgroup")
        for key, value in traffic.map("requests").items(): ...

Each object is loaded on its own, so a kernel that refuses one still gets the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bpf import libbpf
from bpf.layout import VALUE_BYTES

_BATCH_BYTES = 256 * 1024
_HERE = Path(__file__).parent
#: Where a kernel tells its types; one that was built without CONFIG_DEBUG_INFO_BTF does not.
TYPES = Path("/sys/kernel/btf/vmlinux")


class KernelRefused(Exception):
    """The kernel, or this machine, cannot run an object.

    :ivar object_name: ``traffic``, ``lifecycle`` or ``cpu``
    :ivar detail: the last lines of the verifier's or libbpf's own log
    """

    def __init__(self, object_name: str, what: str, code: int) -> None:
        self.object_name = object_name
        self.code = code
        self.detail = "\n".join(libbpf.log_lines[-12:])
        why = os.strerror(code) if code else "no reason given"
        if code == errno.ESRCH and not TYPES.exists():
            why = "it has no type information (BTF)"
        super().__init__(f"this kernel refuses {object_name}.bpf.o: {what}: {why}")


class Map:
    """An open map: bytes in, bytes out."""

    def __init__(self, descriptor: int, key_bytes: int, value_bytes: int) -> None:
        self.descriptor = descriptor
        self.key_bytes = key_bytes
        self.value_bytes = value_bytes
        self._lib = libbpf.library()

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """Every entry of a hash map, a few hundred per system call; a value is copied when it is asked for.

        :raises OSError: when the kernel does not answer
        """
        batch = min(1024, max(16, _BATCH_BYTES // self.value_bytes))
        position: ctypes.Array[ctypes.c_char] | None = None
        while True:
            keys = ctypes.create_string_buffer(self.key_bytes * batch)
            values = ctypes.create_string_buffer(self.value_bytes * batch)
            count = ctypes.c_uint32(batch)
            following = ctypes.create_string_buffer(max(self.key_bytes, 8))
            code = -self._lib.bpf_map_lookup_batch(
                self.descriptor, position, following, keys, values, ctypes.byref(count), None
            )
            if code == errno.ENOSPC:  # one hash bucket holds more than a batch
                batch *= 2
                continue
            if code not in (0, errno.ENOENT):
                raise OSError(code, os.strerror(code))
            raw, view = keys.raw, memoryview(values).cast("B")
            for index in range(count.value):
                key, value = index * self.key_bytes, index * self.value_bytes
                yield raw[key : key + self.key_bytes], view[value : value + self.value_bytes]
            if code == errno.ENOENT:
                return
            position = following

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        value = ctypes.create_string_buffer(self.value_bytes)
        found = self._lib.bpf_map_lookup_elem(self.descriptor, key, value) == 0
        return value.raw if found else None

    def put(self, key: bytes, value: bytes) -> None:
        """Insert or replace.

        :raises OSError: when the kernel does not take it
        """
        code = -self._lib.bpf_map_update_elem(self.descriptor, key, value, 0)
        if code:
            raise OSError(code, os.strerror(code))

    def delete(self, key: bytes) -> None:
        """Remove `key`; one that is gone already is no error."""
        self._lib.bpf_map_delete_elem(self.descriptor, key)

    def sum_per_cpu(self, index: int) -> int:
        """Sum over processors of slot `index` of a per-CPU array of 64-bit counters."""
        counters = (ctypes.c_uint64 * self._lib.libbpf_num_possible_cpus())()
        key = ctypes.c_uint32(index)
        if self._lib.bpf_map_lookup_elem(self.descriptor, ctypes.byref(key), counters):
            return 0
        return sum(counters)

    @property
    def memory_bytes(self) -> int:
        """Kernel memory that the map holds now, as the kernel accounts it."""
        return _fdinfo(self.descriptor).get("memlock", 0)


class BpfObject:
    """A loaded object; closing it detaches its programs and frees its maps."""

    def __init__(self, name: str, handle: int) -> None:
        self.name = name
        self._handle = handle
        self._lib = libbpf.library()
        self._links: list[int] = []
        self._clocks: list[int] = []
        self._programs: dict[str, int] = {}
        self._maps: dict[str, Map] = {}

    def map(self, name: str) -> Map:
        """The map called `name` in the source; one that was taken from another object goes by its name there.

        :raises KeyError: when there is none
        """
        if name not in self._maps:
            pointer = self._lib.bpf_object__find_map_by_name(self._handle, name.encode())
            if not pointer:
                raise KeyError(f"{self.name}.bpf.o has no map {name}")
            self._maps[name] = Map(
                self._lib.bpf_map__fd(pointer),
                self._lib.bpf_map__key_size(pointer),
                self._lib.bpf_map__value_size(pointer),
            )
        return self._maps[name]

    def attach_cgroup(self, program: str, cgroup: str | Path) -> None:
        """Run `program` for every socket of `cgroup` and below.

        :raises KernelRefused: when it cannot be attached there
        """
        directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._link(program, self._lib.bpf_program__attach_cgroup(self._program(program), directory))
        finally:
            os.close(directory)

    def attach_tracepoint(self, program: str) -> None:
        """Attach `program` to the tracepoint its section names.

        :raises KernelRefused: when it cannot be attached
        """
        self._link(program, self._lib.bpf_program__attach(self._program(program)))

    def call_from(self, programs: Map, program: str) -> None:
        """Have another object call `program` by a tail call through its array `programs`.

        :raises KernelRefused: when it cannot be put there
        """
        self._program(program)
        try:
            programs.put(bytes(4), self._programs[program].to_bytes(4, "little"))
        except OSError as error:
            raise KernelRefused(self.name, f"calling {program}", error.errno or 0) from error

    def attach_clock(self, program: str, period_ns: int) -> None:
        """Run `program` on every processor, every `period_ns` that it is not idle.

        :raises KernelRefused: when there is no such clock or it takes no program
        """
        for cpu in _online_cpus():
            try:
                clock = libbpf.open_cpu_clock(cpu, period_ns)
            except OSError as error:
                raise KernelRefused(self.name, f"clock on CPU {cpu}", error.errno or 0) from error
            self._clocks.append(clock)
            self._link(program, self._lib.bpf_program__attach_perf_event(self._program(program), clock))

    def attach_iterator(self, program: str, over: Map | None = None) -> Callable[[], None]:
        """Have `program` run for every entry of `over`, or of what its section names, whenever the result is called.

        :raises KernelRefused: when it cannot be attached; of the call OSError
        """
        options = None
        if over is not None:
            which = (ctypes.c_uint32 * 4)(over.descriptor)  # union bpf_iter_link_info
            options = ctypes.byref(
                libbpf.IteratorOptions(
                    ctypes.sizeof(libbpf.IteratorOptions), ctypes.addressof(which), ctypes.sizeof(which)
                )
            )
        link = self._lib.bpf_program__attach_iter(self._program(program), options)
        self._link(program, link)

        def run() -> None:
            descriptor = self._lib.bpf_iter_create(self._lib.bpf_link__fd(link))
            if descriptor < 0:
                raise OSError(-descriptor, os.strerror(-descriptor))
            try:
                while True:
                    with contextlib.suppress(BlockingIOError):  # a million entries, and more to come
                        if not os.read(descriptor, 4096):
                            return
            finally:
                os.close(descriptor)

        return run

    def callable(self, program: str) -> Callable[[], None]:
        """Have `program`, of section ``syscall``, run once whenever the result is called; of the call OSError."""
        self._program(program)

        def run() -> None:
            options = libbpf.RunOptions(ctypes.sizeof(libbpf.RunOptions))
            code = -self._lib.bpf_prog_test_run_opts(self._programs[program], ctypes.byref(options))
            if code:
                raise OSError(code, os.strerror(code))

        return run

    def run_statistics(self) -> dict[str, tuple[int, int]]:
        """Nanoseconds run and number of runs per attached program, while statistics are on."""
        return {
            name: (info.get("run_time_ns", 0), info.get("run_cnt", 0))
            for name, info in ((name, _fdinfo(fd)) for name, fd in self._programs.items())
        }

    @property
    def memory_bytes(self) -> int:
        """Kernel memory of every map that has been opened through :meth:`map`."""
        return sum(each.memory_bytes for each in self._maps.values())

    def close(self) -> None:
        """Detach and free; a second call does nothing."""
        for link in self._links:
            self._lib.bpf_link__destroy(link)
        for clock in self._clocks:
            with contextlib.suppress(OSError):  # the link owned it
                os.close(clock)
        if self._handle:
            self._lib.bpf_object__close(self._handle)
        self._links, self._clocks, self._handle = [], [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _program(self, name: str) -> int:
        pointer: int | None = self._lib.bpf_object__find_program_by_name(self._handle, name.encode())
        if not pointer:
            raise KernelRefused(self.name, f"no program {name}", errno.ENOENT)
        self._programs[name] = self._lib.bpf_program__fd(pointer)
        return pointer

    def _link(self, program: str, link: int | None) -> None:
        if not link:
            raise KernelRefused(self.name, f"attaching {program}", ctypes.get_errno())
        self._links.append(link)


def load(
    name: str,
    map_entries: Mapping[str, int] | None = None,
    shared: Mapping[str, Map] | None = None,
    folder: Path | None = None,
    constants: bytes = b"",
) -> BpfObject:
    """Open ``<name>.bpf.o``, set the bounds of its maps, and load it.

    :param map_entries: entries per map, where the compiled bound does not fit
    :param shared: open maps of another object to take in place of its own
    :param folder: where the compiled object is, if not here
    :param constants: what its constants are instead, from the first one on
    :raises KernelRefused: when the kernel, or the machine, does not take it
    """
    try:
        lib = libbpf.library()
    except libbpf.LibraryMissing as error:
        raise KernelRefused(name, str(error), errno.ENOENT) from error
    path = (folder or _HERE) / f"{name}.bpf.o"
    if not path.exists():
        raise KernelRefused(name, "it has not been compiled (make bpf)", errno.ENOENT)
    libbpf.log_lines.clear()
    handle = lib.bpf_object__open_file(str(path).encode(), None)
    if not handle:
        raise KernelRefused(name, "opening it", ctypes.get_errno())
    for map_name, value_bytes in VALUE_BYTES.get(name, {}).items():
        found = lib.bpf_map__value_size(lib.bpf_object__find_map_by_name(handle, map_name.encode()))
        if found != value_bytes:
            lib.bpf_object__close(handle)
            raise KernelRefused(name, f"{map_name} has {found} bytes, not {value_bytes}: make bpf", errno.EPROTO)
    for map_name, entries in (map_entries or {}).items():
        lib.bpf_map__set_max_entries(lib.bpf_object__find_map_by_name(handle, map_name.encode()), entries)
    for map_name, other in (shared or {}).items():
        lib.bpf_map__reuse_fd(lib.bpf_object__find_map_by_name(handle, map_name.encode()), other.descriptor)
    if constants:
        size = ctypes.c_size_t()
        place = lib.bpf_map__initial_value(lib.bpf_object__find_map_by_name(handle, b".rodata"), ctypes.byref(size))
        ctypes.memmove(place, constants, min(len(constants), size.value))
    code = -lib.bpf_object__load(handle)
    if code:
        lib.bpf_object__close(handle)
        raise KernelRefused(name, "loading it", code)
    return BpfObject(name, handle)


def enable_run_statistics() -> int:
    """Have the kernel time every BPF program until the returned descriptor is closed.

    :raises OSError: without the privilege
    """
    descriptor: int = libbpf.library().bpf_enable_stats(0)
    if descriptor < 0:
        raise OSError(-descriptor, os.strerror(-descriptor))
    return descriptor


def _online_cpus() -> list[int]:
    cpus: list[int] = []
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def _fdinfo(descriptor: int) -> dict[str, int]:
    fields: dict[str, int] = {}
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.strip().isdigit():
            fields[name] = int(value)
    return fields
