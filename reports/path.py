"""Lines as short SVG paths: whole numbers, relative to the point before, flat stretches in one step.

A point takes three to five letters instead of twelve: a report of a thousand workloads fits into a mail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise


def line_path(xs: Sequence[float], ys: Sequence[float | None]) -> str:
    """Through the points; None or NaN breaks the line, and what stands alone between two breaks is a dot.

    >>> line_path([0, 1, 2, 3, 4, 5, 6], [5, 5, 5, 7, 4, None, 2])
    'M0 5h2l1 2 1-3M6 2h0'
    """
    parts: list[str] = []
    run: list[tuple[int, int]] = []
    for x, y in zip(xs, ys, strict=True):
        if y is None or math.isnan(y):
            parts.append(_run(run))
            run = []
        else:
            run.append((round(x), round(y)))
    return "".join([*parts, _run(run)])


def area_path(xs: Sequence[float], lower: Sequence[float], upper: Sequence[float]) -> str:
    """Between two lines; empty without points."""
    there = [(round(x), round(y)) for x, y in zip(xs, lower, strict=True)]
    back = [(round(x), round(y)) for x, y in zip(xs, upper, strict=True)][::-1]
    return _run(there + back) + "z" if there else ""


def _run(points: Sequence[tuple[int, int]]) -> str:
    if not points:
        return ""
    parts = [f"M{points[0][0]} {points[0][1]}"]
    steps = [(x - before_x, y - before_y) for (before_x, before_y), (x, y) in pairwise(points)] or [(0, 0)]
    for flat, together in groupby(steps, lambda step: not step[1] and step[0] >= 0):
        if flat:
            parts.append(f"h{sum(across for across, _ in together)}")
        else:
            parts.append("l" + " ".join(f"{across} {down}" for across, down in together).replace(" -", "-"))
    return "".join(parts)
