"""``/metrics``: a store that also tells Prometheus, and the small server that it asks.

One request at a time, on loopback unless told otherwise, and little is answered:

    /metrics   what was counted
    /healthz   200 while windows are closed, 503 when none was for long: a restart may help
    /readyz    200 while they are stored, too
"""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterable, Iterator

from collector.metrics import Gathered, Metrics, gathered
from profiles.errors import StoreError, UsageError
from profiles.schema import DropRow, PeerRow, Store, TrafficRow, UsageRow, Window

_LONGEST_REQUEST_BYTES = 16_384
_SECONDS_TO_ASK = 5.0
_CHUNK_BYTES = 65_536
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ExportingStore:
    """Writes to `store`, and tells `metrics` what was stored; a window that was not is told when it is."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics

    def write(
        self,
        window: Window,
        traffic: Iterable[TrafficRow],
        usage: Iterable[UsageRow],
        peers: Iterable[PeerRow] = (),
        drops: Iterable[DropRow] = (),
    ) -> None:
        """As :meth:`Store.write`."""
        self._metrics.last_try = time.monotonic()
        seen: list[Gathered] = []
        used = list(usage)
        try:
            self._store.write(window, _gathering(traffic, seen), used, peers, drops)
        except StoreError:
            self._metrics.is_refused = True
            raise
        self._metrics.is_refused = False
        self._metrics.add(window, seen, used)

    def prune(self, before_unix_seconds: float) -> int:
        """As :meth:`Store.prune`."""
        return self._store.prune(before_unix_seconds)


def _gathering(rows: Iterable[TrafficRow], seen: list[Gathered]) -> Iterator[TrafficRow]:
    for row in rows:
        seen.append(gathered(row))
        yield row


class Exporter:
    """Answers Prometheus until it is closed."""

    def __init__(self, metrics: Metrics, host: str, port: int, patience_seconds: float = 300.0) -> None:
        """Listen.

        :param port: 0 for any; see :attr:`port`
        :param patience_seconds: without a window that was stored, before it counts as unhealthy
        :raises profiles.errors.UsageError: when the address cannot be had
        """
        try:
            self._server = _Server((host, port), metrics, patience_seconds)
        except OSError as error:
            raise UsageError(
                f"Metrics cannot be served at {host}:{port}: {error.strerror or error}.",
                "Give --metrics an address of this machine and a free port, such as 127.0.0.1:9464.",
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 8

    def __init__(self, address: tuple[str, int], metrics: Metrics, patience_seconds: float) -> None:
        self.metrics, self._patience, self._begin = metrics, patience_seconds, time.monotonic()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Answer)

    def health(self) -> str | None:
        """Why this agent is not well; None when it is."""
        # a full disk is no reason to end an agent: it counts on, and what it has not stored would be lost
        silent = time.monotonic() - (self.metrics.last_try or self._begin)
        return f"no window was closed for {silent:.0f} s" if silent > self._patience else None

    def is_ready(self) -> bool:
        """Whether windows are stored."""
        last = self.metrics.last_window
        return last is not None and time.monotonic() - last <= self._patience

    def handle_error(self, *_: object) -> None:
        """Who hangs up on us is no news."""


class _Answer(socketserver.StreamRequestHandler):
    timeout = _SECONDS_TO_ASK
    server: _Server

    def handle(self) -> None:
        """One request, one answer, and the connection is closed."""
        line = self.rfile.readline(_LONGEST_REQUEST_BYTES).split()
        left = _LONGEST_REQUEST_BYTES
        while left > 0:  # the headers say nothing that we need
            header = self.rfile.readline(left)
            left -= len(header)
            if header in (b"\r\n", b"\n", b""):
                break
        if len(line) != 3 or line[0] not in (b"GET", b"HEAD"):
            self._say("405 Method Not Allowed", "Only GET /metrics is answered.\n")
        else:
            self._answer(line[1].partition(b"?")[0], with_body=line[0] == b"GET")

    def _answer(self, path: bytes, *, with_body: bool) -> None:
        if path == b"/metrics":
            self._say("200 OK", "")
            if with_body:
                self._tell()
        elif path == b"/healthz":
            problem = self.server.health()
            self._say("503 Service Unavailable" if problem else "200 OK", f"{problem or 'ok'}\n")
        elif path == b"/readyz":
            is_ready = self.server.is_ready()
            self._say("200 OK" if is_ready else "503 Service Unavailable", f"{'ok' if is_ready else 'no window yet'}\n")
        else:
            self._say("404 Not Found", "There are /metrics, /healthz and /readyz.\n")

    def _say(self, status: str, text: str) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {_CONTENT_TYPE}\r\nConnection: close\r\n\r\n"
        self.wfile.write((head + text).encode())

    def _tell(self) -> None:
        chunk = bytearray()
        for lines in self.server.metrics.text():
            chunk += lines.encode()
            if len(chunk) >= _CHUNK_BYTES:
                self.wfile.write(bytes(chunk))
                chunk.clear()
        self.wfile.write(bytes(chunk))
