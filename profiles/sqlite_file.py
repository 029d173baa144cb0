"""The SQLite file of a store: its tables, who may write it, and what is wrong with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from profiles.columns import DROPS, PEERS, PEERS_KEY, TRAFFIC, TRAFFIC_KEY, USAGE
from profiles.errors import StoreError
from profiles.schema import CONTRACT_VERSION, Identity

#: "head" in ASCII: tells our files from other SQLite files.
APPLICATION_ID = 0x68656164

#: Columns of table ``instances``.
IDENTITY = [each.name for each in fields(Identity)]

TABLES = f"""
CREATE TABLE instances (
    id INTEGER PRIMARY KEY, {", ".join(f"{name} TEXT NOT NULL" for name in IDENTITY)},
    UNIQUE ({", ".join(IDENTITY)})
);
CREATE TABLE windows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, start_unix_seconds REAL NOT NULL, duration_seconds REAL NOT NULL,
    clock_step_seconds REAL NOT NULL, lost TEXT NOT NULL, agent TEXT NOT NULL
);
CREATE TABLE traffic (
    window_id INTEGER NOT NULL REFERENCES windows ON DELETE CASCADE,
    instance_id INTEGER NOT NULL REFERENCES instances, {", ".join(TRAFFIC)},
    PRIMARY KEY (window_id, instance_id, {", ".join(TRAFFIC_KEY)})
) WITHOUT ROWID;
CREATE TABLE usage (
    window_id INTEGER NOT NULL REFERENCES windows ON DELETE CASCADE,
    instance_id INTEGER NOT NULL REFERENCES instances, {", ".join(USAGE)},
    PRIMARY KEY (window_id, instance_id)
) WITHOUT ROWID;
"""
#: Stores that were begun before these go without, until an agent writes them again.
LATER = f"""
CREATE TABLE IF NOT EXISTS store (name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS peers (
    window_id INTEGER NOT NULL REFERENCES windows ON DELETE CASCADE,
    instance_id INTEGER NOT NULL REFERENCES instances, {", ".join(PEERS)},
    PRIMARY KEY (window_id, instance_id, {", ".join(PEERS_KEY)})
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS drops (
    window_id INTEGER NOT NULL REFERENCES windows ON DELETE CASCADE,
    instance_id INTEGER NOT NULL REFERENCES instances, {", ".join(DROPS)},
    PRIMARY KEY (window_id, instance_id, reason)
) WITHOUT ROWID;
"""

#: Columns that came later, by table: a store that was begun before them is given them when an agent writes it again.
ADDED = (("usage", "runtime"),)


def locked(path: Path) -> int:
    """A descriptor that holds the writer's lock; the kernel frees it however the agent ends."""
    descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise _written_by_another(path) from error
    return descriptor


def address(path: Path) -> str:
    """How to open a store for reading.

    Its log needs writing: with the right to, the last reader tidies it up; without, a file with
    no log is read as it stands.
    """
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        mode = "mode=rw"
    else:
        mode = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    return f"{path.resolve().as_uri()}?{mode}"


def _written_by_another(path: Path) -> StoreError:
    return StoreError(f"{path} is being written by another agent.", "Stop that one, or record into another file.")


def check_version(db: sqlite3.Connection, path: Path) -> None:
    """See that it is ours, and of this version.

    :raises StoreError: when it is not
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is an SQLite file, but not a headroom store.", "Give --store another file.")
    if version != CONTRACT_VERSION:
        raise StoreError(
            f"{path} has version {version} of the profile contract; this headroom reads version {CONTRACT_VERSION}.",
            "Read it with the headroom that wrote it, or record into a new file.",
        )


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into a sentence with a next step."""
    try:
        yield
    except (ValueError, OverflowError, struct.error, LookupError) as error:
        raise StoreError(
            f"{path} holds a row that this headroom cannot read ({error}).",
            "Read it with the headroom that wrote it, restore it from a copy, or record anew.",
        ) from error
    except sqlite3.Error as error:
        text = str(error)
        if "full" in text:
            raise StoreError(
                f"No room left on the disk of {path}.", "Free some space; what is stored is safe and counting goes on."
            ) from error
        if "locked" in text or "busy" in text:
            raise _written_by_another(path) from error
        if "not a database" in text or "malformed" in text or "corrupt" in text:
            raise StoreError(
                f"{path} is damaged or not a headroom store ({text}).", "Restore it from a copy, or record anew."
            ) from error
        raise StoreError(
            f"{path} cannot be used: {text}.", "Look at the file and its folder, or record into a new one."
        ) from error
