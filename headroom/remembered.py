"""Reports of before, as small documents in a folder: what was advised, to compare the next one with.

A report is called after the end of what it rests on and a digest of what it says, so the same report is there once.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from profiles.errors import StoreError, writing

_NAME = re.compile(r"report~([0-9]{8}T[0-9]{6}Z)~([0-9a-f]{16})\.json\.gz")
_MOST = 120
#: Large, and of no use for a comparison.
_LEFT_OUT = (
    "curve",
    "busiest_curve",
    "timeline",
    "fit",
    "routes",
    "patch",
    "rollback",
    "patch_command",
    "checks",
    "demand",
)


@dataclass(frozen=True, slots=True, order=True)
class Remembered:
    """One report that lies there; they sort by the end of what they rest on, then by when they were made."""

    stamp: str
    made_ns: int
    id: str
    path: Path

    def read(self) -> dict[str, Any]:
        """Its document, without what is large.

        :raises StoreError: when it is damaged
        """
        try:
            document: dict[str, Any] = json.loads(gzip.decompress(self.path.read_bytes()))
            if not isinstance(document, dict) or not {"recording", "recommendations"} <= document.keys():
                raise ValueError("it is no report")  # noqa: TRY301 - as damaged as no JSON
        except (OSError, ValueError, EOFError, zlib.error) as error:
            raise StoreError(
                f"{self.path} cannot be read: {error}.", "Delete it: the one before it is taken then."
            ) from error
        return document


def id_of(document: Mapping[str, Any]) -> str:
    """A digest of what it says; what it is compared with is no part of it."""
    own = {name: value for name, value in document.items() if name != "changes"}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:16]


def stamp_of(document: Mapping[str, Any]) -> str:
    """The end of what it rests on, for names of files."""
    return f"{datetime.fromtimestamp(document['recording']['end_unix_seconds'], UTC):%Y%m%dT%H%M%SZ}"


def remembered_in(folder: Path) -> list[Remembered]:
    """What lies there, the oldest first."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.glob("report~*.json.gz"))
    return sorted(Remembered(match[1], path.stat().st_mtime_ns, match[2], path) for match, path in found if match)


def last_before(folder: Path, document: Mapping[str, Any]) -> Remembered | None:
    """The newest that says something else, and does not rest on later rows."""
    known = (each for each in remembered_in(folder) if each.stamp <= stamp_of(document))
    others = [each for each in known if each.id != id_of(document)]
    return others[-1] if others else None


def remember(folder: Path, document: Mapping[str, Any]) -> None:
    """Put it there, whole or not at all; the oldest go.

    :raises StoreError: when the folder cannot be written
    """
    lean = dict(document) | {
        "recommendations": [
            {name: value for name, value in each.items() if name not in _LEFT_OUT}
            for each in document["recommendations"]
        ]
    }
    path = folder / f"report~{stamp_of(document)}~{id_of(document)}.json.gz"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        begun = path.with_suffix(".part")
        begun.write_bytes(gzip.compress(json.dumps(lean).encode(), mtime=0))
        begun.replace(path)
        for each in remembered_in(folder)[:-_MOST]:
            each.path.unlink(missing_ok=True)
