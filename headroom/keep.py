"""How much of a container stays in memory once it has been sized."""

from __future__ import annotations

from enum import Enum


class Keep(Enum):
    """What the output needs: of ten thousand containers rows do not fit."""

    EVERYTHING = "everything"  # an explanation has the rows
    DRAWN = "drawn"  # a report has the curves, the routes, and the rows in steps of time
    FIGURES = "figures"  # a document has the curves
    SIZES = "sizes"  # a table or a patch has neither
