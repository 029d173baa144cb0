"""GET /work/<units> for gunicorn: hashes, as rendering or serialising would."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    digest = b"headroom"
    for _ in range(int(environ["PATH_INFO"].split("/")[2])):
        digest = hashlib.pbkdf2_hmac("sha256", digest, b"wsgi", 4600)
    body = digest.hex().encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
