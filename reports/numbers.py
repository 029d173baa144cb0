"""How pages write numbers. Each is a ``<data>`` element with the document's own value, so that nothing is lost by
rounding, columns can be sorted, and a test can hold every number of a page to the document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from markupsafe import Markup

from recommender.resources import format_bytes, format_cores

UNKNOWN = "–"
_ELEMENT = Markup('<data value="{}">{}</data>')
_GIBIBYTE = 2**30


def _money(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{_rounded(value, 2):,.2f}"


def _overhead(share: float) -> str:
    return f"{_rounded(share, 3):+.1%}" if share <= 1 else "over +100%"  # past a doubling the model is no longer sharp


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _time(seconds: float) -> str:
    return f"{_three_digits(seconds)} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _rounded(value: float, digits: int) -> float:
    """Without a sign where nothing is left of it."""
    return round(value, digits) + 0.0


#: By name of a form the text of a value.
FORMS: Mapping[str, Callable[[float], str]] = {
    "cpu": lambda value: format_cores(value) or "",
    "memory": lambda value: format_bytes(value) or "",
    "cores": lambda value: f"{value:,.1f}" if abs(value) >= 10 else _three_digits(value),
    "gib": lambda value: f"{value / _GIBIBYTE:,.1f}" if abs(value) >= 10 * _GIBIBYTE else f"{value / _GIBIBYTE:.3g}",
    "money": _money,
    "price": lambda value: f"{value:.4g}",
    "overhead": _overhead,
    "percent": lambda share: f"{share:.1%}",
    "count": lambda value: f"{value:,.0f}",
    "rate": lambda value: f"{value:,.1f}" if value >= 10 else f"{value:.3g}",
    "ms": _time,
    "mib": lambda value: f"{value / 2**20:.0f} MiB",
    "replicas": _three_digits,
}


def number(value: float | None, form: str) -> str:
    """The element; a dash where nothing is known."""
    if value is None:
        return UNKNOWN
    return _ELEMENT.format(repr(value), FORMS[form](value))
