"""Paths -> pages, drawn anew when the store has changed.

A page that is old is shown while the next one is drawn: whoever asks does not wait, but for the very first time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headroom import __version__, reporting
from headroom.keep import Keep
from headroom.planning import question_of, review_of_rows
from headroom.remembered import remembered_in
from headroom.sizing import size_store
from profiles.errors import HeadroomError
from recommender.inputs.recording import read_recording
from reports import apis_page, history, html, machine, metrics, plan

log = logging.getLogger("headroom.serve")

NAV = (("/", "Sizes"), ("/apis", "APIs"), ("/plan", "Capacity"), ("/history", "History"), ("/report.json", "JSON"))
PERIODS = (("/apis", "all"), *((f"/apis/{last}", f"last {last}") for last in ("5m", "15m", "1h", "6h", "24h")))
_SECONDS = {"5m": 300.0, "15m": 900.0, "1h": 3600.0, "6h": 21_600.0, "24h": 86_400.0}
_HTML, _JSON = "text/html; charset=utf-8", "application/json"
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_MOST_REMEMBERED = 30
_PLAN = (12, 90.0, 10.0, None)  # weeks, certainty and room in percent, zones: as the command has them


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Sources:
    """What pages are drawn from."""

    store: Path
    policy_name: str
    prices: Path | None
    history: Path


class Pages:
    """All pages of one store."""

    def __init__(self, sources: Sources, refresh_seconds: float) -> None:
        """Draw them for the first time.

        :param refresh_seconds: the least time from one drawing to the next
        :raises HeadroomError: when store, policy or prices cannot be read
        """
        self._sources, self._refresh = sources, refresh_seconds
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._stamp, self._at = _stamp(sources), time.monotonic()
        self._pages = _drawn(sources)
        self._drawing = False

    def get(self, path: str) -> Page | None:
        """The page at a path; None where there is none."""
        self._draw_anew_if_old()
        last = _SECONDS.get(path.removeprefix("/apis/"))
        if last is not None and path.startswith("/apis/") and not self._sources.store.is_dir():
            return self._of_last(last, path)
        return self._pages.get(path)

    def _of_last(self, seconds: float, path: str) -> Page:
        """Drawn for whoever asks, one at a time: of a node's store that is quick, and as new as can be."""
        with self._asking:
            try:
                recording = read_recording(self._sources.store, seconds)
            except HeadroomError as error:
                return _page(
                    html.render("message.html", title="APIs", sentences=(error.sentence, error.next_step), nav=NAV)
                )
            document = apis_page.apis_document(recording, recording.histories)
            return _page(apis_page.to_html(document, NAV, PERIODS, path))

    def _draw_anew_if_old(self) -> None:
        with self._lock:
            stamp = _stamp(self._sources)
            if self._drawing or stamp == self._stamp or time.monotonic() - self._at < self._refresh:
                return
            self._drawing = True
        threading.Thread(target=self._draw, args=(stamp,), name="drawing", daemon=True).start()

    def _draw(self, stamp: float) -> None:
        try:
            pages = _drawn(self._sources)
        except Exception as error:  # noqa: BLE001 - whatever it is, what is known stays, and the next drawing may work
            log.warning("the pages are not drawn anew: %s", error)
        else:
            self._pages = pages
        finally:
            with self._lock:
                self._stamp, self._at, self._drawing = stamp, time.monotonic(), False


def _drawn(sources: Sources) -> Mapping[str, Page]:
    prices = reporting.read_prices(sources.prices)
    recording, rows = size_store(sources.store, sources.policy_name, keep=Keep.DRAWN)
    document = reporting.document_of(recording, rows, prices, reporting.nodes_of(sources.store))
    served = apis_page.apis_document(recording, [row.history for row in rows])
    return {
        "/": _page(html.to_html(document, NAV)),
        "/apis": _page(apis_page.to_html(served, NAV, () if sources.store.is_dir() else PERIODS)),
        "/plan": _page(_plan(lambda: plan.to_html(
            review_of_rows(recording, rows, sources.store, prices, None, lambda end: question_of(*_PLAN, (), end)), NAV
        ))),
        "/history": _page(_history(sources.history)),
        "/report.json": Page(_JSON, machine.to_json(document).encode()),
        "/apis.json": Page(_JSON, machine.to_json(served).encode()),
        "/metrics": Page(_TEXT, metrics.to_metrics(document).encode()),
        "/healthz": Page(_TEXT, f"ok {__version__}\n".encode()),
    }  # fmt: skip


def _history(folder: Path) -> str:
    """What can be read of it; a file that cannot be takes nothing else along."""
    parts, problems = [], []
    for each in reversed(remembered_in(folder)[-_MOST_REMEMBERED:]):
        try:
            parts.append(history.section(each.read()))
        except (HeadroomError, history.NotOurs) as error:
            problems.append(
                f"{each.path.name} is left out: it is damaged, or of another version ({type(error).__name__})."
            )
    return history.to_html(parts, problems, NAV)


def _plan(drawn: Callable[[], str]) -> str:
    """The capacity review, or why there is none: a host has no nodes to plan."""
    try:
        return drawn()
    except HeadroomError as error:
        return html.render(
            "message.html", title="No capacity review", sentences=(error.sentence, error.next_step), nav=NAV
        )


def _page(text: str) -> Page:
    return Page(_HTML, text.encode())


def _stamp(sources: Sources) -> float:
    """When anything that pages are drawn from was last written."""
    store = sources.store
    files: Any = store.rglob("*") if store.is_dir() else (store, store.with_name(f"{store.name}-wal"))
    others = (sources.history, Path(sources.policy_name), *([sources.prices] if sources.prices else []))
    found = 0.0
    for each in (*files, *others):
        try:
            found = max(found, each.stat().st_mtime)
        except OSError:
            continue
    return found
