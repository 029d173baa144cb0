"""Store, policy and prices -> the document that reports are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headroom import __version__
from headroom.keep import Keep
from headroom.patching import patches_of
from headroom.sizing import size_store
from policies.prices import Prices, load_prices
from policies.strict_yaml import PolicyError
from profiles.errors import UsageError
from recommender.autoscaler import retargets
from recommender.history import Recording
from recommender.inputs.inventory_file import read_inventories
from recommender.inventory import Node
from recommender.recommendation import Recommendation
from recommender.reserved import rates_of
from reports.document import report_document


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


def nodes_of(store: Path) -> list[Node]:
    """The nodes of the clusters in a store; a single host's has none."""
    return [node for each in read_inventories(store) for node in each.nodes] if store.is_dir() else []
