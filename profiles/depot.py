"""Where nodes leave their parts, and whoever sizes a cluster takes them from: a folder, or an object store.

    node   agent --> node.db --push--> depot/usage/node~prod~worker-1~1794700800~1794704400~...parquet
    node   agent --> node.db --push-->   ...                                      |
                                                                                gather --> store

The last file of a part to come is the one in ``recordings/``: without it the part is not there.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from profiles.errors import HeadroomError, writing
from profiles.parts import TABLES, Part

_CHUNK_BYTES = 1 << 20
_SECRETS = (
    (re.compile(r"//[^@]*@"), "//***@"),
    (re.compile(r"([?&](?!(?:endpoint_override|scheme|region)=)[^=&\s]*=)[^&\s]*"), r"\1***"),
)


@dataclass(frozen=True, slots=True)
class Depot:
    """An open depot.

    :ivar name: as it was given, without a secret that was in it
    """

    name: str
    files: fs.FileSystem
    root: str

    @classmethod
    def at(cls, name: str) -> Depot:
        """Of a folder, or of ``s3://bucket/path``, ``gs://bucket/path``, ``abfss://...``.

        Who one is there is what the environment says, as with each cloud's own tools.

        :raises HeadroomError: when it is no such place
        """
        if "://" not in name:
            return cls(name, fs.LocalFileSystem(), str(Path(name).absolute()))
        shown = _without_secrets(name)
        with _explained(shown):
            files, root = fs.FileSystem.from_uri(name)
            if not root.strip("/"):
                raise ValueError("it names no bucket")
        return cls(shown, files, root.rstrip("/") if isinstance(files, fs.LocalFileSystem) else root.strip("/"))

    @property
    def is_folder(self) -> bool:
        """Whether it is one of this machine."""
        return isinstance(self.files, fs.LocalFileSystem)

    def parts(self) -> list[Part]:
        """The parts that are whole, in order.

        :raises HeadroomError: when it cannot be listed, or there is no such bucket
        """
        files = list(self._listed("recordings"))
        if not files and not self.is_folder:
            bucket = self.root.split("/")[0]
            with _explained(self.name):
                if self.files.get_file_info(bucket).type == fs.FileType.NotFound:
                    raise FileNotFoundError(f"there is no bucket {bucket}")
        found = (Part.of_file(file) for file in files if not file.endswith(".part"))
        return sorted({part for part in found if part is not None})

    def listing(self) -> dict[Part, list[tuple[str, str]]]:
        """Tables and names of the files of every part, those of recordings last."""
        found: dict[Part, list[tuple[str, str]]] = defaultdict(list)
        for table in TABLES:
            for file in self._listed(table):
                part = Part.of_file(file)
                if part is not None and not file.endswith(".part"):
                    found[part].append((table, file))
        return found

    def put(self, part: Part, folder: Path) -> None:
        """Copy a part there; it is seen when all of it is.

        :raises HeadroomError: when it cannot be
        """
        for table in TABLES:
            for file in sorted((folder / table).glob(f"{part.prefix}-*.parquet")):
                with _explained(self.name):
                    self._write(file.read_bytes(), self._path(table, file.name))

    def leave(self, name: str, data: bytes) -> None:
        """Put a file there, whole or not at all; one of the same name is replaced.

        :raises HeadroomError: when it cannot be
        """
        with _explained(self.name):
            self._write(data, self._path(name))

    def take(self, files: Iterable[tuple[str, str]], folder: Path) -> None:
        """Copy files of a :meth:`listing` into the store at `folder`.

        :raises HeadroomError: when one cannot be read
        """
        for table, file in files:
            with _explained(self.name), self.files.open_input_stream(self._path(table, file)) as source:
                _copy(source, folder / table / file)

    def forget(self, before_unix_seconds: float) -> None:
        """Delete the parts that ended before then, of whatever node, and what is left of their like.

        :raises HeadroomError: when one cannot be
        """
        for table in reversed(TABLES):
            for file in self._listed(table):
                part = Part.of_file(file)
                if part is not None and part.end < before_unix_seconds:
                    with _explained(self.name), contextlib.suppress(FileNotFoundError):  # another was quicker
                        self.files.delete_file(self._path(table, file))

    def _path(self, *names: str) -> str:
        return posixpath.join(self.root, *names)

    def _listed(self, table: str) -> Iterator[str]:
        selector = fs.FileSelector(self._path(table), allow_not_found=True)
        with _explained(self.name):
            infos = self.files.get_file_info(selector)
        yield from sorted(each.base_name for each in infos if each.type == fs.FileType.File)

    def _write(self, data: bytes, path: str) -> None:
        # an object is there once it is whole; a file as soon as it is begun
        if self.is_folder:
            self.files.create_dir(posixpath.dirname(path))
        begun = f"{path}.{uuid.uuid4().hex[:8]}.part" if self.is_folder else path
        with self.files.open_output_stream(begun) as target:
            target.write(data)
        if self.is_folder:
            self.files.move(begun, path)


def _copy(source: pa.NativeFile, path: Path) -> None:
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.open("wb")
    with target:
        while chunk := source.read(_CHUNK_BYTES):
            with writing(path.parent):
                target.write(chunk)


def _without_secrets(text: str) -> str:
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        text = _without_secrets(" ".join(str(error).split())).rstrip(".") or type(error).__name__
        raise HeadroomError(
            f"{name} cannot be used: {text[:200]}.",
            "Give a folder, s3://bucket/path, gs://... or abfss://..., and the right to it in the environment.",
        ) from error
