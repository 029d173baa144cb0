"""What is sent, and what may become of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One report for all targets.

    :ivar id: of its content: the same report has the same
    :ivar stamp: for names of files: when what it rests on ended, as 20261122T053000Z
    :ivar title: one line
    :ivar lines: the summary; `changes` since the last one, empty where that was not asked
    :ivar text: all of it in Markdown
    :ivar files: by name, such as report.html
    """

    id: str
    stamp: str
    title: str
    lines: Sequence[str]
    changes: Sequence[str]
    text: str
    files: Mapping[str, bytes]


class NotTaken(Exception):
    """The receiver did not take it, or was not reached; another try may help.

    :param wait_seconds: that it asked to wait
    """

    def __init__(self, sentence: str, wait_seconds: float = 0.0) -> None:
        super().__init__(sentence)
        self.wait_seconds = wait_seconds


class Refused(Exception):
    """The receiver will not take it, however often it is tried."""


class Unknown(Exception):
    """All of it was sent, and no answer came: it may have arrived."""


class Target(Protocol):
    """Where a message goes."""

    @property
    def key(self) -> str:
        """Who it is, secrets included; only a digest of it is ever written."""

    @property
    def shown(self) -> str:
        """The same without secrets."""

    def send(self, message: Message) -> None:
        """Send it once.

        :raises NotTaken, Refused, Unknown: as they say
        """
