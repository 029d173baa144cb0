"""Heaps with a limit of their own: the container's limit and the runtime's flag go together."""

from __future__ import annotations

import math
from dataclasses import dataclass

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class HeapAdvice:
    """The runtime's own limit, to be set together with the container's.

    :ivar setting: the flag or environment variable; empty where the limit is too small for the runtime
    :ivar heap_bytes: what it leaves to the heap
    """

    runtime: str
    setting: str
    heap_bytes: float
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class _Runtime:
    """What a runtime's heap may take of the limit, and how that is said."""

    share: float
    outside_bytes: float
    setting: str
    reason: str
    source: str


_RUNTIMES = {
    "jvm": _Runtime(
        0.75,
        128 * MEBIBYTE,
        "-XX:MaxRAMPercentage={percent:.1f} (or -Xmx{mebibytes}m; a -Xmx that is set wins)",
        "without it the heap is 25 % of the limit; class metadata, code, threads and buffers come on top of the heap",
        "java(1), -XX:MaxRAMPercentage; JDK-8186248",
    ),
    "go": _Runtime(
        0.90,
        8 * MEBIBYTE,
        "GOMEMLIMIT={mebibytes}MiB",
        "a soft limit: near it garbage is collected more often; 5 to 10 % are left for what Go does not see",
        "https://go.dev/doc/gc-guide, Memory limit",
    ),
    "node": _Runtime(
        0.75,
        32 * MEBIBYTE,
        "NODE_OPTIONS=--max-old-space-size={mebibytes}",
        "1536 of 2048 MiB, as its documentation suggests; buffers and the young generation are outside",
        "https://nodejs.org/api/cli.html, --max-old-space-size",
    ),
}


def heap_advice(runtime: str, limit_bytes: float) -> HeapAdvice | None:
    """What to set beside a limit, or None for a runtime without a heap limit of its own.

    >>> heap_advice("node", 2048 * 2**20).setting
    'NODE_OPTIONS=--max-old-space-size=1536'

    :param runtime: ``jvm``, ``go`` or ``node``
    """
    known = _RUNTIMES.get(runtime.lower())
    if known is None:
        return None
    mebibytes = math.floor(min(known.share * limit_bytes, limit_bytes - known.outside_bytes) / MEBIBYTE)
    if mebibytes * MEBIBYTE < limit_bytes / 4:
        beside = f"{runtime} takes {known.outside_bytes / MEBIBYTE:.4g} MiB beside it"
        reason = f"{limit_bytes / MEBIBYTE:.4g} MiB leave too little heap: {beside}"
        return HeapAdvice(runtime, "", max(0.0, mebibytes * MEBIBYTE), reason, known.source)
    percent = math.floor(1000 * mebibytes * MEBIBYTE / limit_bytes) / 10
    setting = known.setting.format(percent=percent, mebibytes=mebibytes)
    return HeapAdvice(runtime, setting, float(mebibytes * MEBIBYTE), known.reason, known.source)
