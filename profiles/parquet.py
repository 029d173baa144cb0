"""The store past one machine: a folder of Parquet files that any tool can read.

    usage/*.parquet       a row per minute and instance: what is small, in order of time
    profiles/*.parquet    a row per period, busiest tenth of rows or rest, and CPU limit in force: what
                          is heavy (latency histogram, limit bank, burst bins), instances added up
    routes/*.parquet      a row per role, protocol, method, route, status and outcome, over everything
    recordings/*.parquet  a row per store that was exported: how long, what was lost

A row group holds one container, and its statistics say which: the footers are the index, and a
reader takes container by container in bounded memory, from any number of files. Exports of
many nodes, or of one node over time, are files side by side.

Null means "not known", as everywhere in the contract. The schema's metadata says which version
of the contract it is.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from profiles.errors import StoreError, writing
from profiles.parts import Part
from profiles.schema import CONTRACT_VERSION
from profiles.tables import IDENTITY, LATER, PLAIN, SCHEMAS, Key

#: A footer is read whole: few row groups keep it small, many keep files few.
CONTAINERS_PER_FILE = 64

_VERSION_KEY, _TABLE_KEY = b"headroom.contract", b"headroom.table"
#: A day of a node has 72 files of 64 containers, and is read container by container.
_OPEN_FILES = 512

_File = tuple[Path, str]  # and its table
_Footer = tuple[list[Key], tuple[str, str] | None]  # the container of each row group, or why it cannot be told
#: A function over all files, in order.
Each = Callable[[Callable[[_File], _Footer], Iterable[_File]], Iterable[_Footer]]


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: where rows of one container are."""

    path: Path
    index: int


@dataclass(frozen=True, slots=True)
class Stored:
    """One container of a store, still unread. It can be sent to another process."""

    key: Key
    groups: Mapping[str, tuple[Group, ...]]

    @property
    def name(self) -> str:
        """``namespace/workload/container``, as in :class:`profiles.schema.Identity`."""
        return "/".join((self.key[1], self.key[3], self.key[4]))

    def read(self, table: str) -> pa.Table:
        """Its rows of one table, without the columns of its identity; empty when there are none.

        :raises StoreError: when a file is damaged
        """
        schema = pa.schema([field for field in SCHEMAS[table] if field.name not in IDENTITY])
        parts = []
        for group in self.groups.get(table, ()):
            with _explained(group.path):
                parts.append(_read(_opened(group.path, table), group.index, schema))
        if not parts:
            return schema.empty_table()
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts).unify_dictionaries()

    def rows_by_source(self, table: str) -> list[tuple[str, int]]:
        """How many of its rows of one table came from where, in their order: the source of a part, or empty.

        :raises StoreError: when a file is damaged
        """
        made = []
        for group in self.groups.get(table, ()):
            with _explained(group.path):
                part = Part.of_file(group.path.name)
                rows = _opened(group.path, table).metadata.row_group(group.index).num_rows
            made.append((part.source if part is not None else "", rows))
        return made


