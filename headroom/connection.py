"""Which Prometheus, and as whom: from the command line."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from headroom.options import PullOptions
from profiles.errors import UsageError
from recommender.inputs.prometheus import Connection


def connection_of(asked: PullOptions) -> Connection:
    """Where, and as whom, as the command line says.

    :raises UsageError: when options contradict each other, or a file cannot be read
    """
    basic = certificate = None
    if asked.user is not None:
        if asked.password_file is None:
            raise UsageError("--user needs a --password-file.", "A password on a command line can be read by others.")
        basic = asked.user, _password(asked.password_file)
    if (asked.cert_file is None) != (asked.key_file is None):
        raise UsageError("--cert-file and --key-file go together.", "Give both.")
    if asked.cert_file is not None and asked.key_file is not None:
        certificate = asked.cert_file, asked.key_file
    return Connection(
        asked.url or "",
        dict(map(header, asked.headers)),
        asked.bearer_token_file,
        basic,
        certificate,
        asked.ca_file,
        asked.timeout,
        asked.compress,
        tuple(map(matcher, asked.matches)),
    )


def _password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"{path} cannot be read: {why}.", "Give another --password-file.") from error


def default_store(connection: Connection | None, profiles: str | None = None) -> Path:
    """Where what was read of this server, and of this depot, is kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    of: list[object] = []
    if connection is not None:
        who = sorted(connection.headers.items()), connection.basic, str(connection.bearer_token_file)
        of += [who, (connection.url, connection.client_certificate, connection.matchers)]
    of += [profiles] if profiles else []
    return cache / "headroom" / hashlib.sha256(repr(of).encode()).hexdigest()[:16]


def header(text: str) -> tuple[str, str]:
    """``Name: value``.

    :raises UsageError: when it is none
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isprintable() or not text.isascii():
        raise UsageError(f"{text!r} is no header.", "Write --header 'X-Scope-OrgID: team'.")
    return name.strip(), value.strip()


def matcher(text: str) -> str:
    """``label=value``, as a selector has it.

    :raises UsageError: when it is none
    """
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[a-zA-Z_]\w*", name, re.ASCII):
        raise UsageError(f"{text!r} is no label and value.", "Write --match cluster=prod.")
    return f"{name}={json.dumps(value.strip(chr(34)), ensure_ascii=False)}"
