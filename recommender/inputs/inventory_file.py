"""The inventory that lies beside a Parquet store: what the cluster declared when it was last asked."""

from __future__ import annotations

from pathlib import Path

from profiles.errors import StoreError
from recommender.inventory import Inventory, from_json, to_json

_NAME = "inventory.json"


def read_inventory(folder: Path) -> Inventory | None:
    """The inventory beside the store at `folder`, or None when there is none.

    :raises StoreError: when it cannot be read
    """
    path = folder / _NAME
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            "Delete it and pull again: it is asked for anew each time.",
        ) from error


def write_inventory(folder: Path, inventory: Inventory) -> None:
    """Put it beside the store, whole or not at all.

    :raises StoreError: when the folder cannot be written
    """
    made = folder / f"{_NAME}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made.write_text(to_json(inventory), encoding="utf-8")
        made.rename(folder / _NAME)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}.", "Give --store a folder with room that you own."
        ) from error
