"""The store on one host: an SQLite file in WAL mode.

A window is written in one transaction, so a killed agent loses the open window and nothing
else, and readers see whole windows while the agent goes on writing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from profiles.columns import (
    UnreadableRow,
    drop_of,
    peer_columns,
    peer_of,
    traffic_columns,
    traffic_of,
    usage_columns,
    usage_of,
    window_columns,
    window_of,
)
from profiles.errors import StoreError
from profiles.schema import CONTRACT_VERSION, DropRow, Identity, PeerRow, TrafficRow, UsageRow, Window
from profiles.sqlite_file import (
    ADDED,
    APPLICATION_ID,
    IDENTITY,
    LATER,
    TABLES,
    address,
    check_version,
    explained,
    locked,
)

log = logging.getLogger("headroom.store")

_CACHE_KIB = 256
_LIGHT = {"limit_bank": None, "burst_bins": b""}
_BETWEEN = "BETWEEN :after + 1 AND :through"


class StoreWriter:
    """Appends windows. One writer per file: a lock file beside it (``-lock``) sees to that."""

    def __init__(self, path: Path) -> None:
        """Open or create the store at `path`.

        :raises StoreError: when the file is not ours, of another version, being written by
            another agent, or cannot be written
        """
        self.path = path
        self._instances: dict[Identity, int] = {}  # of the last window and this one: pods come and go for ever
        self._present: set[Identity] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = locked(path)
            try:
                self._open()
            except BaseException:
                self._release()
                raise
        except OSError as error:
            raise StoreError(
                f"{path} cannot be written: {error.strerror}.", "Give --store a file in a folder that you own."
            ) from error

    def _open(self) -> None:
        with explained(self.path):
            self._db = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise
        self._instances.clear()
        self._inode = self.path.stat().st_ino

    def _prepare(self) -> None:
        self._db.execute("PRAGMA foreign_keys = ON")
        if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            check_version(self._db, self.path)
        else:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {CONTRACT_VERSION}")
            self._db.executescript(TABLES)
        self._db.executescript(LATER)
        for table, column in ADDED:
            if column not in {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
        if not self._db.execute("SELECT count(*) FROM store").fetchone()[0]:
            self._db.execute("INSERT INTO store VALUES (?)", (uuid.uuid4().hex[:12],))
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")  # rows are appended: nothing is read twice

    def _release(self) -> None:
        Path(f"{self.path}-lock").unlink(missing_ok=True)
        os.close(self._lock)

    def _reopen_if_gone(self) -> None:
        """A store that was deleted or moved away is begun anew: no window goes into nowhere."""
        if self.path.exists() and self.path.stat().st_ino == self._inode:
            return
        log.warning("%s was deleted or moved while recording; a new one is begun", self.path)
        self._db.close()
        for suffix in ("-wal", "-shm"):  # of the file that is gone
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self._open()

    def write(
        self,
        window: Window,
        traffic: Iterable[TrafficRow],
        usage: Iterable[UsageRow],
        peers: Iterable[PeerRow] = (),
        drops: Iterable[DropRow] = (),
    ) -> None:
        """Store one window with its rows, all or nothing.

        :raises StoreError: when the disk is full or the file is gone; nothing stored is lost
        """
        with explained(self.path):
            self._reopen_if_gone()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                window_id = self._insert("windows", window_columns(window))
                for row in traffic:
                    self._insert("traffic", self._keyed(window_id, row.identity) | traffic_columns(row))
                for each in usage:
                    self._insert("usage", self._keyed(window_id, each.identity) | usage_columns(each))
                for peer in peers:
                    self._insert("peers", self._keyed(window_id, peer.identity) | peer_columns(peer))
                for drop in drops:
                    dropped = {"reason": drop.reason, "packets": drop.packets}
                    self._insert("drops", self._keyed(window_id, drop.identity) | dropped)
                self._db.execute("COMMIT")
                self._instances = {identity: self._instances[identity] for identity in self._present}
                self._present.clear()
            except BaseException:
                self._present.clear()
                self._instances.clear()  # ids given inside this transaction are void
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def prune(self, before_unix_seconds: float) -> int:
        """Delete windows that ended before then; returns how many."""
        with explained(self.path):
            cursor = self._db.execute(
                "DELETE FROM windows WHERE start_unix_seconds + duration_seconds < ?", (before_unix_seconds,)
            )
            return cursor.rowcount

    def close(self) -> None:
        """Fold the log back into the file, if there is room, and close it."""
        with contextlib.suppress(sqlite3.Error):  # what is in the log is stored as well
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
        self._release()

    def _keyed(self, window_id: int, identity: Identity) -> dict[str, Any]:
        if identity not in self._instances:
            values = asdict(identity)
            self._db.execute(
                f"INSERT OR IGNORE INTO instances ({', '.join(IDENTITY)}) VALUES ({_marks(IDENTITY)})", values
            )
            where = " AND ".join(f"{name} = :{name}" for name in IDENTITY)
            self._instances[identity] = self._db.execute(f"SELECT id FROM instances WHERE {where}", values).fetchone()[
                0
            ]
        self._present.add(identity)
        return {"window_id": window_id, "instance_id": self._instances[identity]}

    def _insert(self, table: str, values: Mapping[str, Any]) -> int:
        cursor = self._db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({_marks(values)})", values)
        return cursor.lastrowid or 0


class StoreReader:
    """Reads a store, also while an agent writes it."""

    def __init__(self, path: Path, after: int = 0, through: int = 2**62) -> None:
        """Open the store at `path`.

        :param after, through: ids of windows: those between, the last included, and their rows
        :raises StoreError: when it is missing, empty, corrupt, not ours or of another version
        """
        self.path, self._between = path, {"after": after, "through": through}
        try:
            found = path.is_file() and path.stat().st_size
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}.", "Ask its owner for the right to.") from error
        if found is False:
            raise StoreError(f"There is no store at {path}.", f"Record one: headroom record --store {path}")
        if not found:
            raise StoreError(f"{path} is empty.", f"Record into it: headroom record --store {path}")
        with explained(path):
            self._db = sqlite3.connect(address(path), uri=True, timeout=5.0)
            try:
                self._begin()
            except BaseException:
                self._db.close()
                raise

    def _begin(self) -> None:
        self._db.execute("PRAGMA query_only = ON")
        self._db.row_factory = sqlite3.Row
        check_version(self._db, self.path)
        if not self._db.execute("SELECT EXISTS (SELECT 1 FROM windows)").fetchone()[0]:
            raise StoreError(
                f"{self.path} holds no window yet.", "Let headroom record run for at least one window (10 s)."
            )
        self._db.execute("BEGIN")  # one snapshot for everything that is read

    def windows(self) -> Iterator[tuple[int, Window]]:
        """Every window with its id, in the order of recording."""
        with explained(self.path):
            for row in self._db.execute(f"SELECT * FROM windows WHERE id {_BETWEEN} ORDER BY id", self._between):
                yield row["id"], window_of(dict(row))

    def origin(self) -> str:
        """Which store this is, wherever its file lies; empty of one that an older headroom wrote alone."""
        with explained(self.path):
            found = self._db.execute("SELECT name FROM store").fetchone() if self._has("store") else None
            return str(found[0]) if found else ""

    def cluster(self) -> str | None:
        """Of the rows that came last; None where there are none."""
        with explained(self.path):
            for table in ("usage", "traffic"):
                found = self._db.execute(
                    f"SELECT cluster FROM {table} JOIN instances ON instances.id = instance_id "
                    "ORDER BY window_id DESC LIMIT 1"
                ).fetchone()
                if found:
                    return str(found[0])
            return None

    def traffic(self) -> Iterator[tuple[int, TrafficRow]]:
        """Every traffic row with the id of its window."""
        with explained(self.path):
            for window_id, identity, row in self._rows("traffic"):
                yield window_id, traffic_of(identity, row)

    def usage(self, *, heavy: bool = True) -> Iterator[tuple[int, UsageRow]]:
        """Every usage row with the id of its window.

        :param heavy: with limit bank and burst bins, which are most of the work
        """
        candidates: list[float] | None = None
        with explained(self.path):
            for window_id, identity, row in self._rows("usage"):
                usage = usage_of(identity, row if heavy else row | _LIGHT)
                if usage.limit_bank:
                    own = [each.limit_cores for each in usage.limit_bank.candidates]
                    candidates = candidates or own
                    if own != candidates:
                        raise UnreadableRow("limit_bank has other candidates than the rows before")
                yield window_id, usage

    def peers(self) -> Iterator[tuple[int, PeerRow]]:
        """Every peer row with the id of its window; none of a store that is older than they are."""
        with explained(self.path):
            for window_id, identity, row in self._rows("peers") if self._has("peers") else ():
                yield window_id, peer_of(identity, row)

    def drops(self) -> Iterator[tuple[int, DropRow]]:
        """Every drop row with the id of its window; none of a store that is older than they are."""
        with explained(self.path):
            for window_id, identity, row in self._rows("drops") if self._has("drops") else ():
                yield window_id, drop_of(identity, row)

    def close(self) -> None:
        """End the snapshot."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has(self, table: str) -> bool:
        return bool(self._db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone())

    def _rows(self, table: str) -> Iterator[tuple[int, Identity, dict[str, Any]]]:
        known = self._db.execute("SELECT * FROM instances")
        identities = {row["id"]: Identity(*(str(row[name]) for name in IDENTITY)) for row in known}
        rows = self._db.execute(f"SELECT * FROM {table} WHERE window_id {_BETWEEN} ORDER BY window_id", self._between)
        for row in rows:
            if row["instance_id"] not in identities:
                raise UnreadableRow("its instance is missing")
            yield row["window_id"], identities[row["instance_id"]], dict(row)


def _marks(names: Iterable[str]) -> str:
    return ", ".join(f":{name}" for name in names)
