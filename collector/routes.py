"""From the first path seen under a route hash to the template that reports show.

The kernel already counts ``/users/1`` and ``/users/2`` as one route; here the text gets its
``{id}``, and segments that look like secrets or personal data lose their text. What is not
kept cannot leak: only the template leaves this module.
"""

from __future__ import annotations

import re

from profiles.schema import OVERFLOW_ROUTE

# As in bpf/http1.h: digits only, or at least 8 of hexadecimal digits and '-' with a digit.
_NUMBER = re.compile(r"^[0-9]+$")
_HEXADECIMAL = re.compile(r"^(?=.*[0-9])[0-9a-fA-F-]{8,}$")
# Long and mixed: a token, a key, a signature. With '@': an address.
_TOKEN = re.compile(r"^(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_\-.~+=]{24,}$")
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
_SEGMENT_CHARACTERS = 48


def template_of(path: bytes, whole: bool = True) -> str:
    """The template of a request path.

    >>> template_of(b"/users/42/orders")
    '/users/{id}/orders'
    """
    text = _UNPRINTABLE.sub("?", path.decode("ascii", errors="replace"))
    if "://" in text[:8]:  # absolute form, as sent to a proxy
        text = "/" + text.partition("://")[2].partition("/")[2]
    segments = [_segment(each) for each in text.split("/")]
    if not whole:
        segments[-1] = "{cut}"
    return "/".join(segments) or "/"


def _segment(text: str) -> str:
    if _NUMBER.match(text) or _HEXADECIMAL.match(text):
        return "{id}"
    if _TOKEN.match(text) or "@" in text or "%40" in text:
        return "{redacted}"
    return text[:_SEGMENT_CHARACTERS]


class RouteNames:
    """Templates by route hash, filled from the kernel's table as hashes turn up."""

    def __init__(self) -> None:
        self._templates: dict[int, str] = {}

    def knows(self, route: int) -> bool:
        """Whether the template of `route` has been learnt."""
        return route in self._templates

    def learn(self, route: int, path: bytes, whole: bool) -> None:
        """Keep the template of `path` for `route`."""
        self._templates[route] = template_of(path, whole)

    def name(self, route: int) -> str:
        """The template, or ``__overflow__`` for a hash without a text."""
        return self._templates.get(route, OVERFLOW_ROUTE)
