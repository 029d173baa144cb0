"""The inventories that lie beside a Parquet store: what each cluster declared when it was last asked."""

from __future__ import annotations

from pathlib import Path

from profiles.errors import StoreError, writing
from recommender.inventory import Inventory, from_json, to_json


def read_inventories(folder: Path) -> list[Inventory]:
    """The inventories beside the store at `folder`, by cluster; none where it was not pulled.

    :raises StoreError: when one cannot be read
    """
    found = []
    for path in sorted(folder.glob("inventory~*.json")):
        try:
            found.append(from_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.",
                "Delete it and pull again: it is asked for anew each time.",
            ) from error
    return found


def write_inventory(folder: Path, inventory: Inventory) -> None:
    """Put it beside the store, whole or not at all.

    :raises StoreError: when the folder cannot be written
    """
    path = folder / f"inventory~{inventory.cluster}.json"
    made = path.with_suffix(".part")
    with writing(folder):
        made.write_text(to_json(inventory), encoding="utf-8")
        made.rename(path)
