"""From the first path seen under a route hash to the template that reports show.

    b"/shops/anna/orders/42"  --fold-->  shops * orders *  --show-->  /shops/{name}/orders/{id}

The kernel already counts ``/users/1`` and ``/users/2`` as one route; here the text gets its ``{id}``. Segments that
look like secrets or personal data lose their text. What is not kept cannot leak: only the template leaves the agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, combinations, islice
from typing import Self

from profiles.errors import UsageError

ONE_OF_MANY = b"*"

# As in bpf/routes.h: digits only, or at least 8 of hexadecimal digits and '-' with a digit.
_IDENTIFIER = re.compile(rb"[0-9]+|(?=[^0-9]*[0-9])[0-9a-fA-F-]{8,}")
# Long and mixed: a token, a key, a signature. With '@': an address.
_TOKEN = re.compile(r"^(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_\-.~+=]{24,}$")
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
_SEGMENT_CHARACTERS = 48
_MOST_GUESSES = 200
_PLACEHOLDER = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
_FNV_OFFSET, _FNV_PRIME, _U64 = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1

#: Segments of a path, ``ONE_OF_MANY`` for those that are counted as one. Of an absolute path the first is empty.
Folded = tuple[bytes, ...]


@dataclass(frozen=True)
class RequestPath:
    """A path as the kernel saw it first.

    :ivar whole: its end was seen; otherwise what is left of its last segment may be one of many
    :ivar stars: places of segments that the kernel took for one of many, whatever they say
    """

    text: bytes
    whole: bool = True
    stars: frozenset[int] = frozenset()

    @property
    def segments(self) -> Folded:
        """What stands between its slashes."""
        return tuple(self.text.split(b"/"))

    @property
    def counted(self) -> Folded:
        """How the kernel counts it."""
        return Merges().fold(self)

    @classmethod
    def under(cls, route: int, text: bytes, whole: bool, likely: Iterable[frozenset[int]] = ()) -> Self | None:
        """The path that has this hash: it says which segments the kernel took for one of many.

        :param likely: places of these, to try first
        """
        places = [place for place, each in enumerate(text.split(b"/")) if each and not _IDENTIFIER.fullmatch(each)]
        others = (frozenset(some) for number in range(len(places) + 1) for some in combinations(places, number))
        for stars in islice(chain([frozenset[int]()], likely, others), _MOST_GUESSES):
            path = cls(text, whole, stars.intersection(places))
            if route_hash(path.counted) == route:
                return path
        return None


@dataclass(frozen=True)
class Pattern:
    """A route as the user calls it: ``/users/{name}/orders``."""

    segments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one.

        :raises UsageError: when it is none
        """
        segments = tuple(text.split("/"))
        wrong = [each for each in segments if ("{" in each or "}" in each) and not _PLACEHOLDER.fullmatch(each)]
        if segments[0] or len(segments) < 2 or wrong or re.search(r"[\s?#*]", text) or not text.isascii():
            raise UsageError(
                f"{text!r} is no route pattern.", "It looks like /users/{name}/orders: a whole segment in braces."
            )
        return cls(segments)

    def matches(self, path: RequestPath) -> bool:
        """Whether it is the pattern of this path."""
        own = path.segments
        return path.whole and len(own) == len(self.segments) and all(map(_fits, self.segments, own))


@dataclass(frozen=True)
class Merges:
    """Which segments of a service's paths are one of many.

    :ivar shown: prefixes whose children are one, with what stands for them in a template
    :ivar kept: prefixes that keep their last segment, which is not empty, though its siblings are one
    """

    shown: dict[Folded, str] = field(default_factory=dict)
    kept: set[Folded] = field(default_factory=set)

    def add(self, pattern: Pattern) -> None:
        """Show paths as this pattern does."""
        prefix: Folded = (b"",)
        for segment in pattern.segments[1:]:
            if _PLACEHOLDER.fullmatch(segment):
                self.shown[prefix] = segment
                prefix = (*prefix, ONE_OF_MANY)
            else:
                prefix = (*prefix, ONE_OF_MANY if _IDENTIFIER.fullmatch(segment.encode()) else segment.encode())
                if segment:
                    self.kept.add(prefix)

    def merge(self, prefix: Folded, shown: str, kept: Iterable[Folded]) -> None:
        """The children of a prefix are one from now on, but for those of these that are among them."""
        self.shown[prefix] = shown
        self.kept.update(each for each in kept if each[:-1] == prefix)

    def fold(self, path: RequestPath) -> Folded:
        """The path as it is counted."""
        folded: Folded = ()
        for place, segment in enumerate(path.segments if path.whole else path.segments[:-1]):
            merged = segment and folded in self.shown and (*folded, segment) not in self.kept
            merged = merged or place in path.stars
            folded = (*folded, ONE_OF_MANY if merged or _IDENTIFIER.fullmatch(segment) else segment)
        return folded if path.whole else (*folded, b"+")

    def template(self, path: RequestPath) -> str:
        """How reports show it.

        >>> Merges().template(RequestPath(b"/users/42/orders"))
        '/users/{id}/orders'
        """
        folded = self.fold(path)
        parts = [
            self.shown.get(folded[:at], "*" if at in path.stars else "{id}")
            if one == ONE_OF_MANY and one != segment
            else _printable(segment)
            for at, (one, segment) in enumerate(zip(folded, path.segments, strict=True))
        ]
        if not path.whole:
            parts[-1] = "{cut}"
        text = "/".join(parts)
        if "://" in text[:8]:  # absolute form, as sent to a proxy
            text = "/" + text.partition("://")[2].partition("/")[2]
        return text or "/"

    def marks(self) -> Iterator[int]:
        """What the kernel has to know: hashes of prefixes."""
        yield from (route_hash((*prefix, b"")) for prefix in self.shown)
        yield from map(route_hash, self.kept)


def route_hash(folded: Folded) -> int:
    """FNV-1a, as bpf/routes.h makes it of a path."""
    value = _FNV_OFFSET
    for byte in b"/".join(folded):
        value = (value ^ byte) * _FNV_PRIME & _U64
    return value


def _fits(pattern: str, segment: bytes) -> bool:
    return pattern.encode() == segment or (bool(segment) and _PLACEHOLDER.fullmatch(pattern) is not None)


def _printable(segment: bytes) -> str:
    text = _UNPRINTABLE.sub("?", segment.decode("ascii", errors="replace"))
    if _TOKEN.match(text) or "@" in text or "%40" in text:
        return "{redacted}"
    return text[:_SEGMENT_CHARACTERS]
