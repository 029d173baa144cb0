"""Reports of before as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.html import Nav, render
from reports.markdown import summary_lines


def to_html(reports: Sequence[Mapping[str, Any]], nav: Nav = ()) -> str:
    """The page of documents that were remembered, the newest first."""
    return render("history.html", reports=reports, summary=summary_lines, nav=nav)
