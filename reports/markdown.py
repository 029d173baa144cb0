"""The report in Markdown: short enough for a pull request or a chat, and every name in it is only a name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from recommender.resources import RESOURCE_NAMES
from reports.numbers import FORMS, UNKNOWN
from reports.times import moment, span

_MOST_ROWS, _MOST_LINES = 25, 12
_HEADINGS = ("CPU request", "CPU limit", "mem request", "mem limit")
_WWW = re.compile(r"(\bwww)\.", re.IGNORECASE)
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~<>&@:])")


def to_markdown(document: Mapping[str, Any]) -> str:
    """Summary, what came since the last report, and the containers that change most."""
    parts = ["# headroom", _about(document), *_summary(document)]
    if document["common"]:
        said = (f"- {each['containers']} containers: {plain(each['sentence'])}" for each in document["common"])
        parts += ["## What to know first", "\n".join(said)]
    if document.get("changes"):
        parts += ["## Since the last report", "\n".join(f"- {plain(line)}" for line in change_lines(document))]
    parts += ["## Sizes", _table(document)]
    if document["skipped"]:
        said = (f"- {len(each['containers'])}: {plain(each['sentence'])}" for each in document["skipped"])
        parts += ["## Without a size, and why", "\n".join(said)]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Text in which nothing is markup, a link or somebody's name: one line, special letters escaped."""
    return _WWW.sub(r"\1\\.", _SPECIAL.sub(r"\\\1", " ".join(text.split())))


def summary_lines(document: Mapping[str, Any]) -> list[str]:
    """The summary as short sentences, for a message as well."""
    of, currency = document["summary"], document["prices"]["currency"]
    lines = []
    if of["month_saves"] is not None:
        word = "saved" if of["month_saves"] >= 0 else "more"
        freed, added = (FORMS["money"](of[name]) for name in ("month_freed", "month_added"))
        money = FORMS["money"](abs(of["month_saves"]))
        lines.append(f"{money} {currency} a month {word}: {freed} freed, {added} added")
    for unit, name, form in (("cores", "cores", "cores"), ("GiB", "bytes", "gib")):
        if of[f"{name}_freed"] is not None:
            before, after = (FORMS[form](of[f"{name}_{when}"]) for when in ("before", "after"))
            lines.append(f"{unit} requested: {before} -> {after}")
        elif of[f"{name}_after"] is not None:
            lines.append(f"{unit} to request: {FORMS[form](of[f'{name}_after'])}; none are requested yet")
    left = f", {of['risks_left']} left" if of["risks_left"] else ""
    lines.append(f"risks removed: {of['risks_removed']}{left}")
    lines.append(f"to resize: {of['resize']}; right as they are: {of['keep']}; without a size: {of['refuse']}")
    return lines


def change_lines(document: Mapping[str, Any]) -> list[str]:
    """What came since the last report, in lines without markup; the worst first."""
    changes = document["changes"]
    lines = [f"worse: {each['name']}: {each['sentence']}" for each in changes["regressed"]]
    lines += [f"{each['name']} {each['sentence']}" for each in changes["applied"]]
    for label, names in (("new", changes["new"]), ("gone", changes["gone"]), ("other advice", changes["advice"])):
        if names:
            shown = ", ".join(names[:_MOST_LINES])
            lines.append(
                f"{label}: {shown}{f' and {len(names) - _MOST_LINES} more' if len(names) > _MOST_LINES else ''}"
            )
    return lines or ["nothing"]


def _about(document: Mapping[str, Any]) -> str:
    recording, of = document["recording"], document["summary"]
    return (
        f"{moment(recording['start_unix_seconds'])} to {moment(recording['end_unix_seconds'])} UTC, "
        f"{span(recording['seconds'])} recorded; {of['workloads']} workloads, {of['containers']} containers; "
        f"policy {plain(', '.join(document['policies']))}; headroom {document['headroom']}"
    )


def _summary(document: Mapping[str, Any]) -> list[str]:
    return ["\n".join(f"- {line}" for line in summary_lines(document))]


def _table(document: Mapping[str, Any]) -> str:
    records = document["recommendations"]
    ordered = sorted(records, key=lambda each: (each["verdict"] != "resize", -abs(each["month_saves"] or 0.0)))
    head = (
        "workload",
        "class",
        *_HEADINGS,
        "limit adds",
        f"saves a month, {document['prices']['currency']}",
        "confidence",
    )
    rows = [head, ("---", "---", *["---:"] * 6, "---"), *map(_cells, ordered[:_MOST_ROWS])]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    if len(records) > _MOST_ROWS:
        text += f"\n\nAnd {len(records) - _MOST_ROWS} more containers: the HTML report has them all."
    return text


def _cells(record: Mapping[str, Any]) -> Sequence[str]:
    name = plain(record["name"])
    adds, saves = record["predicted"]["limit_adds"], record["month_saves"]
    return (
        name,
        record["class"],
        *(_change(record, each) for each in RESOURCE_NAMES),
        UNKNOWN if adds is None else FORMS["overhead"](adds),
        UNKNOWN if saves is None else FORMS["money"](saves),
        record["confidence"],
    )


def _change(record: Mapping[str, Any], name: str) -> str:
    before, after = (record[of]["quantities"][name] or UNKNOWN for of in ("current", "target"))
    return after if before == after else f"{before} → **{after}**"
