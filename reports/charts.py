"""Pictures as inline SVG: no script, no font, no network; colours come from the page's CSS.

Every chart has axes with units, and a title and description for those who cannot see it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 40


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


def time_chart(
    title: str, unit: str, seconds: Sequence[float], lines: Sequence[Line], marks: Sequence[Mark] = ()
) -> str:
    """Lines over the time since the recording began."""
    top = max((v for line in lines for v in line.values if v is not None and math.isfinite(v)), default=0.0)
    top = max([top, *(1.1 * mark.value for mark in marks if mark.value <= 3 * top)]) or 1.0
    y_ticks = _round_ticks(top)
    frame = _Frame((seconds[0], max(seconds[-1], seconds[0] + 1)), (0.0, y_ticks[-1]))
    scale, x_unit = (60.0, "min") if frame.x_range[1] > 600 else (1.0, "s")
    x_ticks = [
        (tick * scale, f"{tick:g}")
        for tick in _round_ticks(frame.x_range[1] / scale)
        if tick * scale <= frame.x_range[1]
    ]
    parts = [frame.axes(x_ticks, [(tick, f"{tick:g}") for tick in y_ticks], f"time ({x_unit})", unit)]
    parts.extend(frame.line(seconds, line.values, line.style) for line in lines)
    shown = [mark for mark in marks if mark.value <= y_ticks[-1]]
    parts.extend(frame.mark(mark) for mark in shown)
    return _svg(title, f"{title}: {', '.join(line.label for line in lines)}", parts, _legend(lines))


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
    xs = [math.log(limits_cores[index]) for index in chosen]
    x_ticks = [(math.log(tick), _cores(tick)) for tick in _log_ticks(low, high)]
    parts = [
        frame.axes(
            x_ticks, [(tick, f"{tick:.0%}") for tick in _round_ticks(top)], "CPU limit (cores)", "added latency"
        ),
        frame.area(xs, [busiest[index] for index in chosen], [upper[index] for index in chosen]),
        frame.line(xs, [upper[index] for index in chosen], "b upper"),
        frame.line(xs, [busiest[index] for index in chosen], "b"),
        frame.line(xs, [adds[index] for index in chosen], "a"),
        frame.mark(Mark(f"budget {budget:.0%}", budget, "budget")),
    ]
    for row, mark in enumerate(sorted(marks, key=lambda each: each.value)):
        parts.append(frame.mark(Mark(mark.label, math.log(mark.value), mark.style, vertical=True), row))
    legend = _legend([Line("all windows", ()), Line("busiest", (), "b"), Line("its upper bound (90 %)", (), "b upper")])
    return _svg(title, f"{title}; {', '.join(mark.label for mark in marks)}", parts, legend)


def scatter_chart(title: str, xs: Sequence[float], ys: Sequence[float], fit: tuple[float, float] | None) -> str:
    """CPU against request rate, with the fitted line (base, slope)."""
    x_ticks, y_ticks = _round_ticks(max(xs, default=1.0) or 1.0), _round_ticks(max(ys, default=1.0) or 1.0)
    frame = _Frame((0.0, x_ticks[-1]), (0.0, y_ticks[-1]))
    parts = [
        frame.axes([(t, f"{t:g}") for t in x_ticks], [(t, f"{t:g}") for t in y_ticks], "requests/s", "CPU (cores)")
    ]
    parts.extend(
        f'<circle class="dot" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.5"/>'
        for x, y in zip(xs, ys, strict=True)
    )
    lines = [Line("one window", (), "dots")]
    if fit:
        ends = [0.0, x_ticks[-1]]
        parts.append(frame.line(ends, [fit[0] + fit[1] * x for x in ends], "b"))
        lines.append(Line("fit", (), "b"))
    return _svg(title, title, parts, _legend(lines))


def frontier_chart(
    title: str, lines: Sequence[tuple[Line, Sequence[float]]], x_top: float, x_label: str, y_label: str
) -> str:
    """Lines of (ys, xs) that are better the closer they are to the corner; what is beyond `x_top` is cut."""
    cut = [
        (line, [(x, y) for x, y in zip(xs, line.values, strict=True) if x <= x_top and y is not None])
        for line, xs in lines
    ]
    tops = [y for _, points in cut for _, y in points]
    x_ticks, y_ticks = _round_ticks(x_top), _round_ticks(max(tops, default=1.0) or 1.0)
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
    return _svg(title, f"{title}: {', '.join(line.label for line in shown)}", parts, _legend(shown))


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
        parts = []
        for value, text in y_ticks:
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        for value, text in x_ticks:
            parts.append(
                f'<text class="tick" x="{self.x(value):.1f}" y="{bottom + 15}" text-anchor="middle">{text}</text>'
            )
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        parts.append(
            f'<text class="label" x="{(_LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{x_label}</text>'
        )
        middle = (_TOP + bottom) / 2
        parts.append(
            f'<text class="label" transform="rotate(-90 13 {middle})" x="13" y="{middle}" text-anchor="middle">'
            f"{html.escape(y_label)}</text>"
        )
        return "".join(parts)

    def line(self, xs: Sequence[float], values: Sequence[float | None], style: str) -> str:
        path, pen = [], "M"
        for x, value in zip(xs, values, strict=True):
            if value is None or math.isnan(value):
                pen = "M"
                continue
            path.append(f"{pen}{self.x(x):.1f} {self.y(value):.1f}")
            pen = "L"
        return f'<path class="line {style}" d="{" ".join(path)}"/>' if path else ""

    def area(self, xs: Sequence[float], lower: Sequence[float], upper: Sequence[float]) -> str:
        there = [f"{self.x(x):.1f} {self.y(value):.1f}" for x, value in zip(xs, lower, strict=True)]
        back = [f"{self.x(x):.1f} {self.y(value):.1f}" for x, value in zip(xs, upper, strict=True)][::-1]
        return f'<path class="band" d="M{" L".join(there + back)} Z"/>' if there else ""

    def mark(self, mark: Mark, row: int = 0) -> str:
        label = html.escape(mark.label)
        if not mark.vertical:
            y = self.y(mark.value)
            right = WIDTH - _RIGHT
            return (
                f'<line class="mark {mark.style}" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="name {mark.style}" x="{right - 2}" y="{y - 4:.1f}" text-anchor="end">{label}</text>'
            )
        x = self.x(mark.value)
        at_end = x > WIDTH - 130
        return (
            f'<line class="mark {mark.style}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
            f'<text class="name {mark.style}" x="{x - 5 if at_end else x + 5:.1f}" y="{_TOP + 10 + 14 * row}" '
            f'text-anchor="{"end" if at_end else "start"}">{label}</text>'
        )


def _svg(title: str, description: str, parts: Sequence[str], legend: str) -> str:
    return (
        f'<figure><figcaption>{html.escape(title)}{legend}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>{''.join(parts)}</svg></figure>"
    )


def _legend(lines: Sequence[Line]) -> str:
    items = "".join(f'<span class="key {line.style}">{html.escape(line.label)}</span>' for line in lines)
    return f'<span class="legend">{items}</span>'


def _round_ticks(top: float, number: int = 4) -> list[float]:
    """0 up to at least `top` in steps of 1, 2 or 5 times a power of ten."""
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