class ParquetReader:
    """The index of a store: its containers, by name."""

    def __init__(self, path: Path, each: Each = map) -> None:
        """Read every footer below `path`.

        :param each: ``map``, or that of a process pool: the footers of a fleet take seconds and 150 MB
        :raises StoreError: when there is no store, a file is damaged or foreign, or of another version
        """
        self.path = path
        if not path.is_dir():
            raise StoreError(f"There is no folder {path}.", f"Make one: headroom export --store host.db --out {path}")
        _opened.cache_clear()  # files may have been exported anew
        files = [(file, table) for table in ("usage", "profiles", "routes") for file in _files(path, table)]
        found: dict[Key, dict[str, list[Group]]] = {}
        for (file, table), (keys, failed) in zip(files, each(_footer, files), strict=True):
            if failed:
                raise StoreError(*failed)
            for index, key in enumerate(keys):
                found.setdefault(key, {}).setdefault(table, []).append(Group(file, index))
        if not any("usage" in groups for groups in found.values()):
            raise StoreError(
                f"{path} holds no usage.", f"Export a store into it: headroom export --store host.db --out {path}"
            )
        lost = [key for key, groups in found.items() if "usage" not in groups]
        if lost:
            raise StoreError(
                f"{path} has profiles of {lost[0][1]}/{lost[0][3]}/{lost[0][4]} but no usage of it: a file is missing.",
                "Export it again, or copy the whole folder.",
            )
        self.containers = tuple(
            Stored(key, {table: tuple(groups) for table, groups in found[key].items()}) for key in sorted(found)
        )

    def recordings(self) -> list[dict[str, Any]]:
        """Rows of table ``recordings``, by start."""
        rows = self.recordings_of(self.path, "*")
        if not rows:
            raise StoreError(
                f"{self.path} does not say what was recorded: recordings/ is missing.",
                "Export it again, or copy the whole folder.",
            )
        return sorted(rows, key=lambda row: float(row["start_unix_seconds"]))

    @staticmethod
    def recordings_of(path: Path, prefix: str) -> list[dict[str, Any]]:
        """Rows of table ``recordings`` in the files ``PREFIX-*.parquet`` of the store at `path`.

        :raises StoreError: when one is damaged or foreign
        """
        rows: list[dict[str, Any]] = []
        for file in sorted((path / "recordings").glob(f"{prefix}-*.parquet")):
            with _explained(file):
                rows += _opened(file, "recordings").read(use_threads=False).to_pylist()
        return rows


