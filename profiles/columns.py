"""Rows as a database keeps them: to columns, and back with every value checked.

A store can be damaged, edited or written by a defect. A value that cannot be is refused here,
with its name, so that no number downstream rests on it.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, get_args

from profiles.histogram import LATENCY, Histogram
from profiles.limit_bank import LimitBank
from profiles.schema import DropRow, Identity, PeerKind, PeerRow, Runtime, TrafficRow, UsageRow, Window

TRAFFIC_KEY = ("role", "protocol", "tls", "method", "route", "status", "outcome")
TRAFFIC = (
    *TRAFFIC_KEY,
    "requests",
    "latency",
    "latency_seconds_sum",
    "transfer_seconds_sum",
    "request_bytes",
    "response_bytes",
)
USAGE = tuple(each.name for each in fields(UsageRow) if each.name != "identity")
PEERS_KEY = ("role", "kind", "peer", "port")
PEERS = (*PEERS_KEY, "connections", "sent_bytes", "received_bytes")
DROPS = ("reason", "packets")
_NUMBERS = tuple(name for name in USAGE if name not in {"limit_bank", "burst_bins", "ended", "runtime"})
_RUNTIMES = {each.value: each for each in Runtime}

_COMPRESSED, _MOST_BANK_BYTES = b"\x78", 2**20
_BURST = struct.Struct("<HI")
_BURST_BUCKETS = 32

# Larger values can only be damage: 30,000 years, 100,000 cores, 8 EiB.
_MOST_SECONDS, _MOST_CORES, _MOST_COUNT = 1e12, 1e5, 2.0**63


class UnreadableRow(ValueError):
    """A stored row holds something that no agent writes."""


def window_columns(window: Window) -> dict[str, Any]:
    """Columns of table ``windows``."""
    return {**asdict(window), "lost": json.dumps(window.lost), "agent": json.dumps(window.agent)}


def traffic_columns(row: TrafficRow) -> dict[str, Any]:
    """Columns of table ``traffic``, without its keys."""
    return {name: getattr(row, name) for name in TRAFFIC} | {"latency": row.latency.to_bytes()}


def usage_columns(row: UsageRow) -> dict[str, Any]:
    """Columns of table ``usage``, without its keys."""
    return {name: getattr(row, name) for name in USAGE} | {
        "limit_bank": zlib.compress(row.limit_bank.to_bytes(), 1) if row.limit_bank else None,
        "burst_bins": bursts_to_bytes(row.burst_bins),
    }


def bursts_to_bytes(bursts: Mapping[int, int]) -> bytes:
    """10 ms bins by sixteenths of one CPU."""
    return b"".join(_BURST.pack(*entry) for entry in sorted(bursts.items()))


def bursts_from_bytes(data: bytes) -> dict[int, int]:
    """The inverse of :func:`bursts_to_bytes`.

    :raises UnreadableRow: when it has a bucket that does not exist
    """
    bursts = dict(_BURST.iter_unpack(data))
    if any(bucket >= _BURST_BUCKETS for bucket in bursts):
        raise UnreadableRow("burst_bins has a bucket that does not exist")
    return bursts


def peer_columns(row: PeerRow) -> dict[str, Any]:
    """Columns of table ``peers``, without its keys."""
    return {name: getattr(row, name) for name in PEERS}


def window_of(columns: Mapping[str, Any]) -> Window:
    """The inverse of :func:`window_columns`.

    :raises UnreadableRow: naming the column
    """
    duration = _number("duration_seconds", columns["duration_seconds"], _MOST_SECONDS)
    if not duration:
        raise UnreadableRow("duration_seconds is 0")
    step = columns["clock_step_seconds"]
    _number("clock_step_seconds", abs(step) if isinstance(step, int | float) else step, _MOST_SECONDS)
    return Window(
        _number("start_unix_seconds", columns["start_unix_seconds"], 2e11),
        duration,
        step,
        {name: int(_number(name, count)) for name, count in _table("lost", columns["lost"]).items()},
        {name: _number(name, value) for name, value in _table("agent", columns["agent"]).items()},
    )


def traffic_of(identity: Identity, columns: Mapping[str, Any]) -> TrafficRow:
    """The inverse of :func:`traffic_columns`.

    :raises UnreadableRow: naming the column
    """
    latency = Histogram.from_bytes(_blob("latency", columns["latency"]))
    if latency.layout is not LATENCY or latency.total != columns["requests"]:
        raise UnreadableRow("latency does not hold the requests")
    for name in ("role", "protocol", "method", "route", "outcome"):
        if not isinstance(columns[name], str):
            raise UnreadableRow(f"{name} is no text")
    return TrafficRow(
        identity,
        columns["role"],
        columns["protocol"],
        bool(columns["tls"]),
        columns["method"],
        columns["route"],
        int(_number("status", columns["status"], 999)),
        latency,
        _number("latency_seconds_sum", columns["latency_seconds_sum"], _MOST_SECONDS),
        int(_number("request_bytes", columns["request_bytes"])),
        int(_number("response_bytes", columns["response_bytes"])),
        columns["outcome"],
        _number("transfer_seconds_sum", columns["transfer_seconds_sum"], _MOST_SECONDS),
    )


def usage_of(identity: Identity, columns: Mapping[str, Any]) -> UsageRow:
    """The inverse of :func:`usage_columns`.

    :raises UnreadableRow: naming the column
    """
    values: dict[str, Any] = {
        name: None if columns[name] is None else _number(name, columns[name], _most(name)) for name in _NUMBERS
    }
    if values["cpu_seconds"] is None:
        raise UnreadableRow("cpu_seconds is missing")
    bank = columns["limit_bank"]
    return UsageRow(
        identity,
        limit_bank=None if bank is None else LimitBank.from_bytes(_unpacked("limit_bank", bank)),
        burst_bins=bursts_from_bytes(_blob("burst_bins", columns["burst_bins"])),
        ended=bool(columns["ended"]),
        runtime=_RUNTIMES.get(columns.get("runtime") or 0),  # of an older store, or told by a newer headroom
        **values,
    )


def peer_of(identity: Identity, columns: Mapping[str, Any]) -> PeerRow:
    """The inverse of :func:`peer_columns`.

    :raises UnreadableRow: naming the column
    """
    if columns["role"] not in ("server", "client") or columns["kind"] not in get_args(PeerKind):
        raise UnreadableRow("role or kind of a peer is none")
    if not isinstance(columns["peer"], str):
        raise UnreadableRow("peer is no text")
    return PeerRow(
        identity,
        columns["role"],
        columns["kind"],
        columns["peer"],
        int(_number("port", columns["port"], 65535)),
        *(int(_number(name, columns[name])) for name in ("connections", "sent_bytes", "received_bytes")),
    )


def drop_of(identity: Identity, columns: Mapping[str, Any]) -> DropRow:
    """A row of table ``drops``.

    :raises UnreadableRow: naming the column
    """
    if not isinstance(columns["reason"], str):
        raise UnreadableRow("reason is no text")
    return DropRow(identity, columns["reason"], int(_number("packets", columns["packets"])))


def _most(name: str) -> float:
    return _MOST_SECONDS if name.endswith("_seconds") else _MOST_CORES if name.endswith("_cores") else _MOST_COUNT


def _number(name: str, value: Any, most: float = _MOST_COUNT) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnreadableRow(f"{name} is no number")
    if not math.isfinite(value) or not 0 <= value <= most:
        raise UnreadableRow(f"{name} is {value:g}")
    return value


def _blob(name: str, value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise UnreadableRow(f"{name} is no blob")
    return value


def _unpacked(name: str, value: Any) -> bytes:
    """A bank of an idle container is nearly all zeros; one that an earlier headroom wrote is not compressed."""
    data = _blob(name, value)
    if data[:1] != _COMPRESSED:
        return data
    try:
        return zlib.decompressobj().decompress(data, _MOST_BANK_BYTES)
    except zlib.error as error:
        raise UnreadableRow(f"{name} is damaged") from error


def _table(name: str, text: Any) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (TypeError, ValueError) as error:
        raise UnreadableRow(f"{name} is not JSON") from error
    if not isinstance(content, dict):
        raise UnreadableRow(f"{name} is no table")
    return content
