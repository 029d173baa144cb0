"""Tables of a Parquet store: their columns, and what is known of these."""

from __future__ import annotations

import pyarrow as pa

#: What a row is of, without its instance.
IDENTITY = ("cluster", "namespace", "kind", "workload", "container")

_TEXT = pa.dictionary(pa.int32(), pa.string())
_KEY = [pa.field(name, _TEXT, nullable=False) for name in IDENTITY]
_COUNTS = ("requests", "errors", "unanswered", "periods", "throttled_periods", "oom_kills", "refaults", "client_errors")
_MEASURES = (
    "p50_seconds",
    "p95_seconds",
    "cpu_cores",
    "cpu_peak_cores",  # the highest of the readings that the row is made of
    "cpu_pressure_seconds",
    "throttled_seconds",
    "memory_anon_bytes",
    "memory_file_bytes",
    "memory_working_set_bytes",
    "memory_peak_bytes",
    "cpu_limit_cores",
    "cpu_request_cores",
    "memory_limit_bytes",
)
#: Numbers of table ``usage`` beside its time.
USAGE_NUMBERS = ("duration_seconds", *_COUNTS, *_MEASURES, "runtime")

SCHEMAS = {
    "usage": pa.schema(
        [
            *_KEY,
            pa.field("instance", _TEXT, nullable=False),
            pa.field("unix_seconds", pa.int64(), nullable=False),
            pa.field("duration_seconds", pa.float32(), nullable=False),
            *(pa.field(name, pa.uint32()) for name in _COUNTS),
            *(pa.field(name, pa.float32()) for name in _MEASURES),
            pa.field("runtime", pa.uint8()),  # profiles.schema.Runtime
        ]
    ),
    "profiles": pa.schema(
        [
            *_KEY,
            pa.field("unix_seconds", pa.int64(), nullable=False),
            pa.field("busiest", pa.bool_(), nullable=False),
            pa.field("cpu_limit_cores", pa.float32()),  # in force, and since when: a change begins a new row
            pa.field("limit_since_unix_seconds", pa.int64(), nullable=False),
            pa.field("rows", pa.int64(), nullable=False),  # of usage, that it is made of
            pa.field("seconds", pa.float64(), nullable=False),
            pa.field("cpu_seconds", pa.float64(), nullable=False),
            pa.field("latency", pa.binary(), nullable=False),
            pa.field("limit_bank", pa.binary()),
            pa.field("burst_bins", pa.binary(), nullable=False),
        ]
    ),
    "routes": pa.schema(
        [
            *_KEY,
            *(pa.field(name, _TEXT, nullable=False) for name in ("role", "protocol", "method", "route", "outcome")),
            pa.field("status", pa.int32(), nullable=False),
            pa.field("latency", pa.binary(), nullable=False),
            *(pa.field(f"{name}_seconds_sum", pa.float64(), nullable=False) for name in ("latency", "transfer")),
        ]
    ),
    "recordings": pa.schema(
        [
            pa.field("start_unix_seconds", pa.float64(), nullable=False),
            pa.field("end_unix_seconds", pa.float64(), nullable=False),
            pa.field("seconds", pa.float64(), nullable=False),
            pa.field("windows", pa.int64(), nullable=False),
            pa.field("clock_steps", pa.int64(), nullable=False),
            pa.field("lost", pa.string(), nullable=False),  # JSON, as in SQLite
            pa.field("agent", pa.string(), nullable=False),
            pa.field("source", pa.string()),  # the part that it came as (profiles.parts); null of an export
            pa.field("files", pa.int32()),  # that it has in the other tables
        ]
    ),
}
#: Added to the contract later: a file without them is read as not knowing them.
LATER = {"cpu_peak_cores", "client_errors", "runtime", "source", "files"}
#: Values that hardly repeat: a dictionary of them is larger than they are.
PLAIN = {
    "unix_seconds",
    "cpu_cores",
    "cpu_peak_cores",
    "memory_anon_bytes",
    "memory_working_set_bytes",
    "latency",
    "limit_bank",
    "burst_bins",
}

Key = tuple[str, str, str, str, str]
