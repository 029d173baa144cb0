"""The functions of ``libbpf.so.1`` that we call, with their C signatures.

libbpf >= 1.0: calls that return an int give ``-errno``, calls that return a pointer give
NULL and set errno.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_LOG_LINES_KEPT = 400

#: What libbpf and the verifier said, newest last. ``doctor`` shows it; nothing else does.
log_lines: list[str] = []


class LibraryMissing(Exception):
    """libbpf.so.1 is not on this machine."""


def _keep(_level: int, template: bytes, arguments: int | None) -> int:
    buffer = ctypes.create_string_buffer(8192)
    _libc().vsnprintf(buffer, len(buffer), template, ctypes.c_void_p(arguments))
    log_lines.extend(buffer.value.decode(errors="replace").splitlines())
    del log_lines[:-_LOG_LINES_KEPT]
    return 0


_keep_callback = _PRINT(_keep)  # must outlive the library's use of it


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def library() -> ctypes.CDLL:
    """libbpf, its signatures declared.

    :raises LibraryMissing: when the shared library is not installed
    """
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise LibraryMissing("libbpf.so.1 is not installed (Debian and Ubuntu: package libbpf1)") from error
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[type | None, list[type]]] = {
        "bpf_object__open_file": (pointer, [text, pointer]),
        "bpf_object__load": (number, [pointer]),
        "bpf_object__close": (None, [pointer]),
        "bpf_object__find_map_by_name": (pointer, [pointer, text]),
        "bpf_object__find_program_by_name": (pointer, [pointer, text]),
        "bpf_map__fd": (number, [pointer]),
        "bpf_map__key_size": (ctypes.c_uint32, [pointer]),
        "bpf_map__value_size": (ctypes.c_uint32, [pointer]),
        "bpf_map__max_entries": (ctypes.c_uint32, [pointer]),
        "bpf_map__set_max_entries": (number, [pointer, ctypes.c_uint32]),
        "bpf_map__reuse_fd": (number, [pointer, number]),
        "bpf_program__fd": (number, [pointer]),
        "bpf_program__attach": (pointer, [pointer]),
        "bpf_program__attach_cgroup": (pointer, [pointer, number]),
        "bpf_program__attach_perf_event": (pointer, [pointer, number]),
        "bpf_program__attach_iter": (pointer, [pointer, pointer]),
        "bpf_link__fd": (number, [pointer]),
        "bpf_iter_create": (number, [number]),
        "bpf_link__destroy": (number, [pointer]),
        "bpf_map_lookup_elem": (number, [number, pointer, pointer]),
        "bpf_map_update_elem": (number, [number, pointer, pointer, ctypes.c_uint64]),
        "bpf_map_delete_elem": (number, [number, pointer]),
        "bpf_map_lookup_batch": (number, [number] + [pointer] * 6),
        "bpf_map__initial_value": (pointer, [pointer, pointer]),
        "bpf_prog_test_run_opts": (number, [number, pointer]),
        "bpf_enable_stats": (number, [number]),
        "btf__load_vmlinux_btf": (pointer, []),
        "btf__find_by_name_kind": (number, [pointer, text, ctypes.c_uint32]),
        "btf__type_by_id": (pointer, [pointer, ctypes.c_uint32]),
        "btf__name_by_offset": (text, [pointer, ctypes.c_uint32]),
        "btf__free": (None, [pointer]),
        "libbpf_num_possible_cpus": (number, []),
        "libbpf_set_print": (pointer, [_PRINT]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(_keep_callback)
    return lib


class IteratorOptions(ctypes.Structure):
    """``struct bpf_iter_attach_opts``, with a map to iterate over."""

    _fields_ = [("size", ctypes.c_size_t), ("link_info", ctypes.c_void_p), ("link_info_bytes", ctypes.c_uint32)]


class RunOptions(ctypes.Structure):
    """``struct bpf_test_run_opts``: a program that is run by a system call, with nothing to read or to write."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        *((name, ctypes.c_void_p) for name in ("data_in", "data_out")),
        *((name, ctypes.c_uint32) for name in ("data_in_bytes", "data_out_bytes")),
        *((name, ctypes.c_void_p) for name in ("context_in", "context_out")),
        *((name, ctypes.c_uint32) for name in ("context_in_bytes", "context_out_bytes", "result")),
        ("repeat", ctypes.c_int),
        *((name, ctypes.c_uint32) for name in ("duration", "flags", "cpu", "batch_size")),
    ]


class _PerfEventAttributes(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
    ]


_PERF_TYPE_SOFTWARE = 1
_PERF_COUNT_SW_CPU_CLOCK = 0
_PERF_EXCLUDE_IDLE = 1 << 7
_PERF_FLAG_FD_CLOEXEC = 8
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}


def open_cpu_clock(cpu: int, period_ns: int) -> int:
    """A descriptor of a software clock that fires on `cpu` every `period_ns` unless it idles.

    :raises OSError: as perf_event_open(2) does
    """
    attributes = _PerfEventAttributes(
        type=_PERF_TYPE_SOFTWARE,
        size=ctypes.sizeof(_PerfEventAttributes),
        config=_PERF_COUNT_SW_CPU_CLOCK,
        sample_period=period_ns,
        flags=_PERF_EXCLUDE_IDLE,
    )
    number = _PERF_EVENT_OPEN[os.uname().machine]
    descriptor: int = _libc().syscall(number, ctypes.byref(attributes), -1, cpu, -1, _PERF_FLAG_FD_CLOEXEC)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor
