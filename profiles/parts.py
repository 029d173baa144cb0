"""Parts of a Parquet store: files that came together, whose names say of what and of which time.

    fleet/usage/prometheus~prod~shop~1794700800~1795305600-00000.parquet
                |          |    |    |          `- until; of a node ~STORE.WINDOW follows: its last window
                |          |    |    `- from, in unix seconds
                |          |    `- namespace, or node
                |          `- cluster
                `- source

A part is whole once its file in ``recordings/`` is there: that one is written last, and deleted first.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from profiles.errors import StoreError, UsageError, writing
from profiles.tables import SCHEMAS

#: Of the order in which the files of a part are to come; the last says that it is whole.
TABLES = (*(table for table in SCHEMAS if table != "recordings"), "recordings")

#: Source of the parts that Prometheus' answers make.
PROMETHEUS = "prometheus"

_FILE = re.compile(
    r"(?P<source>[a-z]+)~(?P<cluster>[^~]+)~(?P<of>[^~]+)~(?P<start>\d+)~(?P<end>\d+)"
    r"(~(?P<store>[0-9a-z]+)\.(?P<window>\d+))?-\d+\.parquet(\.[0-9a-f]+)?(\.part)?"
)
_NAME = re.compile(r"\w[\w.:@-]*")


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Rows of one namespace, or from one node, that stand in files of one name.

    :ivar source: ``prometheus``, ``node``, or ``nodes`` of what many nodes gave
    :ivar start, end: whole unix seconds
    :ivar store, window: of a node: which store it is from, and the id of the last window that is in it
    """

    source: str
    cluster: str
    of: str
    start: int
    end: int
    store: str = ""
    window: int = 0

    @property
    def prefix(self) -> str:
        """How its files are called."""
        last = f"~{self.store}.{self.window}" if self.store else ""
        return f"{self.source}~{self.cluster}~{self.of}~{self.start}~{self.end}{last}"

    @classmethod
    def of_file(cls, name: str) -> Part | None:
        """Whose file it is; None where it is no part's."""
        match = _FILE.fullmatch(name)
        if match is None:
            return None
        times = int(match["start"]), int(match["end"])
        last = match["store"] or "", int(match["window"] or 0)
        return cls(match["source"], match["cluster"], match["of"], *times, *last)

    def overlaps(self, other: Part) -> bool:
        """Whether some of its time is the other's, too."""
        return self.start < other.end and other.start < self.end


def checked_name(name: str, what: str) -> str:
    """A name that can stand in the names of files.

    :param what: of what, as ``--cluster``
    :raises UsageError: when it cannot
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a name here.", f"Give {what} with letters, digits, . _ : @ or -.")
    return name


def parts_in(folder: Path, table: str = "recordings", *, unfinished: bool = False) -> Iterator[Part]:
    """The parts that have a file of that table; by default those that are whole."""
    if not (folder / table).is_dir():
        return
    for file in (folder / table).iterdir():
        part = Part.of_file(file.name)
        if part is not None and file.name.endswith(".part") == unfinished:
            yield part


def delete_part(folder: Path, part: Part) -> None:
    """Remove its files: first what says that the rest is there.

    :raises profiles.errors.StoreError: when they cannot be
    """
    with writing(folder):
        for table in reversed(TABLES):
            for file in (folder / table).glob(f"{part.prefix}-*"):
                file.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else brings parts into the store meanwhile; what somebody who was killed left is removed.

    :raises profiles.errors.StoreError: when somebody does, or the folder cannot be used
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".pull").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"Another pull into {folder} is under way.", "Wait for its end.") from error
        whole = set(parts_in(folder))
        found = [{*parts_in(folder, table), *parts_in(folder, table, unfinished=True)} for table in TABLES]
        for part in set().union(*found) - whole:
            delete_part(folder, part)
        for left in folder.glob(".gather-*"):
            shutil.rmtree(left)
        yield
