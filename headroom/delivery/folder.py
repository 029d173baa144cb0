"""A report as files: in a folder, or in an object store."""

from __future__ import annotations

from dataclasses import dataclass

from headroom.delivery.message import Message, NotTaken
from profiles.depot import Depot
from profiles.errors import HeadroomError


@dataclass(frozen=True, slots=True)
class Folder:
    """``FOLDER``, ``s3://bucket/path``, ``gs://...`` or ``abfss://...``: a file of each kind, named by its time.

    The same report again replaces its files by the same ones.
    """

    key: str

    @property
    def shown(self) -> str:
        """Without what may be secret in a URL."""
        return self.key.split("?")[0].split("@")[-1]

    def send(self, message: Message) -> None:
        """Write all files.

        :raises NotTaken: when one cannot be written
        """
        try:
            depot = Depot.at(self.key)
            for name, data in message.files.items():
                stem, _, suffix = name.partition(".")
                depot.leave(f"{stem}-{message.stamp}.{suffix}", data)
        except HeadroomError as error:
            raise NotTaken(error.sentence.rstrip(".")) from error
