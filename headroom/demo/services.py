"""The demo's own services; each runs as a process of its own: ``python services.py NAME PORT``.

checkout   every request costs a few milliseconds of CPU, as a price calculation would
leaky      a cache that never evicts: 64 KiB more with every request
idle       a service that nobody calls
"""

from __future__ import annotations

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ROUNDS_PER_CALL = 8_000
_LEAK_BYTES = 64 * 1024
_never_evicted: list[bytes] = []


class _Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the demo has one log, the agent's."""

    def answer(self, status: int, content: dict[str, object]) -> None:
        """Head and body in one write, as real servers do."""
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)


class Checkout(_Service):
    """POST /checkout/<id> and GET /price/<sku>; /price/0 is not on sale (404), ids ending in 7 fail (503)."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        order = self.path.rsplit("/", 1)[-1]
        if order.endswith("7"):
            self.answer(503, {"error": "stock is not reachable"})
            return
        self.answer(200, {"order": order, "total": _work(2)})

    def do_GET(self) -> None:
        if self.path.endswith("/0"):
            self.answer(404, {"error": "not on sale"})
            return
        self.answer(200, {"price": _work(1)})


class Leaky(_Service):
    """GET /session/<id>: keeps every session for ever."""

    def do_GET(self) -> None:
        _never_evicted.append(bytes(bytearray(_LEAK_BYTES)))
        self.answer(200, {"sessions": len(_never_evicted)})


class Idle(_Service):
    """Would answer, if anybody asked."""

    def do_GET(self) -> None:
        self.answer(200, {})


def _work(calls: int) -> str:
    digest = b"headroom"
    for _ in range(calls):
        digest = hashlib.pbkdf2_hmac("sha256", digest, b"price", _ROUNDS_PER_CALL)
    return digest.hex()


def main() -> None:
    """Serve one of the services on loopback until killed."""
    name, port = sys.argv[1], int(sys.argv[2])
    handler = {"checkout": Checkout, "leaky": Leaky, "idle": Idle}[name]
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
