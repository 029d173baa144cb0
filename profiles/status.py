"""What a status means, by protocol: whether it is an error, whose, and its name.

HTTP has its classes; gRPC has seventeen codes of its own, of which only some are the server's fault.

Reference: statuscodes.md of grpc; OpenTelemetry's semantic conventions, for which of them are errors at a server.
"""

from __future__ import annotations

HTTP1, HTTP2, GRPC = "http1", "http2", "grpc"

GRPC_NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_SERVER_ERRORS = frozenset(
    map(GRPC_NAMES.index, ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"))
)


#: Of a gRPC call whose status went by unseen: neither a success nor an error.
UNSEEN = 200


def is_error(protocol: str, status: int) -> bool:
    """Whether it did not go as the client wished: 400 and above, any code of gRPC but OK."""
    return status not in {0, UNSEEN} if protocol == GRPC else status >= 400


def is_server_error(protocol: str, status: int) -> bool:
    """Whether the server is at fault: 500 and above, gRPC's like INTERNAL and UNAVAILABLE."""
    return status in _SERVER_ERRORS if protocol == GRPC else status >= 500


def is_client_error(protocol: str, status: int) -> bool:
    """Whether it failed, and not by the server's fault: 400 to 499, gRPC's like NOT_FOUND."""
    return is_error(protocol, status) and not is_server_error(protocol, status)


def name_of(protocol: str, status: int) -> str:
    """As people read it: ``404``, ``NOT_FOUND``.

    >>> name_of("http2", 404), name_of("grpc", 5)
    ('404', 'NOT_FOUND')
    """
    if protocol != GRPC:
        return str(status)
    return GRPC_NAMES[status] if status < len(GRPC_NAMES) else "unseen" if status == UNSEEN else str(status)
