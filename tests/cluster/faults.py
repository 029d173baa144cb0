"""A proxy before Prometheus that fails when it is told to, and remembers what it was asked."""

import contextlib
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.cluster.quiet import QuietServer


@dataclass(frozen=True)
class Seen:
    """A request as it came in; `number` counts from 1."""

    number: int
    method: str
    path: str
    headers: dict
    body: str

    @property
    def query(self):
        return urllib.parse.parse_qs(self.body).get("query", [""])[0]


@dataclass(frozen=True)
class Fault:
    """What to answer instead; without a body, what Prometheus says.

    :ivar status, body, content_type: of the answer
    :ivar delay: seconds to wait first
    :ivar cut: send so many bytes only, though more were announced
    :ivar edit: what to make of the body of Prometheus
    """

    status: int = 200
    body: bytes | None = None
    content_type: str = "application/json"
    delay: float = 0.0
    cut: int | None = None
    edit: object = None


@dataclass
class Proxy:
    """Where it listens, and what it saw."""

    url: str
    seen: list = field(default_factory=list)

    def queries(self):
        return [each.query for each in self.seen]


def always(fault):
    return lambda _: fault


def from_on(number, fault):
    return lambda seen: fault if seen.number >= number else None


def up_to(number, fault):
    return lambda seen: fault if seen.number <= number else None


def containing(text, fault):
    return lambda seen: fault if text in seen.query else None


@contextlib.contextmanager
def proxy(upstream, plan=lambda _: None):
    """Forward to `upstream`; `plan` says of each request what goes wrong with it, if anything."""
    known = Proxy("")
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode()
            with lock:
                seen = Seen(len(known.seen) + 1, self.command, self.path, dict(self.headers), body)
                known.seen.append(seen)
            fault = plan(seen) or Fault()
            time.sleep(fault.delay)
            status, content = (fault.status, fault.body) if fault.body is not None else forward(upstream, seen)
            if fault.edit:
                content = fault.edit(content)
            with contextlib.suppress(OSError):  # who asked may have given up
                self.send_response(status)
                self.send_header("Content-Type", fault.content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: fault.cut])

        do_GET = do_POST  # noqa: N815 - as http.server calls it

        def log_message(self, *_):
            pass

    server = QuietServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    known.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def forward(upstream, seen):
    body = seen.body.encode() if seen.method == "POST" else None
    request = urllib.request.Request(upstream + seen.path, data=body, method=seen.method)
    if content_type := seen.headers.get("Content-Type"):
        request.add_header("Content-Type", content_type)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
