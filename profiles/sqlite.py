"""The store on one host: an SQLite file in WAL mode.

A window is written in one transaction, so a killed agent loses the open window and nothing
else, and readers see whole windows while the agent goes on writing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self

from profiles.errors import StoreError
from profiles.histogram import Histogram, UnknownLayout
from profiles.limit_bank import LimitBank
from profiles.schema import CONTRACT_VERSION, Identity, TrafficRow, UsageRow, Window

#: "head" in ASCII: tells our files from other SQLite files.
APPLICATION_ID = 0x68656164

_IDENTITY = [each.name for each in fields(Identity)]
_USAGE = [each.name for each in fields(UsageRow) if each.name != "identity"]
_TRAFFIC_KEY = ["role", "protocol", "tls", "method", "route", "status"]
_TRAFFIC = [*_TRAFFIC_KEY, "requests", "latency", "latency_seconds_sum", "request_bytes", "response_bytes"]
_BURST = struct.Struct("<HI")

_TABLES = f"""
CREATE TABLE instances (
    id INTEGER PRIMARY KEY, {", ".join(f"{name} TEXT NOT NULL" for name in _IDENTITY)},
    UNIQUE ({", ".join(_IDENTITY)})
);
CREATE TABLE windows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, start_unix_seconds REAL NOT NULL, duration_seconds REAL NOT NULL,
    clock_step_seconds REAL NOT NULL, lost TEXT NOT NULL, agent TEXT NOT NULL
);
CREATE TABLE traffic (
    window_id INTEGER NOT NULL REFERENCES windows ON DELETE CASCADE,
    instance_id INTEGER NOT NULL REFERENCES instances, {", ".join(_TRAFFIC)},
    PRIMARY KEY (window_id, instance_id, {", ".join(_TRAFFIC_KEY)})
) WITHOUT ROWID;
CREATE TABLE usage (
    window_id INTEGER NOT NULL REFERENCES windows ON DELETE CASCADE,
    instance_id INTEGER NOT NULL REFERENCES instances, {", ".join(_USAGE)},
    PRIMARY KEY (window_id, instance_id)
) WITHOUT ROWID;
"""


class StoreWriter:
    """Appends windows; one writer per file."""

    def __init__(self, path: Path) -> None:
        """Open or create the store at `path`.

        :raises StoreError: when the file is not ours, of another version, or cannot be written
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _explained(path):
                self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
                self._db.execute("PRAGMA foreign_keys = ON")
                new = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                if new:
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    self._db.execute(f"PRAGMA user_version = {CONTRACT_VERSION}")
                    self._db.executescript(_TABLES)
                else:
                    _check_version(self._db, path)
                self._db.execute("PRAGMA synchronous = NORMAL")
        except OSError as error:
            raise StoreError(
                f"{path} cannot be written: {error.strerror}.", "Give --store a file in a folder that you own."
            ) from error
        self._instances: dict[Identity, int] = {}

    def write(self, window: Window, traffic: Iterable[TrafficRow], usage: Iterable[UsageRow]) -> None:
        """Store one window with its rows, all or nothing.

        :raises StoreError: when the disk is full or the file is gone; nothing stored is lost
        """
        with _explained(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                window_id = self._insert(
                    "windows",
                    {**asdict(window), "lost": json.dumps(window.lost), "agent": json.dumps(window.agent)},
                )
                for row in traffic:
                    self._insert("traffic", self._keyed(window_id, row.identity) | _traffic_columns(row))
                for each in usage:
                    self._insert("usage", self._keyed(window_id, each.identity) | _usage_columns(each))
                self._db.execute("COMMIT")
            except BaseException:
                self._instances.clear()  # ids given inside this transaction are void
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def prune(self, before_unix_seconds: float) -> int:
        """Delete windows that ended before then; returns how many."""
        with _explained(self.path):
            cursor = self._db.execute(
                "DELETE FROM windows WHERE start_unix_seconds + duration_seconds < ?", (before_unix_seconds,)
            )
            return cursor.rowcount

    def close(self) -> None:
        """Fold the log back into the file, if there is room, and close it."""
        with contextlib.suppress(sqlite3.Error):  # what is in the log is stored as well
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    def _keyed(self, window_id: int, identity: Identity) -> dict[str, Any]:
        if identity not in self._instances:
            values = asdict(identity)
            self._db.execute(
                f"INSERT OR IGNORE INTO instances ({', '.join(_IDENTITY)}) VALUES ({_marks(_IDENTITY)})", values
            )
            where = " AND ".join(f"{name} = :{name}" for name in _IDENTITY)
            self._instances[identity] = self._db.execute(f"SELECT id FROM instances WHERE {where}", values).fetchone()[
                0
            ]
        return {"window_id": window_id, "instance_id": self._instances[identity]}

    def _insert(self, table: str, values: Mapping[str, Any]) -> int:
        cursor = self._db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({_marks(values)})", values)
        return cursor.lastrowid or 0


class StoreReader:
    """Reads a store, also while an agent writes it."""

    def __init__(self, path: Path) -> None:
        """Open the store at `path`.

        :raises StoreError: when it is missing, empty, corrupt, not ours or of another version
        """
        self.path = path
        if not path.is_file():
            raise StoreError(f"There is no store at {path}.", f"Record one: headroom record --store {path}")
        if not path.stat().st_size:
            raise StoreError(f"{path} is empty.", f"Record into it: headroom record --store {path}")
        with _explained(path):
            # Reading a WAL file takes its log: with the right to write, the last reader tidies it up.
            writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
            self._db = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={'rw' if writable else 'ro'}", uri=True, timeout=5.0
            )
            self._db.execute("PRAGMA query_only = ON")
            self._db.row_factory = sqlite3.Row
            _check_version(self._db, path)
            if not self._db.execute("SELECT EXISTS (SELECT 1 FROM windows)").fetchone()[0]:
                raise StoreError(
                    f"{path} holds no window yet.", "Let headroom record run for at least one window (10 s)."
                )
            self._db.execute("BEGIN")  # one snapshot for everything that is read

    def windows(self) -> Iterator[tuple[int, Window]]:
        """Every window with its id, in the order of recording."""
        with _explained(self.path):
            for row in self._db.execute("SELECT * FROM windows ORDER BY id"):
                values = dict(row)
                window_id = values.pop("id")
                values["lost"], values["agent"] = json.loads(values["lost"]), json.loads(values["agent"])
                yield window_id, Window(**values)

    def traffic(self) -> Iterator[tuple[int, TrafficRow]]:
        """Every traffic row with the id of its window."""
        with _explained(self.path):
            for window_id, identity, values in self._rows("traffic"):
                values.pop("requests")
                values["latency"] = Histogram.from_bytes(values["latency"])
                values["tls"] = bool(values["tls"])
                yield window_id, TrafficRow(identity, **values)

    def usage(self) -> Iterator[tuple[int, UsageRow]]:
        """Every usage row with the id of its window."""
        with _explained(self.path):
            for window_id, identity, values in self._rows("usage"):
                if values["limit_bank"] is not None:
                    values["limit_bank"] = LimitBank.from_bytes(values["limit_bank"])
                values["burst_bins"] = dict(_BURST.iter_unpack(values["burst_bins"]))
                values["ended"] = bool(values["ended"])
                yield window_id, UsageRow(identity, **values)

    def close(self) -> None:
        """End the snapshot."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, table: str) -> Iterator[tuple[int, Identity, dict[str, Any]]]:
        identities = {row["id"]: Identity(*(row[name] for name in _IDENTITY)) for row in self._all("instances")}
        for row in self._all(table):
            values = dict(row)
            yield values.pop("window_id"), identities[values.pop("instance_id")], values

    def _all(self, table: str) -> Iterator[sqlite3.Row]:
        yield from self._db.execute(f"SELECT * FROM {table}")


def _traffic_columns(row: TrafficRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _TRAFFIC} | {"latency": row.latency.to_bytes()}


def _usage_columns(row: UsageRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _USAGE} | {
        "limit_bank": row.limit_bank.to_bytes() if row.limit_bank else None,
        "burst_bins": b"".join(_BURST.pack(*entry) for entry in sorted(row.burst_bins.items())),
    }


def _marks(names: Iterable[str]) -> str:
    return ", ".join(f":{name}" for name in names)


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is an SQLite file, but not a headroom store.", "Give --store another file.")
    if version != CONTRACT_VERSION:
        raise StoreError(
            f"{path} has version {version} of the profile contract; this headroom reads version {CONTRACT_VERSION}.",
            "Read it with the headroom that wrote it, or record into a new file.",
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into a sentence with a next step."""
    try:
        yield
    except (UnknownLayout, struct.error) as error:
        raise StoreError(
            f"{path} holds a row that this headroom cannot read ({error}).", "Read it with the headroom that wrote it."
        ) from error
    except sqlite3.Error as error:
        text = str(error)
        if "full" in text:
            raise StoreError(
                f"No room left on the disk of {path}.", "Free some space; what is stored is safe and counting goes on."
            ) from error
        if "locked" in text or "busy" in text:
            raise StoreError(
                f"{path} is being written by another agent.", "Stop that one, or record into another file."
            ) from error
        if "not a database" in text or "malformed" in text or "corrupt" in text:
            raise StoreError(
                f"{path} is damaged or not a headroom store ({text}).", "Restore it from a copy, or record anew."
            ) from error
        raise StoreError(
            f"{path} cannot be used: {text}.", "Check that the file and its folder can be read."
        ) from error
