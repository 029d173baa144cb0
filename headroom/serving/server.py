"""The server: GET and HEAD of a few pages, on loopback; a token for everybody else.

address    on loopback nobody but this machine asks, and names that are not its own are refused (DNS rebinding)
token      compared in constant time; once it came in the address it is a cookie that no script can read
answers    nothing can be changed, framed, cached or guessed; the policy of the page is a header as well
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from headroom.serving.pages import Page, Pages
from profiles.errors import UsageError
from reports.html import content_policy, render

_COOKIE = "headroom"
_LEAST_TOKEN = 16
_PATIENCE_SECONDS = 30.0
_OPEN_TO_ALL = ("/healthz",)
_TEXT = "text/plain; charset=utf-8"


class Server(ThreadingHTTPServer):
    """Answers until it is shut down."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], pages: Pages, token: str | None) -> None:
        """Listen.

        :param token: that is asked for; None on loopback alone
        :raises UsageError: when the address needs a token, or cannot be had
        """
        host, port = address
        self.pages, self.token, self.is_local = pages, token, is_loopback(host)
        if token is None and not self.is_local:
            raise UsageError(
                f"Whoever reaches {host} could read everything.",
                "Give --token-file, or listen on 127.0.0.1 and let a proxy ask who it is.",
            )
        if token is not None and len(token) < _LEAST_TOKEN:
            raise UsageError(
                f"The token is shorter than {_LEAST_TOKEN} letters.", "Make one: openssl rand -hex 24 > FILE"
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
        parts = urlsplit(self.path)
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
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(_COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self.server.token or "").encode())

    def _let_in(self, path: str) -> None:
        """The address is asked for again without the token, so that it stays in no history."""
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", path if path.startswith("/") and not path.startswith("//") else "/")
        self.send_header("Set-Cookie", f"{_COOKIE}={self.server.token}; HttpOnly; SameSite=Strict; Path=/")
        self.send_header("Content-Length", "0")
        self._guard()
        self.end_headers()

    def _say(self, status: HTTPStatus, page: Page) -> None:
        self.send_response(status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self._guard()
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def _guard(self) -> None:
        self.send_header("Content-Security-Policy", f"{content_policy()}; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")

    def log_message(self, *_: Any) -> None:
        """Addresses may hold a token; nobody reads a log of ours."""
