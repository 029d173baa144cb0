"""The same few answers by WSGI and by ASGI, for the servers that run Python."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECES = [b"piece of an answer\n"] * 50


def answer_to(method, path):
    """Status, body or pieces of it, headers."""
    if method not in ("GET", "HEAD"):
        return 201, b"made", []
    return {
        "/big": (200, b"x" * 300_000, []),
        "/pieces": (200, PIECES, []),
        "/empty": (204, b"", []),
        "/moved": (302, b"", [("Location", "/ok")]),
        "/same": (304, b"", []),
        "/missing": (404, b"no such thing", []),
        "/broken": (500, b"broken", []),
    }.get(path, (200, b"ok", []))


def wsgi(environ, start_response):
    while environ["wsgi.input"].read(65536):
        pass
    status, body, headers = answer_to(environ["REQUEST_METHOD"], environ["PATH_INFO"])
    whole = isinstance(body, bytes)
    length = [("Content-Length", str(len(body)))] if whole and status not in (204, 304) else []
    start_response(f"{status} Status", headers + length)
    if not whole:
        return (piece for piece in body if not time.sleep(0.0005))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    status, body, headers = answer_to(scope["method"], scope["path"])
    whole = isinstance(body, bytes)
    named = [(name.lower().encode(), value.encode()) for name, value in headers]
    if whole and status not in (204, 304):
        named.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": named})
    for piece in [] if whole else body:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": body if whole and scope["method"] != "HEAD" else b""})


class ByHand(BaseHTTPRequestHandler):
    """For http.server, which logs to its error output."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        self._read_body()
        status, body, headers = answer_to(self.command, self.path.partition("?")[0])
        pieces = [] if isinstance(body, bytes) else body
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if pieces:
            self.send_header("Transfer-Encoding", "chunked")
        elif status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n" if pieces else body)

    def _read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            self.rfile.read(size + 2)
        self.rfile.readline()


for each in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
    setattr(ByHand, f"do_{each}", ByHand.answer)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), ByHand).serve_forever()
