"""The report: one HTML file that needs nothing else, from mail or from a CI artefact.

It is drawn from the document alone (:mod:`reports.document`). Without script it can be read and printed; script sorts,
searches and copies. The content-security policy allows this page's own script and style by their hashes, nothing else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recommender.resources import RESOURCE_NAMES
from reports import charts
from reports.document import FEW
from reports.numbers import number
from reports.over_time import over_time
from reports.times import moment, span

_HERE = Path(__file__).parent
_HERE_OF = {"page.html": "/", "apis.html": "/apis", "plan.html": "/plan", "history.html": "/history"}
Nav = Sequence[tuple[str, str]]
_OPENED = 8  # so many are shown with everything open
RESOURCE_LABELS = dict(zip(RESOURCE_NAMES, ("CPU request", "CPU limit", "memory request", "memory limit"), strict=True))


def to_html(document: Mapping[str, Any], nav: Nav = ()) -> str:
    """The page of a :func:`reports.document.report_document`.

    :param nav: address and name of the pages beside it, where it is served
    """
    records = document["recommendations"]
    parts = {
        "figures": ["".join(figures(record)) for record in records],
        "patches": [render("patch.html", record=record) for record in records],
    }
    if len(records) <= FEW:
        opened = len(records) <= _OPENED
        return render("page.html", document=document, nav=nav, opened=opened, packed="", **parts)
    packed = _packed(*parts.values())
    return render("page.html", document=document, nav=nav, opened=False, packed=packed, **dict.fromkeys(parts))


def render(template: str, **values: Any) -> str:
    """A template of this folder, with style and script in it, and a policy that allows no others."""
    style, script = _own_parts()
    values = {
        "nav": (),
        "here": _HERE_OF.get(template, ""),
        "style": style,
        "script": script,
        "allowed": content_policy(),
    } | values
    return _environment().get_template(template).render(values)


@functools.cache
def content_policy() -> str:
    """What a browser may do with our pages: their own style and script, and nothing else."""
    style, script = map(_hash, _own_parts())
    return f"default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"


@functools.cache
def _own_parts() -> tuple[str, ...]:
    return tuple((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"n": number, "moment": moment, "sentence": sentence, "span": span}
    made.globals |= {"labels": RESOURCE_LABELS}
    return made


def figures(record: Mapping[str, Any]) -> list[str]:
    """The pictures of one container, as HTML."""
    made = []
    if picture := over_time(record):
        made.append(f'<figure class="wide"><figcaption>Over time</figcaption>{picture}</figure>')
    if record["curve"]:
        made.append(_headroom(record))
    if record["fit"]:
        made.append(_demand(record))
    return made


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _headroom(record: Mapping[str, Any]) -> str:
    predicted, current, target = record["predicted"], record["current"], record["target"]
    wanted = [
        ("limit now", "cpu_limit_cores", current, "limit now"),
        ("request", "cpu_request_cores", target, "request"),
        ("limit", "cpu_limit_cores", target, "limit"),
    ]
    marks = [
        charts.Mark(f"{label} {of['quantities'][name]}", of[name], style)
        for label, name, of, style in wanted
        if of[name] is not None and not (of is current and of[name] == target[name])
    ]
    return charts.curve_chart(
        f"Headroom: what a CPU limit adds to P{predicted['quantile'] * 100:g}",
        [point["limit_cores"] for point in record["curve"]],
        [point["adds"] for point in record["curve"]],
        [point["adds"] for point in record["busiest_curve"]],
        [point["upper_adds"] for point in record["busiest_curve"]],
        predicted["limit_budget"],
        marks,
    )


def _demand(record: Mapping[str, Any]) -> str:
    columns, fit = record["timeline"]["columns"], record["fit"]
    together = zip(columns["requests_per_second"], columns["instances"], columns["cpu_cores"], strict=True)
    known = [(rate / count, cores) for rate, count, cores in together if None not in (rate, count, cores) and count]
    line = charts.Fit(fit["requests_per_second"], fit["cores"], fit["lower_cores"], fit["upper_cores"])
    return charts.scatter_chart("Demand of one instance", [x for x, _ in known], [y for _, y in known], line)


def _packed(pictures: Sequence[str], patches: Sequence[str]) -> str:
    """Pictures and patches of many containers, compressed: script takes them out when one is opened."""
    each = ("\1".join(pair) for pair in zip(pictures, patches, strict=True))  # neither is ever in HTML
    return base64.b64encode(zlib.compress("\0".join(each).encode(), 9)).decode()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
