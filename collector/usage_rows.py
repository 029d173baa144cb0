"""What one instance used in a window: cgroup files, kernel counters of CPU and of TCP -> one row."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from collector.cpu import CpuDelta
from collector.network import NetworkDelta
from collector.usage import GroupReading
from profiles.limit_bank import LimitBank
from profiles.schema import Identity, Runtime, UsageRow

_Number = TypeVar("_Number", int, float)

_COUNTERS = ("periods", "throttled_periods", "throttled_seconds", "cpu_pressure_seconds", "memory_pressure_seconds")
_COUNTERS_OF_MEMORY = ("refaults", "oom_kills")
_GAUGES = ("memory_anon_bytes", "memory_file_bytes", "memory_working_set_bytes")
_LIMITS = ("cpu_limit_cores", "cpu_request_cores", "memory_limit_bytes")
_EVENTS = tuple(each.name for each in fields(NetworkDelta))


def usage_row(
    identity: Identity,
    before: GroupReading,
    now: GroupReading | None,
    delta: CpuDelta | None,
    runtime: Runtime | None = None,
) -> UsageRow:
    """The row of a group.

    :param before: its files as of the last stored window
    :param now: the same now; None when it has ended
    """
    bank, bursts = (delta.limit_bank, delta.burst_bins) if delta else (None, {})
    if now is None:
        return UsageRow(identity, delta.cpu_seconds if delta else 0.0, bank, bursts, ended=True, runtime=runtime)
    cpu_seconds = delta.cpu_seconds if delta else max(0.0, (now.cpu_seconds or 0.0) - (before.cpu_seconds or 0.0))
    grown: dict[str, Any] = {
        name: _growth(getattr(before, name), getattr(now, name)) for name in _COUNTERS + _COUNTERS_OF_MEMORY
    }
    levels: dict[str, Any] = {name: getattr(now, name) for name in _GAUGES + _LIMITS}
    peak = _window_peak(before, now)
    return UsageRow(identity, cpu_seconds, bank, bursts, **grown, **levels, memory_peak_bytes=peak, runtime=runtime)


def _growth(before: _Number | None, now: _Number | None) -> _Number | None:
    if now is None:
        return None
    return now - before if before is not None and now >= before else now


def _window_peak(before: GroupReading, now: GroupReading) -> int | None:
    """Highest working set of this window: from the group's own mark if it rose, else as seen."""
    levels = [each.memory_working_set_bytes for each in (before, now) if each.memory_working_set_bytes is not None]
    if now.memory_peak_bytes is not None and now.memory_peak_bytes > (
        before.memory_peak_bytes or now.memory_peak_bytes
    ):
        levels.append(now.memory_peak_bytes - (now.memory_inactive_file_bytes or 0))
    return max(levels, default=None)


def with_events(row: UsageRow, events: NetworkDelta | None) -> UsageRow:
    """`events` added; a row keeps "not known" where they are not counted."""
    if events is None:
        return row
    return replace(row, **{name: (getattr(row, name) or 0) + getattr(events, name) for name in _EVENTS})


def with_subgroup(row: UsageRow, delta: CpuDelta) -> UsageRow:
    """The on-CPU time of a group below it added, whose files are in those of `row` already."""
    banks = [bank for bank in (row.limit_bank, delta.limit_bank) if bank is not None]
    bursts = {
        index: row.burst_bins.get(index, 0) + delta.burst_bins.get(index, 0)
        for index in {*row.burst_bins, *delta.burst_bins}
    }
    return replace(
        row, cpu_seconds=row.cpu_seconds + delta.cpu_seconds, limit_bank=LimitBank.merged(banks), burst_bins=bursts
    )
