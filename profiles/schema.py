"""The rows that pass from the agent to the recommender. Units are in the names.

None means "not known here" (a cgroup file that this kernel does not have, a limit that is
not set): it is never a zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, Protocol

from profiles.histogram import Histogram
from profiles.limit_bank import LimitBank
from profiles.status import is_client_error, is_server_error

#: Raised whenever a column changes its meaning; a store of another version is refused.
CONTRACT_VERSION = 4

HOST_NAMESPACE = "host"
OVERFLOW_ROUTE = "__overflow__"
#: Of HTTP/2, where the name went by before the agent came or in a gap; and of its CONNECT, which has no path.
UNKNOWN_ROUTE = "__unknown__"
#: As OpenTelemetry names a method that is not one of HTTP's nine.
OTHER_METHOD = "_OTHER"

#: Outcome of a request that got an answer, whatever its status. The others: ``aborted`` (the client's end closed or
#: reset the connection first), ``reset`` (the server's end did), ``timed_out`` (the network gave up).
ANSWERED = "answered"
#: In `Window.lost` where requests without an answer were not counted: the kernel refused that.
WITHOUT_ENDINGS = "windows_without_endings"


class Runtime(IntEnum):
    """What executes a program. The numbers are stored: new ones come last.

    :cvar NATIVE: machine code with no runtime that shows: C, Rust, or Go since 1.26, which puts its heap anywhere
    """

    NATIVE = 1
    CPP = 2
    GO = 3
    JVM = 4
    NODE = 5
    PYTHON = 6
    RUBY = 7
    DOTNET = 8
    PHP = 9
    BEAM = 10


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Whose row it is: the workload, its container, and the one instance (pod or cgroup)."""

    cluster: str
    namespace: str
    kind: str
    workload: str
    container: str
    instance: str

    @property
    def name(self) -> str:
        """``namespace/workload/container``, as commands take and print it."""
        return f"{self.namespace}/{self.workload}/{self.container}"


@dataclass(frozen=True, slots=True)
class TrafficRow:
    """Requests of one window, instance, role, protocol, method, route, status and outcome.

    :ivar role: ``server`` or ``client``: which end sent the request
    :ivar protocol: ``http1``, ``http2`` or ``grpc``
    :ivar status: 0 without an answer; of gRPC its own (profiles.status)
    :ivar latency: from the request's first byte to the answer's last byte, or to the end of the connection without one;
        no requests, where only bytes came of answers that were counted in an earlier window
    :ivar transfer_seconds_sum: of the sum of latencies, what passed since the answers' first bytes
    """

    identity: Identity
    role: str
    protocol: str
    tls: bool
    method: str
    route: str
    status: int
    latency: Histogram
    latency_seconds_sum: float
    request_bytes: int
    response_bytes: int
    outcome: str = ANSWERED
    transfer_seconds_sum: float = 0.0

    @property
    def requests(self) -> int:
        """Number of requests."""
        return self.latency.total

    @property
    def server_error(self) -> bool:
        """Whether the server is at fault."""
        return is_server_error(self.protocol, self.status)

    @property
    def client_error(self) -> bool:
        """Whether it failed by no fault of the server's."""
        return is_client_error(self.protocol, self.status)

    @property
    def answered(self) -> bool:
        """Whether they got an answer, whatever its status; only then is their latency one."""
        return self.outcome == ANSWERED


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one instance used in one window, and the limits it was under.

    :ivar cpu_seconds: on-CPU time
    :ivar burst_bins: 10 ms bins by their on-CPU time in sixteenths of one CPU
    :ivar cpu_request_cores: from the cgroup's weight, as the kubelet sets it
    :ivar connections_refused, connections_failed: attempts that the other end refused, and that nobody answered
    :ivar round_trips_seconds: sum of the smoothed round trips of the `connections_ended`
    :ivar ended: the cgroup was gone when the window closed
    :ivar runtime: of its main process
    """

    identity: Identity
    cpu_seconds: float
    limit_bank: LimitBank | None = None
    burst_bins: Mapping[int, int] = field(default_factory=dict)
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_seconds: float | None = None
    cpu_pressure_seconds: float | None = None
    memory_pressure_seconds: float | None = None
    memory_anon_bytes: int | None = None
    memory_file_bytes: int | None = None
    memory_working_set_bytes: int | None = None
    memory_peak_bytes: int | None = None
    refaults: int | None = None
    oom_kills: int | None = None
    cpu_limit_cores: float | None = None
    cpu_request_cores: float | None = None
    memory_limit_bytes: int | None = None
    tcp_retransmits: int | None = None
    tcp_resets_sent: int | None = None
    tcp_resets_received: int | None = None
    connections_opened: int | None = None
    connections_accepted: int | None = None
    connections_refused: int | None = None
    connections_failed: int | None = None
    connections_ended: int | None = None
    round_trips_seconds: float | None = None
    ended: bool = False
    runtime: Runtime | None = None


#: ``internet``: all public addresses that connect to a server; ``others``: what the agent could not keep apart.
PeerKind = Literal["workload", "address", "internet", "others"]


@dataclass(frozen=True, slots=True)
class PeerRow:
    """What one instance exchanged with one peer over TCP in one window.

    :ivar role: ``server`` where the peer opened the connections, ``client`` where this instance did
    :ivar peer: name of a workload on the same node, an address, or the kind
    :ivar port: of the server's end; 0 with ``others``
    :ivar connections: that had their first payload, or ended without, in this window
    :ivar sent_bytes, received_bytes: payload, each byte once
    """

    identity: Identity
    role: str
    kind: PeerKind
    peer: str
    port: int
    connections: int
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True, slots=True)
class DropRow:
    """Packets of one instance that its node's kernel dropped in one window.

    :ivar reason: the kernel's own word, as ``SOCKET_RCVBUFF``
    """

    identity: Identity
    reason: str
    packets: int


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of recording.

    :ivar start_unix_seconds: wall clock at its start
    :ivar duration_seconds: by the monotonic clock, so a clock step does not change it
    :ivar clock_step_seconds: how far the wall clock was moved meanwhile
    :ivar lost: what was not counted, per reason
    :ivar agent: the agent's own cost in this window
    """

    start_unix_seconds: float
    duration_seconds: float
    clock_step_seconds: float = 0.0
    lost: Mapping[str, int] = field(default_factory=dict)
    agent: Mapping[str, float] = field(default_factory=dict)


class Store(Protocol):
    """Where windows go."""

    def write(
        self,
        window: Window,
        traffic: Iterable[TrafficRow],
        usage: Iterable[UsageRow],
        peers: Iterable[PeerRow] = (),
        drops: Iterable[DropRow] = (),
    ) -> None:
        """Store one window with its rows, all or nothing."""

    def prune(self, before_unix_seconds: float) -> int:
        """Delete windows that ended before then; returns how many."""
