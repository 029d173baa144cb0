"""The server: GET and HEAD of a few pages, on loopback; a token for everybody else.

address    on loopback nobody but this machine asks, and names that are not its own are refused (DNS rebinding)
token      compared in constant time; once it came in the address it is a cookie that no script can read
answers    nothing can be changed, framed, cached or guessed; the policy of the page is a header as well
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from headroom.serving.pages import Page, Pages
from profiles.errors import UsageError
from reports.html import content_policy, render

_COOKIE = "headroom"
_LEAST_TOKEN = 16
_TOKEN = re.compile(rf"[A-Za-z0-9._~-]{{{_LEAST_TOKEN},256}}", re.ASCII)
_PIECE_BYTES = 65_536
_PATIENCE_SECONDS = 30.0
_OPEN_TO_ALL = ("/healthz",)
_TEXT = "text/plain; charset=utf-8"


class Server(ThreadingHTTPServer):
    """Answers until it is shut down."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    pages: Pages

    def __init__(self, address: tuple[str, int], token: str | None) -> None:
        """Listen; :attr:`pages` have to be there before it serves.

        :param token: that is asked for; None on loopback alone
        :raises UsageError: when the address needs a token, or cannot be had
        """
        host, port = address
        self.token, self.is_local = token, is_loopback(host)
        if token is None and not self.is_local:
            raise UsageError(
                f"Whoever reaches {host} could read everything.",
                "Give --token-file, or listen on 127.0.0.1 and let a proxy ask who it is.",
            )
        if token is not None and not _TOKEN.fullmatch(token):
            raise UsageError(
                f"The token is shorter than {_LEAST_TOKEN} letters, or has some that no cookie holds.",
                "Make one: openssl rand -hex 24 > FILE",
            )
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__(address, _Answer)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"{host}:{port} cannot be listened at: {getattr(error, 'strerror', None) or error}.",
                "Give --listen a free port of an address of this machine.",
            ) from error

    def handle_error(self, *_: Any) -> None:
        """Who hangs up on us is no news."""


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Answer(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "headroom", ""
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE_SECONDS

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what it holds is not read, and must not be taken for a request
        try:
            parts = urlsplit(self.path)
        except ValueError:
            return self._say(HTTPStatus.BAD_REQUEST, Page(_TEXT, b"That is no address.\n"))
        if self.server.is_local and self.server.token is None and not self._is_for_us():
            return self._say(HTTPStatus.MISDIRECTED_REQUEST, Page(_TEXT, b"Ask 127.0.0.1 or localhost.\n"))
        if parts.path not in _OPEN_TO_ALL and self.server.token is not None:
            given = parse_qs(parts.query).get("token", [""])[0]
            if given and self._is_token(given):
                return self._let_in(parts.path)
            if not self._is_known():
                said = render(
                    "message.html", title="Who are you?", sentences=("Ask with a token: ?token=... or a bearer token.",)
                )
                return self._say(HTTPStatus.UNAUTHORIZED, Page("text/html; charset=utf-8", said.encode()))
        page = self.server.pages.get(parts.path)
        if page is None:
            return self._say(HTTPStatus.NOT_FOUND, Page(_TEXT, b"There is no such page.\n"))
        return self._say(HTTPStatus.OK, page)

    def _is_for_us(self) -> bool:
        """A page of somebody else's name that points to this machine is not to read ours."""
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        except ValueError:
            return False
        return host is not None and is_loopback(host)

    def _is_known(self) -> bool:
        scheme, _, bearer = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(bearer.strip()):
            return True
        # by hand: others' cookies come along, and http.cookies gives up at the first that it does not like
        own = (each.strip().partition("=") for each in self.headers.get("Cookie", "").split(";"))
        return any(name == _COOKIE and self._is_token(value) for name, _, value in own)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self.server.token or "").encode())

    def _let_in(self, path: str) -> None:
        """The address is asked for again without the token, so that it stays in no history."""
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", path if self.server.pages.get(path) is not None else "/")
        # Lax: a link in a chat leads here, and nothing can be changed by asking
        self.send_header("Set-Cookie", f"{_COOKIE}={self.server.token}; HttpOnly; SameSite=Lax; Path=/")
        self.send_header("Content-Length", "0")
        self._guard()
        self.end_headers()

    def _say(self, status: HTTPStatus, page: Page) -> None:
        self.send_response(status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self._guard()
        self.end_headers()
        if self.command != "HEAD":
            for at in range(0, len(page.body), _PIECE_BYTES):  # the time-out is for a piece: some read slowly
                self.wfile.write(page.body[at : at + _PIECE_BYTES])

    def _guard(self) -> None:
        self.send_header("Content-Security-Policy", f"{content_policy()}; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Of http.server itself, with our headers and nothing of the request in it."""
        del message, explain
        self.close_connection = True
        self._say(HTTPStatus(code), Page(_TEXT, f"{HTTPStatus(code).phrase}.\n".encode()))

    def log_message(self, *_: Any) -> None:
        """Addresses may hold a token; nobody reads a log of ours."""
