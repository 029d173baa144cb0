"""A report to a webhook: as Slack or Teams show it, or as JSON for whoever wants to read it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from headroom.delivery.message import Message, NotTaken, Refused, Unknown

TIMEOUT_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 120.0
#: The receiver says that it has not taken it. 504 is not among them: who was asked on its behalf may have.
_NOT_TAKEN = (408, 425, 429, 500, 502, 503)
_MOST_LINES, _LONGEST_LINE = 20, 300
_SLACK_SPECIAL = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def slack_payload(message: Message) -> dict[str, Any]:
    """Blocks; the text is what a notification shows."""
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": message.title[:150], "emoji": False}},
        _slack_section(message.lines),
    ]
    if message.changes:
        blocks += [{"type": "divider"}, _slack_section(["Since the last report:", *message.changes])]
    return {"text": _slack_text(message.title), "blocks": blocks}


def teams_payload(message: Message) -> dict[str, Any]:
    """An adaptive card, as Teams' workflows take it."""
    body: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": _teams_text(message.title), "weight": "bolder", "wrap": True}
    ]
    body += [_teams_block(line) for line in _short(message.lines)]
    if message.changes:
        body.append({"type": "TextBlock", "text": "Since the last report", "weight": "bolder", "separator": True})
        body += [_teams_block(line) for line in _short(message.changes)]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    }
    return {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        ],
    }


def plain_payload(message: Message) -> dict[str, Any]:
    """Everything that fits into a message, without markup."""
    return {
        "id": message.id,
        "title": message.title,
        "summary": list(message.lines),
        "changes": list(message.changes),
        "markdown": message.text,
    }


#: By what a target begins with.
PAYLOADS: Mapping[str, Callable[[Message], dict[str, Any]]] = {
    "slack": slack_payload,
    "teams": teams_payload,
    "webhook": plain_payload,
}


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL that takes a POST. It is a secret: whoever knows it can write there."""

    kind: str
    url: str = field(repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS

    @property
    def key(self) -> str:
        """With the whole URL."""
        return f"{self.kind}:{self.url}"

    @property
    def shown(self) -> str:
        """Host alone."""
        kind = "" if self.kind == "webhook" else f"{self.kind} "
        return f"{kind}webhook at {urlsplit(self.url).hostname}"

    def send(self, message: Message) -> None:
        """POST it once; a redirect is not followed.

        :raises NotTaken, Refused, Unknown: by how far it came, and by the answer
        """
        body = json.dumps(PAYLOADS[self.kind](message)).encode()
        parts = urlsplit(self.url)
        connection = self._connection()
        try:
            try:
                connection.connect()
                path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
                headers = {"Content-Type": "application/json", "Idempotency-Key": message.id, "User-Agent": "headroom"}
                connection.request("POST", path, body, headers)
            except (OSError, http.client.HTTPException) as error:  # what is cut short is no message
                raise NotTaken(f"it was not reached ({_reason(error)})") from error
            except ValueError as error:
                raise Refused("its address cannot be looked up") from error
            try:
                answer = connection.getresponse()
                while 100 < answer.status < 200:  # an interim answer: http.client reads on after 100 alone
                    answer.headers = answer.msg = None  # type: ignore[assignment]
                    answer.begin()
            except (OSError, http.client.HTTPException) as error:
                raise Unknown(f"no answer came ({_reason(error)})") from error
            _judge(answer)
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                parts.hostname, parts.port or 443, timeout=self.timeout_seconds, context=context
            )
        return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=self.timeout_seconds)


def _judge(answer: http.client.HTTPResponse) -> None:
    if 200 <= answer.status < 300:
        return
    if answer.status == http.client.GATEWAY_TIMEOUT:
        raise Unknown("a gateway answered 504 for it")
    if answer.status in _NOT_TAKEN:
        raise NotTaken(f"it answered {answer.status}", _wait(answer.headers.get("Retry-After", "")))
    redirect = ", and a redirect is not followed" if 300 <= answer.status < 400 else ""
    raise Refused(f"it answered {answer.status}{redirect}")


def _wait(asked: str) -> float:
    """Seconds, or a date."""
    seconds = 0.0
    if re.fullmatch(r"[0-9]{1,6}", asked):
        seconds = float(asked)
    elif asked:
        with contextlib.suppress(ValueError, TypeError):
            seconds = parsedate_to_datetime(asked).timestamp() - time.time()
    return min(max(0.0, seconds), _LONGEST_WAIT_SECONDS)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__  # its text may repeat the address


def _short(lines: Any) -> list[str]:
    known = list(lines)
    cut = [line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…" for line in known[:_MOST_LINES]]
    return cut + ([f"and {len(known) - _MOST_LINES} more"] if len(known) > _MOST_LINES else [])


def _slack_section(lines: Any) -> dict[str, Any]:
    text = "\n".join(f"• {_slack_text(line)}" for line in _short(lines))
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:2900], "verbatim": True}}


def _slack_text(text: str) -> str:
    """Nothing in it is a link, a mention or markup; what would be has an invisible space beside it."""
    escaped = "".join(_SLACK_SPECIAL.get(letter, letter) for letter in text)
    return re.sub(r"([*_~`])", "\\1\u200b", escaped)


def _teams_block(line: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": _teams_text(line), "wrap": True, "spacing": "small"}


def _teams_text(text: str) -> str:
    """A card knows a little Markdown."""
    return re.sub(r"([\\*_\[\]()`#<>])", r"\\\1", text)
