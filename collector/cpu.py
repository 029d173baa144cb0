"""Kernel counters of on-CPU time and the limit bank -> their part of the usage rows."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bpf.layout import BIN_NS, PERIOD_NS, BankConfig, CgroupCpu, CpuLoss, LimitState
from bpf.loader import load
from collector.counters import KernelCounters, cgroup_id_of
from collector.packed import differences
from profiles.histogram import DELAY, Histogram
from profiles.limit_bank import CANDIDATE_LIMITS_CORES, Candidate, LimitBank

_U32 = 1 << 32
_FRESH = CgroupCpu()
for _index, _cores in enumerate(CANDIDATE_LIMITS_CORES):
    _FRESH.limits[_index].quota_ns = round(_cores * PERIOD_NS)
_EMPTY = bytes(_FRESH)  # what an entry starts from
_ANY_INDEX = bytes(4)
_BURSTS = slice(CgroupCpu.bursts.offset, CgroupCpu.bursts.offset + CgroupCpu.bursts.size)
_LIMITS = slice(CgroupCpu.limits.offset, CgroupCpu.limits.offset + CgroupCpu.limits.size)
_LIMIT_BYTES = ctypes.sizeof(LimitState)
_ALL, _BUSY = LimitState.delayed, LimitState.delayed_busy
_UNTOUCHED = tuple(Candidate(cores, 0, 0, Histogram(DELAY), Histogram(DELAY)) for cores in CANDIDATE_LIMITS_CORES)


@dataclass(frozen=True, slots=True)
class CpuDelta:
    """On-CPU time of one cgroup since the last commit."""

    cpu_seconds: float
    burst_bins: dict[int, int]
    limit_bank: LimitBank | None


class CpuCounters(KernelCounters):
    """The open cpu object and what was stored of it so far."""

    @classmethod
    def attach(cls, cgroups: int) -> CpuCounters:
        """Start counting, with room for `cgroups` groups.

        :raises bpf.loader.KernelRefused: when this kernel does not take the object
        """
        kernel = load("cpu", {"cgroup_cpus": cgroups})
        try:
            cpus = os.cpu_count() or 1
            # a limit of all processors or more cannot throttle: leave those candidates out
            useful = sum(1 for cores in CANDIDATE_LIMITS_CORES if cores < cpus)
            config = BankConfig(limits=useful, cpus=cpus)
            for index in range(len(CANDIDATE_LIMITS_CORES)):
                config.quota_ns[index] = _FRESH.limits[index].quota_ns
            kernel.map("bank_config").put(_ANY_INDEX, bytes(config))
            kernel.map("fresh_cgroup").put(_ANY_INDEX, _EMPTY)
            for name in ("cgroup_cpus", "losses", "processors"):
                kernel.map(name)
            kernel.attach_tracepoint("charge_switch")
            kernel.attach_clock("charge_clock", BIN_NS)
        except BaseException:
            kernel.close()
            raise
        reasons = {CpuLoss.NO_ENTRY.value: "cpu_no_entry"}
        counts, lost = kernel.map("cgroup_cpus"), kernel.map("losses")
        return cls(kernel=kernel, counts=counts, lost=lost, reasons=reasons, kept=_kept)

    def read(self) -> dict[int, CpuDelta]:
        """What changed since the last commit, by cgroup id."""
        return {cgroup_id_of(key): _delta(_whole(before), _whole(now)) for key, before, now in self.changed()}


def _kept(value: bytes) -> bytes:
    """What to remember of an entry: up to the largest limit that it came near; most groups never come near any."""
    end = len(value)
    while end > _LIMITS.start and value[end - _LIMIT_BYTES : end] == _EMPTY[end - _LIMIT_BYTES : end]:
        end -= _LIMIT_BYTES
    return value[:end]


def _whole(kept: bytes) -> bytes:
    """The inverse of :func:`_kept`; what an entry starts from for nothing."""
    return kept + _EMPTY[len(kept) :]


def _delta(before: bytes, after: bytes) -> CpuDelta:
    old, new = CgroupCpu.from_buffer_copy(before), CgroupCpu.from_buffer_copy(after)
    begins = not old.answers and new.answers  # to weigh requests: what was weighed by work is gone
    if begins:
        before, old.busy_weight = _without_delays(before), 0
    if before[_LIMITS] == after[_LIMITS]:
        candidates = _UNTOUCHED  # most groups never come near a limit
    else:
        candidates = tuple(
            Candidate(
                cores,
                (new.limits[index].throttled_periods - old.limits[index].throttled_periods) % _U32,
                (new.limits[index].backlog_periods - old.limits[index].backlog_periods) % _U32,
                Histogram(DELAY, differences(_counts(before, index, _ALL), _counts(after, index, _ALL))),
                Histogram(DELAY, differences(_counts(before, index, _BUSY), _counts(after, index, _BUSY))),
            )
            for index, cores in enumerate(CANDIDATE_LIMITS_CORES)
        )
    bank = LimitBank(
        (new.periods - old.periods) % _U32,
        new.work_us - old.work_us,
        bool(new.answers),
        new.answers - old.answers,
        max(0, new.busy_weight - old.busy_weight),
        candidates,
    )
    return CpuDelta(
        (new.oncpu_ns - old.oncpu_ns) * 1e-9,
        differences(before[_BURSTS], after[_BURSTS]),
        None if _is_torn(candidates) else bank,
    )


def _without_delays(data: bytes) -> bytes:
    made = bytearray(data)
    for index in range(len(CANDIDATE_LIMITS_CORES)):
        for histogram in (_ALL, _BUSY):
            start = CgroupCpu.limits.offset + index * _LIMIT_BYTES + histogram.offset
            made[start : start + histogram.size] = bytes(histogram.size)
    return bytes(made)


def _is_torn(candidates: Sequence[Candidate]) -> bool:
    """Whether it was read in the very moment in which the histograms begin anew: some have shrunk."""
    if candidates is _UNTOUCHED:
        return False
    return any(count >> 31 for each in candidates for count in each.delayed.counts.values())


def _counts(data: bytes, index: int, histogram: Any) -> bytes:
    start = CgroupCpu.limits.offset + index * _LIMIT_BYTES + histogram.offset
    return data[start : start + histogram.size]
