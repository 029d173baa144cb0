"""What a person writes after ``--to`` -> targets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from headroom.delivery.folder import Folder
from headroom.delivery.mail import Mail, Server
from headroom.delivery.message import Target
from headroom.delivery.webhook import PAYLOADS, Webhook
from profiles.errors import UsageError

_NEXT = (
    "Write a folder, s3://bucket/path, slack:URL, teams:URL, webhook:URL, mailto:NAME@HOST, or @FILE with such lines."
)
_ADDRESS = re.compile(r"[^@\s<>,;:\"()\[\]\\]+@[A-Za-z0-9.-]+", re.ASCII)
_STORES = ("s3", "gs", "gcs", "abfs", "abfss", "file")


def server_of(url: str | None, sender: str | None, password_file: Path | None) -> Server | None:
    """The mail server, where one is given.

    :raises UsageError: when something of it is missing or none
    """
    if url is None:
        return None
    parts = _split(url)
    if parts is None or parts.scheme not in ("smtp", "smtps") or parts.password:
        raise UsageError("--smtp is no mail server.", "Write smtp://USER@HOST:587; the password goes into a file.")
    if password_file is not None and not parts.username:
        raise UsageError("--smtp-password-file is of no user.", "Write --smtp smtp://USER@HOST:587.")
    if sender is None or not _ADDRESS.fullmatch(sender):
        raise UsageError("Mail needs a sender.", "Give --mail-from NAME@HOST.")
    password = None
    if password_file is not None:
        try:
            password = password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{password_file} cannot be read.", "Check --smtp-password-file.") from error
    return Server(url, sender, password)


def targets_of(texts: Iterable[str], server: Server | None) -> list[Target]:
    """Each target of `texts`; ``@FILE`` stands for the lines of a file, where a secret may be.

    :raises UsageError: when one is none; it is not repeated where it could be a secret
    """
    return [target for text in texts for line in _lines(text) for target in _targets(line, server)]


def _lines(text: str) -> list[str]:
    if not text.startswith("@"):
        return [text]
    path = Path(text[1:])
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.", "Check --to @FILE."
        ) from error
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def _targets(text: str, server: Server | None) -> list[Target]:
    kind, _, rest = text.partition(":")
    if kind in PAYLOADS:
        return [_webhook(kind, rest)]
    if kind == "mailto":
        return _mails(rest, server)
    if "://" in text and kind not in _STORES:
        raise UsageError(f"A report cannot be sent to {kind}://.", _NEXT)
    return [Folder(text if "://" in text else str(Path(text).absolute()))]


def _webhook(kind: str, url: str) -> Webhook:
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https"):
        raise UsageError(f"{kind}: is followed by no URL of http or https.", _NEXT)
    return Webhook(kind, url)


def _split(url: str) -> SplitResult | None:
    """Its parts; None where it names no host that can be looked up, or no port."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    labels = host.removesuffix(".").split(".")
    usable = url.isascii() and not re.search(r"[\s\x00-\x1f]", url) and port != 0
    return parts if usable and all(0 < len(label) < 64 for label in labels) else None


def _mails(addresses: str, server: Server | None) -> list[Target]:
    if server is None:
        raise UsageError(
            "There is no server to send mail by.", "Give --smtp smtp://HOST:587 and --mail-from NAME@HOST."
        )
    found: list[Target] = []
    for address in addresses.split(","):
        if not _ADDRESS.fullmatch(address.strip()) or not address.isascii():
            raise UsageError(f"{address.strip()[:80]!r} is no mail address.", _NEXT)
        found.append(Mail(address.strip(), server))
    return found
