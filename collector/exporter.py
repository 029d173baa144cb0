"""``/metrics``: a store that also tells Prometheus, and the small server that it asks.

One request at a time, on loopback unless told otherwise, and nothing but GET /metrics is answered.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterable, Iterator

from collector.metrics import Gathered, Metrics, gathered
from profiles.errors import UsageError
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
        seen: list[Gathered] = []
        used = list(usage)
        self._store.write(window, _gathering(traffic, seen), used, peers, drops)
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

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        """Listen.

        :param port: 0 for any; see :attr:`port`
        :raises profiles.errors.UsageError: when the address cannot be had
        """
        try:
            self._server = _Server((host, port), metrics)
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

    def __init__(self, address: tuple[str, int], metrics: Metrics) -> None:
        self.metrics = metrics
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Answer)

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
        elif line[1].partition(b"?")[0] != b"/metrics":
            self._say("404 Not Found", "There is /metrics.\n")
        else:
            self._say("200 OK", "")
            if line[0] == b"GET":
                self._tell()

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
