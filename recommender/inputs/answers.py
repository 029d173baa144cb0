"""An answer of Prometheus's HTTP API: bytes -> labelled arrays, without a Python object per sample.

Thanos, Mimir and VictoriaMetrics speak the same format and have words of their own for a partial
answer. A partial answer would size too small, so it is an error here, never data.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

# quotes inside a JSON string are escaped, so neither can stand in a label or a message
_VALUES, _HISTOGRAMS = re.compile(rb'"values"\s*:\s*(?=\[)'), b'"histograms"'
_SYNTAX = b'[]" \t\r\n'


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

    The arrays of samples are taken out, and what is left is JSON like any other.

    :raises PartialAnswer: when parts of the data were not looked at
    :raises BadAnswer: when it is an error, or no answer
    """
    arrays: list[tuple[np.ndarray, np.ndarray]] = []
    rest, at = [], 0
    for found in _VALUES.finditer(content):
        end = _end_of_array(content, found.end())
        rest += [content[at : found.end()], str(len(arrays)).encode()]
        arrays.append(_numbers(content[found.end() : end]))
        at = end
    document = _document(b"".join([*rest, content[at:]]))
    _check(document)
    try:
        return [_samples(each, arrays) for each in document["data"]["result"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadAnswer("a series has no labels or no samples") from error


def parse_names(content: bytes) -> list[str]:
    """The answer to a question for the values of a label.

    :raises PartialAnswer: when parts of the data were not looked at
    :raises BadAnswer: when it is an error, or no answer
    """
    document = _document(content)
    names = document.get("data")
    if document.get("status") == "success" and isinstance(names, list):
        document = document | {"data": {"result": names}}
    _check(document)
    return [str(name) for name in document["data"]["result"]]


def _end_of_array(content: bytes, begin: int) -> int:
    """Behind the last bracket before the series' own end: there are no braces among samples."""
    stop = len(content)
    for mark in (b"}", b"{", _HISTOGRAMS):
        place = content.find(mark, begin, stop)
        stop = place if place >= 0 else stop
    end = content.rfind(b"]", begin, stop) + 1
    if stop == len(content) or not end:
        raise BadAnswer("it ends within a series")
    return end


def _numbers(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of ``[[time, "value"], ...]``."""
    pairs = text.count(b"[") - 1
    try:
        numbers = np.fromstring(text.translate(None, _SYNTAX), sep=",") if pairs else np.empty(0)
    except ValueError as error:
        raise BadAnswer("a sample is no pair of numbers") from error
    if len(numbers) != 2 * pairs or text.count(b"]") != pairs + 1:
        raise BadAnswer("a sample is no pair of time and value")
    return numbers[0::2], numbers[1::2]


def _samples(each: dict[str, Any], arrays: list[tuple[np.ndarray, np.ndarray]]) -> Samples:
    labels = each["metric"]
    if not isinstance(labels, dict):
        raise TypeError
    if "values" in each:
        return Samples(labels, *arrays[each["values"]])
    if "value" in each:
        time, value = each["value"]
        return Samples(labels, np.array([float(time)]), np.array([float(value)]))
    if "histogram" in each or "histograms" in each:
        return Samples(labels, np.empty(0), np.empty(0))
    raise KeyError("values")


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
    if warnings := document.get("warnings"):
        raise PartialAnswer(str(warnings[0] if isinstance(warnings, list) else warnings))
    if document.get("isPartial"):  # VictoriaMetrics
        raise PartialAnswer("isPartial is true")
    data = document.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("result"), list):
        raise BadAnswer("it has no result")
