"""What the user is told when something does not work.

Every expected failure is a :class:`HeadroomError`: one clear sentence and a next step. The
command line prints both and exits with its ``exit_code``; a traceback is always our defect.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


class HeadroomError(Exception):
    """An expected failure.

    :param sentence: what is wrong, naming the thing it is wrong with
    :param next_step: what the reader can do about it
    """

    exit_code = 1

    def __init__(self, sentence: str, next_step: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.sentence} {self.next_step}"


class UsageError(HeadroomError):
    """What was asked for makes no sense; nothing was tried."""

    exit_code = 2


class OutputError(HeadroomError):
    """A file that was asked for cannot be written."""


class StoreError(HeadroomError):
    """A profile store cannot be read or written."""


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say in a sentence why nothing can be written there.

    :raises StoreError: for every OSError
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}.", "Give a folder with room that you own."
        ) from error