class ParquetWriter:
    """Writes the files ``PREFIX-*.parquet`` of a store; those of an earlier export of that name go."""

    def __init__(self, folder: Path, prefix: str, per_file: int = CONTAINERS_PER_FILE) -> None:
        """Begin an export.

        :raises StoreError: when the folder cannot be written
        """
        self.folder, self._prefix, self._per_file = folder, prefix, per_file
        self._open: dict[str, pq.ParquetWriter] = {}
        self._written: list[Path] = []
        self._part = itertools.count()
        self._containers = 0
        with writing(folder):
            for table in SCHEMAS:
                (folder / table).mkdir(parents=True, exist_ok=True)

    def write(self, key: Key, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Add one container: columns by table, each a sequence that Arrow takes; usage in order of time.

        :raises StoreError: when the disk is full
        """
        if self._containers % self._per_file == 0:
            self._next_file()
        self._containers += 1
        for table, columns in tables.items():
            schema = SCHEMAS[table]
            rows = len(next(iter(columns.values()), ()))
            if not rows:
                continue
            identity = {
                name: pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array([value]))
                for name, value in zip(IDENTITY, key, strict=True)
            }
            arrays = [_array({**identity, **columns}[field.name], field.type) for field in schema]
            with writing(self.folder):
                self._open[table].write_table(pa.Table.from_arrays(arrays, schema=_marked(table)), row_group_size=rows)

    def finish(self, recordings: Iterable[dict[str, Any]]) -> None:
        """Make the files visible, all of them; without it there are none.

        :raises StoreError: when the disk is full
        """
        with writing(self.folder):
            self._close_files()
            path = self._path("recordings", 0)
            rows = [{"files": len(self._written)} | row for row in recordings]
            table = pa.Table.from_pylist(rows, schema=_marked("recordings"))
            pq.write_table(table, path)
            self._written.append(path)
            for table_name in reversed(SCHEMAS):  # first what says that the rest is there
                for old in (self.folder / table_name).glob(f"{self._prefix}-*.parquet"):
                    old.unlink()
            for each in self._written:
                each.rename(each.with_suffix(""))
            self._written = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, pa.ArrowException):
            self._close_files()
        for each in self._written:
            each.unlink(missing_ok=True)

    def _next_file(self) -> None:
        with writing(self.folder):
            self._close_files()
            part = next(self._part)
            for table in ("usage", "profiles", "routes"):
                path = self._path(table, part)
                self._written.append(path)
                self._open[table] = pq.ParquetWriter(
                    path,
                    _marked(table),
                    compression="lz4",
                    use_dictionary=[name for name in SCHEMAS[table].names if name not in PLAIN],
                    column_encoding={"unix_seconds": "DELTA_BINARY_PACKED"} if table == "usage" else None,
                )

    def _path(self, table: str, part: int) -> Path:
        return self.folder / table / f"{self._prefix}-{part:05d}.parquet.part"

    def _close_files(self) -> None:
        for writer in self._open.values():
            writer.close()
        self._open.clear()


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, kind)


def _marked(table: str) -> pa.Schema:
    return SCHEMAS[table].with_metadata({_VERSION_KEY: str(CONTRACT_VERSION).encode(), _TABLE_KEY: table.encode()})


def _files(path: Path, table: str) -> list[Path]:
    return sorted((path / table).glob("*.parquet"))


@lru_cache(maxsize=_OPEN_FILES)
def _opened(path: Path, table: str) -> pq.ParquetFile:
    """An open file of ours."""
    metadata = pq.read_metadata(path)
    schema = metadata.schema.to_arrow_schema()
    version = (metadata.metadata or {}).get(_VERSION_KEY, b"").decode(errors="replace")
    if not version:
        raise StoreError(f"{path} is a Parquet file, but not of a headroom store.", "Take it out of the folder.")
    if version != str(CONTRACT_VERSION):
        raise StoreError(
            f"{path} has version {version} of the profile contract; this headroom reads version {CONTRACT_VERSION}.",
            "Read it with the headroom that wrote it, or export it again.",
        )
    for field in SCHEMAS[table]:
        at = schema.get_field_index(field.name)
        if at < 0 and field.name in LATER:
            continue
        if at < 0 or schema.field(at).type not in (field.type, getattr(field.type, "value_type", field.type)):
            has = "no" if at < 0 else f"{schema.field(at).type} as"
            raise StoreError(f"{path} has {has} column {field.name}.", "Export it again; what wrote it, changed it.")
    text = [field.name for field in SCHEMAS[table] if pa.types.is_dictionary(field.type)]
    return pq.ParquetFile(path, metadata=metadata, read_dictionary=text, pre_buffer=False)


def _read(file: pq.ParquetFile, index: int, schema: pa.Schema) -> pa.Table:
    """A row group; columns that the footer knows to be empty are not read."""
    group = file.metadata.row_group(index)
    known = [
        name
        for place, name in enumerate(file.metadata.schema.names)
        if name in schema.names and not _is_empty(group.column(place), group.num_rows)
    ]
    table = file.read_row_group(index, known, use_threads=False)
    columns = [
        table.column(field.name) if field.name in known else pa.nulls(group.num_rows, field.type) for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _is_empty(column: Any, rows: int) -> bool:
    if not column.is_stats_set:
        return False
    statistics = column.statistics
    return bool(statistics.has_null_count) and statistics.null_count == rows


def _footer(file: _File) -> _Footer:
    path, table = file
    try:
        with _explained(path):
            return list(_keys(path, table)), None
    except StoreError as error:  # does not survive being sent from a process with its next step
        return [], (error.sentence, error.next_step)


def _keys(path: Path, table: str) -> Iterator[Key]:
    """The container of each row group, from the statistics in the footer."""
    file = _opened(path, table)
    places = [file.metadata.schema.names.index(name) for name in IDENTITY]
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        found = [group.column(place).statistics for place in places]
        if any(each is None or not each.has_min_max or each.min != each.max for each in found):
            raise StoreError(
                f"Row group {index} of {path} does not hold one container: another tool rewrote it.",
                "Export it again; a row group per container is what keeps reading in bounds.",
            )
        yield tuple(str(each.min) for each in found)  # type: ignore[misc]


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        text = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise StoreError(
            f"{path} is damaged or no Parquet file ({text[:120]}).", "Restore it from a copy, or export it again."
        ) from error
