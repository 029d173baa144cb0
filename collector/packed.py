"""Values of map ``requests`` as they are kept, and what they grew by."""

from __future__ import annotations

import ctypes
from array import array

from bpf.layout import RequestStats

_U32 = 1 << 32
_LATENCY_OFFSET = RequestStats.latency.offset
_EMPTY = bytes(ctypes.sizeof(RequestStats))


def pack(value: bytes) -> bytes:
    """A value of map ``requests`` without the zeros before and behind its buckets in use.

    Most routes use a tenth of the buckets; snapshots of thousands of keys are what the agent's
    memory goes to.
    """
    body = value[_LATENCY_OFFSET:].rstrip(b"\0")
    start = len(body) - len(body.lstrip(b"\0"))
    return value[:_LATENCY_OFFSET] + start.to_bytes(2, "little") + body[start:]


def unpack(packed: bytes) -> bytes:
    """The inverse of :func:`pack`; all zeros for nothing."""
    if not packed:
        return _EMPTY
    start = int.from_bytes(packed[_LATENCY_OFFSET : _LATENCY_OFFSET + 2], "little")
    return (packed[:_LATENCY_OFFSET] + bytes(start) + packed[_LATENCY_OFFSET + 2 :]).ljust(len(_EMPTY), b"\0")


def differences(before: bytes, after: bytes) -> dict[int, int]:
    """Growth per index of two arrays of 32-bit counters that may wrap; zeros are left out."""
    if before == after:
        return {}
    old, new = array("I", before), array("I", after)
    return {index: (b - a) % _U32 for index, (a, b) in enumerate(zip(old, new, strict=True)) if a != b}


def without_moves(counts: dict[int, int]) -> dict[int, int]:
    """Without the requests of earlier windows whose answers went on in this one.

    They have left the bucket they were stored in for a longer one, taken to be the next that has grown: they stay
    where they were.
    """
    left = {bucket: _U32 - count for bucket, count in counts.items() if count >> 31}
    if not left:
        return counts
    grown = {bucket: count for bucket, count in sorted(counts.items()) if not count >> 31}
    for start in sorted(left, reverse=True):
        for bucket in [bucket for bucket in grown if bucket > start]:
            moved = min(left[start], grown[bucket])
            left[start] -= moved
            grown[bucket] -= moved
    return {bucket: count for bucket, count in grown.items() if count}
