"""Store, policy and prices -> the document that reports are drawn from -> files, and messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headroom import __version__
from headroom.delivery.ledger import UNKNOWN, Ledger
from headroom.delivery.message import Message, Target
from headroom.delivery.sending import Sent, send_all
from headroom.keep import Keep
from headroom.patching import patches_of
from headroom.remembered import id_of, last_before, stamp_of
from headroom.sizing import size_store, write_report
from policies.prices import Prices, load_prices
from policies.strict_yaml import PolicyError
from profiles.errors import HeadroomError, UsageError
from recommender.autoscaler import retargets
from recommender.history import Recording
from recommender.inputs.inventory_file import read_inventories
from recommender.inventory import Node
from recommender.recommendation import Recommendation
from recommender.reserved import rates_of
from reports import machine
from reports.changes import changes_since
from reports.document import report_document
from reports.html import to_html
from reports.markdown import change_lines, summary_lines, to_markdown
from reports.metrics import to_metrics

_FORMS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    ".html": to_html,
    ".md": to_markdown,
    ".json": machine.to_json,
    ".csv": lambda document: machine.to_csv([_for_a_sheet(each) for each in document["recommendations"]]),
    ".prom": to_metrics,
}
_SENT = (".html", ".md", ".json")
_NOT_IN_SHEETS = ("timeline", "fit", "patch", "rollback", "patch_command", "patch_name")


def report_of(store: Path, policy_name: str, prices: Path | None) -> dict[str, Any]:
    """The document of everything in `store`.

    :raises profiles.errors.HeadroomError: when store, policy or prices cannot be read
    """
    known = read_prices(prices)
    recording, rows = size_store(store, policy_name, keep=Keep.DRAWN)
    return document_of(recording, rows, known, nodes_of(store))


def document_of(
    recording: Recording, rows: Sequence[Recommendation], prices: Prices, nodes: Sequence[Node] = ()
) -> dict[str, Any]:
    """The document of what has been sized."""
    return report_document(
        recording, rows, patches_of(rows).by_container, rates_of(prices, nodes), __version__, retargets(rows)
    )


def read_prices(path: Path | None) -> Prices:
    """The prices of a file, or the default ones.

    :raises UsageError: when they cannot be read
    """
    try:
        return load_prices(path)
    except PolicyError as error:  # policies stands beside profiles and does not know its errors
        raise UsageError(error.sentence, error.next_step) from error


def nodes_of(store: Path, cluster: str | None = None) -> list[Node]:
    """The nodes of the clusters in a store, or of one of them; a single host's has none."""
    inventories = read_inventories(store) if store.is_dir() else []
    return [node for each in inventories if cluster in (None, each.cluster) for node in each.nodes]


def history_beside(store: Path) -> Path:
    """Where reports of a store are remembered: in its folder, or beside its file."""
    return store / "reports" if store.is_dir() else store.with_name(f"{store.name}.reports")


def with_changes(document: dict[str, Any], since: str, folder: Path) -> dict[str, Any]:
    """The document with what came since the last report, or since that of a file; the first has no last one.

    :raises profiles.errors.HeadroomError: when it cannot be read
    """
    if since == "last":
        last = last_before(folder, document)
        return document | {"changes": changes_since(last.read(), document) if last is not None else None}
    try:
        last = json.loads(Path(since).read_text(encoding="utf-8"))
        last["recording"]["end_unix_seconds"] = float(last["recording"]["end_unix_seconds"])
        return document | {"changes": changes_since(last, document)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{since} is no report: {getattr(error, 'strerror', None) or 'it is not what --out FILE.json writes'}.",
            "Give --since last, or a file that headroom report --out FILE.json wrote.",
        ) from error


def form_of(out: Path) -> Callable[[Mapping[str, Any]], str]:
    """What is written there, by its name.

    :raises UsageError: when that says nothing
    """
    if out.suffix not in _FORMS:
        raise UsageError(f"{out} could be anything.", f"Give --out a file that ends with {', '.join(_FORMS)}.")
    return _FORMS[out.suffix]


def write(document: Mapping[str, Any], out: Path, form: Callable[[Mapping[str, Any]], str]) -> None:
    """Write it.

    :raises OutputError: when it cannot be written
    """
    write_report(form(document), out)


def send(document: Mapping[str, Any], targets: Sequence[Target], history: Path, retry_seconds: float) -> list[Sent]:
    """Send it to each target that does not have it yet.

    :raises StoreError: when it cannot be written down what was sent
    """
    return send_all(message_of(document), targets, Ledger(history / "sent.json"), retry_seconds)


def message_of(document: Mapping[str, Any]) -> Message:
    """The document as it is sent."""
    containers, summary = document["summary"]["containers"], summary_lines(document)
    return Message(
        id_of(document),
        stamp_of(document),
        f"headroom: {containers} containers, {summary[0]}",
        summary,
        change_lines(document) if document.get("changes") else [],
        to_markdown(document),
        {f"report{suffix}": _FORMS[suffix](document).encode() for suffix in _SENT},
    )


def check(sent: Sequence[Sent]) -> None:
    """:raises HeadroomError: when somebody did not get it."""
    failed = [each for each in sent if each.failed]
    if failed:
        names = ", ".join(each.shown for each in failed)
        unknown = [each for each in failed if each.state == UNKNOWN]
        again = "Run it again: those who have it are not sent it twice." if len(unknown) < len(failed) else ""
        ask = "Ask whether it arrived: it is not sent again." if unknown else ""
        raise HeadroomError(
            f"{len(failed)} of {len(sent)} did not confirm the report: {names}.", f"{again} {ask}".strip()
        )


def _for_a_sheet(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _NOT_IN_SHEETS}
