"""Reports of before as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from markupsafe import Markup

from reports.html import Nav, render
from reports.markdown import summary_lines


class NotOurs(Exception):
    """A document is of another version, or damaged."""


def section(report: Mapping[str, Any]) -> str:
    """One document that was remembered.

    :raises NotOurs: when something of it is missing
    """
    try:
        return render("history_section.html", report=report, summary=summary_lines(report))
    except (TemplateError, LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise NotOurs(str(error)) from error


def to_html(sections: Sequence[str], problems: Sequence[str] = (), nav: Nav = ()) -> str:
    """The page of sections, the newest first."""
    return render("history.html", sections=[Markup(each) for each in sections], problems=problems, nav=nav)  # noqa: S704
