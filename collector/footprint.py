"""Of memory that is free again, little is kept: a node has one agent, and many nodes have none to spare."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8  # malloc.h
_TRIM_BYTES = 1 << 16


def keep_small() -> None:
    """One heap for all threads, given back from its end: windows come and go. Only glibc needs to be told."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
