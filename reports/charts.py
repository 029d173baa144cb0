"""Pictures as inline SVG: no script, no font, no network; colours come from the page's CSS.

Every chart has axes with units, and a name for those who cannot see it; what it shows stands beside it in words.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.path import area_path, line_path

WIDTH, HEIGHT = 560, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 24, 14, 40
_MOST_POINTS = 40


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points; None breaks it."""

    label: str
    values: Sequence[float | None]
    style: str = "a"


@dataclass(frozen=True, slots=True)
class Mark:
    """A labelled straight line at one value of an axis."""

    label: str
    value: float
    style: str
    vertical: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted line at a few places, with the bounds of its interval."""

    xs: Sequence[float]
    middle: Sequence[float]
    lower: Sequence[float]
    upper: Sequence[float]


def curve_chart(
    title: str,
    limits_cores: Sequence[float],
    adds: Sequence[float],
    busiest: Sequence[float],
    upper: Sequence[float],
    budget: float,
    marks: Sequence[Mark],
) -> str:
    """Added latency over the CPU limit: in all windows, and in the busiest with their upper bound."""
    top = max(0.5, 4 * budget)
    visible = [index for index, value in enumerate(adds) if value <= 3 * top] or list(range(len(adds)))
    at = [mark.value for mark in marks] or [limits_cores[-1]]
    low = min(limits_cores[max(0, visible[0] - 1)], *at)
    high = max(4 * limits_cores[visible[0]], *(1.3 * value for value in at))
    frame = _Frame((math.log(low), math.log(high)), (0.0, top))
    chosen = [index for index, limit in enumerate(limits_cores) if low <= limit <= high]
    chosen = chosen[:: math.ceil(len(chosen) / _MOST_POINTS)] if len(chosen) > _MOST_POINTS else chosen
    xs = [math.log(limits_cores[index]) for index in chosen]
    x_ticks = [(math.log(tick), _cores(tick)) for tick in _log_ticks(low, high)]
    parts = [
        frame.axes(x_ticks, [(tick, f"{tick:.0%}") for tick in round_ticks(top)], "CPU limit (cores)", "added latency"),
        frame.area(xs, [busiest[index] for index in chosen], [upper[index] for index in chosen]),
        frame.line(xs, [upper[index] for index in chosen], "b upper"),
        frame.line(xs, [busiest[index] for index in chosen], "b"),
        frame.line(xs, [adds[index] for index in chosen], "a"),
        frame.mark(Mark(f"budget {budget:.0%}", budget, "budget")),
    ]
    for row, mark in enumerate(sorted(marks, key=lambda each: each.value)):
        parts.append(frame.mark(Mark(mark.label, math.log(mark.value), mark.style, vertical=True), row))
    legend = _legend([Line("all windows", ()), Line("busiest", (), "b"), Line("its upper bound (90 %)", (), "b upper")])
    return _svg(title, parts, legend)


def scatter_chart(title: str, xs: Sequence[float], ys: Sequence[float], fit: Fit | None) -> str:
    """CPU against request rate, with the fitted line and its interval."""
    x_ticks, y_ticks = round_ticks(max(xs, default=1.0) or 1.0), round_ticks(max(ys, default=1.0) or 1.0)
    frame = _Frame((0.0, x_ticks[-1]), (0.0, y_ticks[-1]))
    parts = [
        frame.axes([(t, f"{t:g}") for t in x_ticks], [(t, _cores(t)) for t in y_ticks], "requests/s", "CPU (cores)")
    ]
    lines = [Line("one step of time", (), "points")]
    if fit:
        parts += [frame.area(fit.xs, fit.lower, fit.upper), frame.line(fit.xs, fit.middle, "b")]
        lines += [Line("fit, and where 95 % should be", (), "b")]
    parts.append(frame.dots(xs, ys))
    return _svg(title, parts, _legend(lines))


def frontier_chart(
    title: str, lines: Sequence[tuple[Line, Sequence[float]]], x_top: float, x_label: str, y_label: str
) -> str:
    """Lines of (ys, xs) that are better the closer they are to the corner; what is beyond `x_top` is cut."""
    cut = [
        (line, [(x, y) for x, y in zip(xs, line.values, strict=True) if x <= x_top and y is not None])
        for line, xs in lines
    ]
    tops = [y for _, points in cut for _, y in points]
    x_ticks, y_ticks = round_ticks(x_top), round_ticks(max(tops, default=1.0) or 1.0)
    frame = _Frame((0.0, x_ticks[-1]), (0.0, y_ticks[-1]))
    parts = [frame.axes([(t, f"{t:g}") for t in x_ticks], [(t, f"{t:g}") for t in y_ticks], x_label, y_label)]
    for line, points in cut:
        xs, ys = [x for x, _ in points], [y for _, y in points]
        parts.append(frame.line(xs, ys, line.style))
        parts.extend(
            f'<circle class="dot {line.style}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.5">'
            f"<title>{html.escape(line.label)}: {x:.2f}, {y:.1f}</title></circle>"
            for x, y in points
        )
    shown = [line for line, points in cut if points]
    return _svg(title, parts, _legend(shown))


def forecast_chart(
    title: str, past: tuple[Sequence[float], Sequence[float]], middle: Sequence[float], upper: Sequence[float],
    upper_label: str, enough: float | None,
) -> str:  # fmt: skip
    """Daily peaks so far and ahead, in days from now and multiples of the highest of the last week.

    :param past: days (below zero) and values
    :param enough: up to which the nodes suffice
    """
    days = list(range(1, len(middle) + 1))
    top = max([*past[1], *upper, 1.0])
    beyond = enough is not None and enough > 2 * top
    y_ticks = round_ticks(max(top, enough * 1.1 if enough is not None and not beyond else 0.0))
    first = min([*past[0], -1.0])
    frame = _Frame((first, float(days[-1])), (0.0, y_ticks[-1]))
    every = 7 if days[-1] - first <= 60 else 14
    x_ticks = [(float(day), str(day)) for day in range(math.ceil(first / every) * every, days[-1] + 1, every)]
    parts = [
        frame.axes(x_ticks, [(tick, f"{tick:g}x") for tick in y_ticks], "days from now", "demand"),
        frame.area(days, middle, upper),
        frame.line(past[0], past[1], "a"),
        frame.line(days, upper, "b upper"),
        frame.line(days, middle, "b"),
    ]
    if enough is not None and not beyond:
        parts.append(frame.mark(Mark(f"the nodes suffice to {enough:.3g}x", enough, "limit")))
    legend = [
        Line("daily peak so far", ()),
        Line("highest until then, expected", (), "b"),
        Line(upper_label, (), "b upper"),
    ]
    return _svg(title, parts, _legend(legend))


@dataclass(frozen=True, slots=True)
class _Frame:
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - _BOTTOM - (min(value, high) - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    def axes(
        self, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]], x_label: str, y_label: str
    ) -> str:
        bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        grid = "".join(f"M{_LEFT} {self.y(value):.0f}H{right}" for value, _ in y_ticks)
        parts = [f'<path class="g" d="{grid}"/>']
        parts += [
            f'<text class="t e" x="{_LEFT - 6}" y="{self.y(value) + 4:.0f}">{text}</text>' for value, text in y_ticks
        ]
        parts += [
            f'<text class="t c" x="{self.x(value):.0f}" y="{bottom + 15}">{text}</text>' for value, text in x_ticks
        ]
        middle = (_TOP + bottom) // 2
        return "".join(parts) + (
            f'<text class="t c" x="{(_LEFT + right) // 2}" y="{HEIGHT - 6}">{x_label}</text>'
            f'<text class="t c" transform="rotate(-90 13 {middle})" x="13" y="{middle}">{html.escape(y_label)}</text>'
        )

    def dots(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """One path of points without length: round ends make them dots."""
        places = sorted({(round(self.x(x)), round(self.y(y))) for x, y in zip(xs, ys, strict=True)})
        return f'<path class="dots" d="{"".join(f"M{x} {y}h0" for x, y in places)}"/>' if places else ""

    def line(self, xs: Sequence[float], values: Sequence[float | None], style: str) -> str:
        known = [None if value is None or math.isnan(value) else 2 * self.y(value) for value in values]
        path = line_path([2 * self.x(x) for x in xs], known)
        return f'<path class="l {style}" transform="scale(.5)" d="{path}"/>' if path else ""

    def area(self, xs: Sequence[float], lower: Sequence[float], upper: Sequence[float]) -> str:
        low, high = ([self.y(value) for value in values] for values in (lower, upper))
        path = area_path([self.x(x) for x in xs], low, high)
        return f'<path class="band" d="{path}"/>' if path else ""

    def mark(self, mark: Mark, row: int = 0) -> str:
        label, right = html.escape(mark.label), WIDTH - _RIGHT
        if not mark.vertical:
            y = self.y(mark.value)
            return (
                f'<path class="m {mark.style}" d="M{_LEFT} {y:.0f}H{right}"/>'
                f'<text class="n e {mark.style}" x="{right - 2}" y="{y - 4:.0f}">{label}</text>'
            )
        x = self.x(mark.value)
        side, shift = (" e", -5) if x > WIDTH - 130 else ("", 5)
        return (
            f'<path class="m {mark.style}" d="M{x:.0f} {_TOP}V{HEIGHT - _BOTTOM}"/>'
            f'<text class="n{side} {mark.style}" x="{x + shift:.0f}" y="{_TOP + 10 + 14 * row}">{label}</text>'
        )


def _svg(title: str, parts: Sequence[str], legend: str) -> str:
    named = html.escape(title)
    return (
        f"<figure><figcaption>{named}{legend}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{named}">{"".join(parts)}</svg></figure>'
    )


def _legend(lines: Sequence[Line]) -> str:
    items = "".join(f'<span class="key {line.style}">{html.escape(line.label)}</span>' for line in lines)
    return f'<span class="legend">{items}</span>'


def round_ticks(top: float, number: int = 4) -> list[float]:
    """From 0 up to at least `top` in steps of 1, 2 or 5 times a power of ten."""
    raw = top / number
    power = 10 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= raw * 0.999)
    return [round(index * step, 12) for index in range(math.ceil(top / step - 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    ticks = [digit * 10.0**power for power in range(-3, 3) for digit in (1, 1.5, 2, 3, 5, 7)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside if len(inside) <= 8 else inside[:: math.ceil(len(inside) / 8)]


def _cores(value: float) -> str:
    return f"{value:g}" if value >= 1 else f"{value * 1000:g}m"
