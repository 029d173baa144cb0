"""What was sent to whom: written down before it is sent, so that a run that is killed meanwhile is not repeated.

    nothing --begin--> sending --end--> delivered | refused | unknown        none of these is sent again
                          |--take_back--> nothing                            the receiver did not take it
                          |--(killed)---> read as unknown

Who it was is kept as a digest alone: addresses of webhooks are secrets.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from profiles.errors import StoreError, writing

DELIVERED, UNKNOWN, REFUSED = "delivered", "unknown", "refused"
_SENDING = "sending"
_MOST_ENTRIES = 2000


class Ledger:
    """A file of states by message and target."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time; another waits for it.

        :raises StoreError: when the folder cannot be written
        """
        with writing(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = self._path.with_suffix(".lock").open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def state(self, message_id: str, target_key: str) -> str | None:
        """``delivered``, ``refused``, ``unknown``, or None: it may be sent."""
        state = self._read().get(_entry(message_id, target_key))
        return UNKNOWN if state == _SENDING else state

    def begin(self, message_id: str, target_key: str) -> None:
        """It is about to be sent."""
        self._set(_entry(message_id, target_key), _SENDING)

    def end(self, message_id: str, target_key: str, state: str) -> None:
        """What became of it."""
        self._set(_entry(message_id, target_key), state)

    def take_back(self, message_id: str, target_key: str) -> None:
        """It was not taken: it may be sent again."""
        self._set(_entry(message_id, target_key), None)

    def _set(self, entry: str, state: str | None) -> None:
        entries = self._read()
        entries.pop(entry, None)  # the newest come last
        if state is not None:
            entries[entry] = state
        kept = dict(list(entries.items())[-_MOST_ENTRIES:])
        begun = self._path.with_suffix(".part")
        with writing(self._path.parent), begun.open("w", encoding="utf-8") as file:
            json.dump(kept, file, indent=0)
            file.flush()
            os.fsync(file.fileno())
        begun.replace(self._path)

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or not all(isinstance(each, str) for each in content.values()):
                raise ValueError("it holds something else")  # noqa: TRY301 - as damaged as no JSON
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self._path} cannot be read, so it is not known what was sent already.",
                "Delete it; the next report is then sent to every target.",
            ) from error
        return dict(content)


def _entry(message_id: str, target_key: str) -> str:
    return f"{message_id} {hashlib.sha256(target_key.encode()).hexdigest()[:24]}"
