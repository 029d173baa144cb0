"""An answer of Prometheus's HTTP API: bytes -> labelled arrays, without a Python object per sample.

Thanos, Mimir and VictoriaMetrics speak the same format and have words of their own for a partial
answer. A partial answer would size too small, so it is an error here, never data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_VALUES, _END = b'"values":[[', b"]]"
_RESULT = b'"result":['
_SYNTAX = b'[]"'


class BadAnswer(ValueError):
    """The answer is no answer to a query: the server's own words, or what is wrong with its format."""


class PartialAnswer(ValueError):
    """The server says that it has not looked everywhere; in its own words."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """One series.

    :ivar unix_seconds, values: (n,) in order of time; one sample each for an instant query
    """

    labels: dict[str, str]
    unix_seconds: np.ndarray
    values: np.ndarray


def parse_answer(content: bytes) -> list[Samples]:
    """Every series of an answer to ``query`` or ``query_range``.

    :raises PartialAnswer: when parts of the data were not looked at
    :raises BadAnswer: when it is an error, or no answer
    """
    begin = content.find(_RESULT)
    if begin < 0 or _VALUES not in content:
        document = _document(content)
        _check(document)
        return [_from_json(each) for each in document["data"]["result"]]
    series = list(_matrix(content, begin + len(_RESULT)))
    end = content.rfind(_END) + len(_END)
    # what stands before the first series and behind the last one is the envelope
    envelope = content[: begin + len(_RESULT)] + b"{}" + content[content.index(b"]", end) :]
    if content[end : end + 1] not in (b"}", b","):
        raise BadAnswer("it ends within a series")
    _check(_document(envelope))
    return series


def _matrix(content: bytes, at: int) -> Iterator[Samples]:
    # quotes within label values are escaped, so neither mark can stand inside one
    while (values := content.find(_VALUES, at)) >= 0:
        end = content.find(_END, values)
        if end < 0:
            raise BadAnswer("it ends within a series")
        labels = _labels(content[content.index(b"{", at) : values])
        numbers = np.fromstring(content[values + len(_VALUES) : end].translate(None, _SYNTAX), sep=",")
        if len(numbers) % 2:
            raise BadAnswer("a sample is no pair of time and value")
        yield Samples(labels, numbers[0::2], numbers[1::2])
        at = end + len(_END)


def _labels(text: bytes) -> dict[str, str]:
    """Of ``{"metric":{...},``."""
    document = _document(text.rstrip(b", \n") + b"}")
    labels = document.get("metric")
    if not isinstance(labels, dict):
        raise BadAnswer("a series has no labels")
    return labels


def _from_json(each: dict[str, Any]) -> Samples:
    pairs = each["values"] if "values" in each else [each["value"]] if "value" in each else []
    numbers = np.array([[float(time), float(value)] for time, value in pairs]).reshape(-1, 2)
    return Samples(each["metric"], numbers[:, 0], numbers[:, 1])


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise BadAnswer("it is not JSON") from error
    if not isinstance(document, dict):
        raise BadAnswer("it is not a JSON object")
    return document


def _check(document: dict[str, Any]) -> None:
    if document.get("status") != "success":
        raise BadAnswer(str(document.get("error") or "it has no status"))
    warnings = [str(each) for each in document.get("warnings") or ()]
    if warnings:
        raise PartialAnswer(warnings[0])
    if document.get("isPartial"):  # VictoriaMetrics
        raise PartialAnswer("isPartial is true")
    if not isinstance((document.get("data") or {}).get("result"), list):
        raise BadAnswer("it has no result")
