"""The structures that kernel programs and user space share: ``*_layout.h`` in ctypes.

The loader compares the sizes of these with those of the maps it opens, so a header and its
mirror cannot drift apart unnoticed.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum, IntFlag

LATENCY_UNIT_SHIFT = 6
LATENCY_BUCKETS = 432
ROUTE_TEXT_BYTES = 112
MOST_ROUTES_PER_OWNER = 500
ROUTE_OVERFLOW = 1
ROUTE_UNKNOWN = 2

BIN_NS = 10_000_000
PERIOD_NS = 10 * BIN_NS
OPEN_BINS = 8
MAX_LIMITS = 32
REQUEST_PARTS = 256
DELAY_UNIT_SHIFT = 17
DELAY_BUCKETS = 60
BURST_BUCKETS = 32


class Role(IntEnum):
    """Which end of the connection the socket is."""

    SERVER = 0
    CLIENT = 1


class Method(IntEnum):
    """HTTP request methods, as numbered in the kernel."""

    GET = 1
    HEAD = 2
    POST = 3
    PUT = 4
    DELETE = 5
    CONNECT = 6
    OPTIONS = 7
    TRACE = 8
    PATCH = 9
    OTHER = 10


class Protocol(IntEnum):
    """What the connection speaks."""

    HTTP1 = 0
    HTTP2 = 1
    GRPC = 2


class Outcome(IntEnum):
    """How a request ended."""

    ANSWERED = 0
    ABORTED = 1
    RESET = 2
    TIMED_OUT = 3


class TrafficLoss(IntEnum):
    """Reasons for which ``traffic.bpf.c`` loses a request or a detail of it."""

    NO_STATS_ENTRY = 0
    NO_SOCKET_STATE = 1
    RESPONSE_WITHOUT_REQUEST = 2
    PIPELINED = 3
    SEQUENCE_GAP = 4
    ROUTE_OVERFLOW = 5
    ROUTE_CUT = 6
    LONG_SEGMENT = 7
    UNANSWERED = 8
    OUT_OF_STEP = 9
    FIELD_UNKNOWN = 10
    TURN = 11


class CpuLoss(IntEnum):
    """Reasons for which ``cpu.bpf.c`` loses on-CPU time."""

    NO_ENTRY = 0


class NetworkLoss(IntEnum):
    """Reasons for which ``network.bpf.c`` loses an event."""

    NO_ENTRY = 0


class RequestKey(ctypes.Structure):
    """Key of map ``requests``."""

    _fields_ = [
        ("cgroup_id", ctypes.c_uint64),
        ("route", ctypes.c_uint64),
        ("status", ctypes.c_uint16),
        ("method", ctypes.c_uint8),
        ("role", ctypes.c_uint8),
        ("outcome", ctypes.c_uint8),
        ("protocol", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 2),
    ]


class RequestStats(ctypes.Structure):
    """Value of map ``requests``; the buckets' sum is the number of requests."""

    _fields_ = [
        ("latency_sum_ns", ctypes.c_uint64),
        ("transfer_sum_ns", ctypes.c_uint64),
        ("request_bytes", ctypes.c_uint64),
        ("response_bytes", ctypes.c_uint64),
        ("latency", ctypes.c_uint32 * LATENCY_BUCKETS),
    ]


class RouteText(ctypes.Structure):
    """Value of map ``routes``: the first path seen under a route hash."""

    _fields_ = [
        ("length", ctypes.c_uint32),
        ("whole", ctypes.c_uint32),
        ("path", ctypes.c_char * ROUTE_TEXT_BYTES),
    ]


class LimitState(ctypes.Structure):
    """One candidate limit of one cgroup."""

    _fields_ = [
        ("quota_ns", ctypes.c_uint64),
        ("backlog_ns", ctypes.c_uint64),
        ("left_ns", ctypes.c_int64),
        ("delay_units", ctypes.c_uint32),
        ("period", ctypes.c_uint32),
        ("throttled_periods", ctypes.c_uint32),
        ("backlog_periods", ctypes.c_uint32),
        ("delayed", ctypes.c_uint32 * DELAY_BUCKETS),
        ("delayed_busy", ctypes.c_uint32 * DELAY_BUCKETS),
    ]


class CgroupCpu(ctypes.Structure):
    """Value of map ``cgroup_cpus``."""

    _fields_ = [
        ("oncpu_ns", ctypes.c_uint64),
        ("next_bin", ctypes.c_uint64),
        ("open_ns", ctypes.c_uint64 * OPEN_BINS),
        ("open_answers", ctypes.c_uint32 * OPEN_BINS),
        ("work_us", ctypes.c_uint64),
        ("answers", ctypes.c_uint64),
        ("busy_weight", ctypes.c_uint64),
        ("recent_ns", ctypes.c_uint64),
        ("mean_recent_ns", ctypes.c_uint64),
        ("period_used_ns", ctypes.c_uint64),
        ("mean_of_bins", ctypes.c_uint32),
        ("closing", ctypes.c_uint32),
        ("periods", ctypes.c_uint32),
        ("busy_before", ctypes.c_uint32),
        ("dirty", ctypes.c_uint32),
        ("parallel", ctypes.c_uint32),
        ("late_answers", ctypes.c_uint32),
        ("carried_answers", ctypes.c_uint32),
        ("bursts", ctypes.c_uint32 * BURST_BUCKETS),
        ("limits", LimitState * MAX_LIMITS),
    ]


