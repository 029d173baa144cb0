"""What the cgroup files say of one group: CPU, throttling, memory, pressure, limits.

Both versions of the interface give the same :class:`GroupReading`. A file that is not there
gives None, never zero. Counters are as the kernel has them: since the group was made.

References: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from collector.cgroups import CgroupTree

# v1 says "no limit" with the largest number of pages that fits
_V1_UNLIMITED_BYTES = 1 << 60
_V1_DEFAULT_SHARES = 1024
_FILE_BYTES = 1 << 16
_V2_DEFAULT_WEIGHT = 100
# of some fifty lines
_V1_MEMORY = re.compile(
    r"^(total_(?:rss|cache|inactive_file|workingset_refault_anon|workingset_refault_file)) (\d+)$", re.MULTILINE
)
_V2_MEMORY = re.compile(
    r"^(anon|file|inactive_file|workingset_refault_anon|workingset_refault_file) (\d+)$", re.MULTILINE
)
_EVERY = re.compile(r"^(\S+) (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class GroupReading:
    """One look at one group; see :class:`profiles.schema.UsageRow` for the units."""

    cpu_seconds: float | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_seconds: float | None = None
    cpu_pressure_seconds: float | None = None
    memory_pressure_seconds: float | None = None
    memory_anon_bytes: int | None = None
    memory_file_bytes: int | None = None
    memory_working_set_bytes: int | None = None
    memory_inactive_file_bytes: int | None = None
    memory_peak_bytes: int | None = None
    refaults: int | None = None
    oom_kills: int | None = None
    cpu_limit_cores: float | None = None
    cpu_request_cores: float | None = None
    memory_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class GroupFiles:
    """The directories that hold one group's files; looked up once, read every window."""

    cpu: str | None
    accounting: str | None
    memory: str | None
    pressure: str | None
    is_v1: bool


def locate(tree: CgroupTree, path: str) -> GroupFiles:
    """Where the files of the group at `path` are."""
    cpu, accounting, memory = (tree.directory(path, controller) for controller in ("cpu", "cpuacct", "memory"))
    return GroupFiles(cpu, accounting, memory, tree.pressure_directory(path), bool(tree.v1))


def read_group(files: GroupFiles) -> GroupReading | None:
    """All that a group's files tell, or None when it is gone."""
    if not any(each is not None and os.path.isdir(each) for each in (files.pressure, files.cpu, files.memory)):
        return None
    if files.is_v1:
        values = _v1_cpu(files.cpu, files.accounting) | _v1_memory(files.memory)
    else:
        values = _v2_cpu(files.cpu) | _v2_memory(files.memory)
    return GroupReading(
        **values,
        cpu_pressure_seconds=_pressure_seconds(files.pressure, "cpu.pressure"),
        memory_pressure_seconds=_pressure_seconds(files.pressure, "memory.pressure"),
    )


def _v2_cpu(directory: str | None) -> dict[str, Any]:
    stat = _table(directory, "cpu.stat")
    quota, _, period = (_text(directory, "cpu.max") or "max 0").partition(" ")
    weight = _number(directory, "cpu.weight")
    return {
        "cpu_seconds": _scaled(stat.get("usage_usec"), 1e-6),
        "periods": stat.get("nr_periods"),
        "throttled_periods": stat.get("nr_throttled"),
        "throttled_seconds": _scaled(stat.get("throttled_usec"), 1e-6),
        "cpu_limit_cores": None if quota == "max" else int(quota) / int(period),
        "cpu_request_cores": None if weight in (None, _V2_DEFAULT_WEIGHT) else _cores_of_weight(weight or 0),
    }


def _cores_of_weight(weight: int) -> float:
    """The request from which the kubelet made this weight (its shares mapped to 1..10000)."""
    return round(((weight - 1) * 262142 / 9999 + 2) / 1024, 3)


def _v2_memory(directory: str | None) -> dict[str, Any]:
    stat = _table(directory, "memory.stat", _V2_MEMORY)
    refaults = [stat[name] for name in ("workingset_refault_anon", "workingset_refault_file") if name in stat]
    return {
        "memory_anon_bytes": stat.get("anon"),
        "memory_file_bytes": stat.get("file"),
        "memory_working_set_bytes": _less(_number(directory, "memory.current"), stat.get("inactive_file")),
        "memory_inactive_file_bytes": stat.get("inactive_file"),
        "memory_peak_bytes": _number(directory, "memory.peak"),
        "refaults": sum(refaults) if refaults else None,
        "oom_kills": _table(directory, "memory.events").get("oom_kill"),
        "memory_limit_bytes": _number(directory, "memory.max"),
    }


def _v1_cpu(directory: str | None, accounting: str | None) -> dict[str, Any]:
    stat = _table(directory, "cpu.stat")
    quota, period = _number(directory, "cpu.cfs_quota_us"), _number(directory, "cpu.cfs_period_us")
    shares = _number(directory, "cpu.shares")
    return {
        "cpu_seconds": _scaled(_number(accounting, "cpuacct.usage"), 1e-9),
        "periods": stat.get("nr_periods"),
        "throttled_periods": stat.get("nr_throttled"),
        "throttled_seconds": _scaled(stat.get("throttled_time"), 1e-9),
        "cpu_limit_cores": quota / period if quota and period and quota > 0 else None,
        "cpu_request_cores": None if shares in (None, _V1_DEFAULT_SHARES) else round((shares or 0) / 1024, 3),
    }


def _v1_memory(directory: str | None) -> dict[str, Any]:
    stat = _table(directory, "memory.stat", _V1_MEMORY)
    limit = _number(directory, "memory.limit_in_bytes")
    refaults = [
        stat[name] for name in ("total_workingset_refault_anon", "total_workingset_refault_file") if name in stat
    ]
    return {
        "memory_anon_bytes": stat.get("total_rss"),
        "memory_file_bytes": stat.get("total_cache"),
        "memory_working_set_bytes": _less(_number(directory, "memory.usage_in_bytes"), stat.get("total_inactive_file")),
        "memory_inactive_file_bytes": stat.get("total_inactive_file"),
        "memory_peak_bytes": _number(directory, "memory.max_usage_in_bytes"),
        "refaults": sum(refaults) if refaults else None,
        "oom_kills": _table(directory, "memory.oom_control").get("oom_kill"),
        "memory_limit_bytes": None if limit is None or limit >= _V1_UNLIMITED_BYTES else limit,
    }


def _pressure_seconds(directory: str | None, name: str) -> float | None:
    """Total time in which some task waited ("some avg10=0.00 ... total=123", microseconds)."""
    text = _text(directory, name)
    if not text or "total=" not in text:
        return None
    return int(text.partition("total=")[2].split()[0]) * 1e-6


def _text(directory: str | None, name: str) -> str | None:
    if directory is None:
        return None
    try:  # a thousand small files per window: system calls without the layers above them
        descriptor = os.open(f"{directory}/{name}", os.O_RDONLY)
    except OSError:  # not on this kernel, or the group ended
        return None
    try:
        return os.read(descriptor, _FILE_BYTES).decode()
    except OSError:  # switched off (pressure), or the group ended
        return None
    finally:
        os.close(descriptor)


def _number(directory: str | None, name: str) -> int | None:
    text = (_text(directory, name) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _table(directory: str | None, name: str, wanted: re.Pattern[str] = _EVERY) -> dict[str, int]:
    return {key: int(value) for key, value in wanted.findall(_text(directory, name) or "")}


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _less(value: int | None, part: int | None) -> int | None:
    return None if value is None else max(0, value - (part or 0))
