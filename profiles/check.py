"""A finding of ``headroom doctor``, whichever half it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    :ivar status: ``ok``, ``missing`` (something is not measured) or ``failed`` (nothing works)
    :ivar next_step: what to do, empty when it is ok
    """

    name: str
    status: str
    finding: str
    next_step: str = ""