class BankConfig(ctypes.Structure):
    """Value of map ``bank_config``."""

    _fields_ = [
        ("limits", ctypes.c_uint32),
        ("cpus", ctypes.c_uint32),
        ("quota_ns", ctypes.c_uint64 * MAX_LIMITS),
    ]


class NetworkCounts(ctypes.Structure):
    """Value of map ``networks``."""

    _fields_ = [
        ("retransmits", ctypes.c_uint64),
        ("resets_sent", ctypes.c_uint64),
        ("resets_received", ctypes.c_uint64),
        ("opened", ctypes.c_uint64),
        ("accepted", ctypes.c_uint64),
        ("refused", ctypes.c_uint64),
        ("failed", ctypes.c_uint64),
        ("ended", ctypes.c_uint64),
        ("round_trip_us", ctypes.c_uint64),
    ]


class PeersLoss(IntEnum):
    """Slots of map ``peers_losses``."""

    NO_ENTRY = 0
    NO_HOME = 1
    NOT_APART = 2


class PeerFamily(IntEnum):
    """What a :class:`PeerKey`'s address is."""

    INTERNET = 0
    ANYBODY = 1
    IPV4 = 4
    IPV6 = 6


class PeerKey(ctypes.Structure):
    """Key of map ``peers``; address and port as on the wire."""

    _fields_ = [
        ("cgroup_id", ctypes.c_uint64),
        ("address", ctypes.c_uint8 * 16),
        ("port", ctypes.c_uint16),
        ("role", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8),
        ("family", ctypes.c_uint32),
    ]


class PeerBytes(ctypes.Structure):
    """Value of map ``peers``."""

    _fields_ = [
        ("sent", ctypes.c_uint64),
        ("received", ctypes.c_uint64),
        ("connections", ctypes.c_uint64),
    ]


class HomeKey(ctypes.Structure):
    """Key of map ``homes``: an address of a cgroup's own, and a port where it answers there or 0."""

    _fields_ = [
        ("cgroup_id", ctypes.c_uint64),
        ("address", ctypes.c_uint8 * 16),
        ("family", ctypes.c_uint32),
        ("port", ctypes.c_uint16),
        ("reserved", ctypes.c_uint16),
    ]


class Birth(ctypes.Structure):
    """Value of map ``born``."""

    _fields_ = [("path", ctypes.c_char * 384)]


class Sign(IntFlag):
    """``enum sign``: what a process has mapped."""

    GO = 1
    JVM = 2
    DOTNET = 4
    NODE = 8
    RUBY = 16
    PHP = 32
    PYTHON = 64
    CPP = 128
    UNSEEN = 256


class ProcessKey(ctypes.Structure):
    """Key of map ``processes``."""

    _fields_ = [("cgroup_id", ctypes.c_uint64), ("process", ctypes.c_uint32), ("reserved", ctypes.c_uint32)]


class ProcessSeen(ctypes.Structure):
    """Value of map ``processes``."""

    _fields_ = [("program", ctypes.c_char * 32), ("signs", ctypes.c_uint32), ("reserved", ctypes.c_uint32)]


class DropsLoss(IntEnum):
    """Slots of map ``drops_losses``."""

    NO_ENTRY = 0


class DropKey(ctypes.Structure):
    """Key of map ``drops``; the reason by the running kernel's own number."""

    _fields_ = [
        ("cgroup_id", ctypes.c_uint64),
        ("reason", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


#: Size in bytes that each map's value must have, per object.
VALUE_BYTES = {
    "traffic": {"requests": ctypes.sizeof(RequestStats), "routes": ctypes.sizeof(RouteText)},
    "network": {"networks": ctypes.sizeof(NetworkCounts)},
    "peers": {"peers": ctypes.sizeof(PeerBytes)},
    "drops": {"drops": ctypes.sizeof(ctypes.c_uint64)},
    "births": {"born": ctypes.sizeof(Birth)},
    "runtimes": {"processes": ctypes.sizeof(ProcessSeen)},
    "runtimes_all": {"processes": ctypes.sizeof(ProcessSeen)},
    "lifecycle": {"requests": ctypes.sizeof(RequestStats)},
    "cpu": {"cgroup_cpus": ctypes.sizeof(CgroupCpu), "bank_config": ctypes.sizeof(BankConfig)},
}
