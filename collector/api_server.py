"""The Kubernetes API server, asked for little: lists page by page, and a watch, with what Python brings along.

The official client costs 36 MB of memory; an agent for a node has 40 in all.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from profiles.errors import HeadroomError, UsageError

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PAGE = "100"
_ANSWER_SECONDS = 15.0
_WATCH_SECONDS = 240
_SILENT_SECONDS = 90.0  # bookmarks come about once a minute
_LONGEST_LINE = 4 * 2**20  # an object has at most 1.5 MiB
_SHOWN = 200


class ApiRefused(Exception):
    """The API server said no, or something that is no answer.

    :ivar status: of HTTP, or the code of an ERROR event
    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status}: {said[:_SHOWN]}")
        self.status = status


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Where it is, and as whom to ask.

    :ivar token_file: read anew for every request: the kubelet rotates it
    """

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def of_this_pod(cls) -> ApiServer:
        """By the service account of the pod that this runs in.

        :raises HeadroomError: when this is no pod, or it has none
        """
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (_ACCOUNT / "token").exists():
            raise HeadroomError(
                "This is no pod with a service account, so there is no API server to ask for pods.",
                "Leave --node out on a plain host; in a pod, mount the service account's token.",
            )
        name = f"[{host}]" if ":" in host else host
        return cls(f"https://{name}:{port}", _ACCOUNT / "token", _ACCOUNT / "ca.crt")

    def pages(self, path: str, query: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        """The pages of a list.

        :raises ApiRefused: when it says no; 410 when the list has changed too much meanwhile
        :raises OSError: when it cannot be reached
        """
        following: dict[str, str] = {}
        while True:
            page = self.get(path, {**query, "limit": _PAGE, **following})
            yield page
            token = page["metadata"].get("continue")
            if not token:
                return
            following = {"continue": token}

    def get(self, path: str, query: Mapping[str, str] = {}) -> Mapping[str, Any]:
        """One object or page.

        :raises ApiRefused: when it says no
        :raises OSError: when it cannot be reached
        """
        connection = self._connect(_ANSWER_SECONDS)
        try:
            answer = self._ask(connection, path, query)
            return _json(answer.read())
        except http.client.HTTPException as error:
            raise OSError(f"the answer was cut off ({type(error).__name__})") from error
        finally:
            connection.close()

    def watch(self, path: str, query: Mapping[str, str], version: str) -> Iterator[Mapping[str, Any]]:
        """Events since `version`, until the server ends the watch; it is under way when this returns.

        Iterating raises ApiRefused, of 410 when the version is too old, and OSError when it is cut off.

        :raises ApiRefused: when it says no
        :raises OSError: when it cannot be reached
        """
        more = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        connection = self._connect(_SILENT_SECONDS)
        try:
            answer = self._ask(connection, path, {**query, **more, "timeoutSeconds": str(_WATCH_SECONDS)})
        except BaseException as error:
            connection.close()
            if isinstance(error, http.client.HTTPException):
                raise OSError(f"the answer was cut off ({type(error).__name__})") from error
            raise
        return _events(connection, answer)

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{self.url!r} is no address of an API server.", "Write https://HOST:6443.")
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=seconds)
        context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        return http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=seconds, context=context)

    def _ask(
        self, connection: http.client.HTTPConnection, path: str, query: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": "headroom"}
        if self.token_file is not None:
            headers["Authorization"] = f"Bearer {self.token_file.read_text(encoding='ascii').strip()}"
        connection.request("GET", f"{path}?{urlencode(query)}" if query else path, headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            text = answer.read(65_536)
            try:
                said = str(_json(text).get("message"))
            except ApiRefused:
                said = answer.reason
            raise ApiRefused(answer.status, said)
        return answer


def _events(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Iterator[Mapping[str, Any]]:
    try:
        while line := answer.readline(_LONGEST_LINE):
            event = _json(line)
            if event.get("type") == "ERROR":
                status = event.get("object") or {}
                raise ApiRefused(int(status.get("code") or 500), str(status.get("message")))
            yield event
    except http.client.HTTPException as error:
        raise OSError(f"the watch was cut off ({type(error).__name__})") from error
    finally:
        connection.close()


def _json(text: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ApiRefused(200, "it did not answer with JSON") from error
    if not isinstance(document, dict):
        raise ApiRefused(200, "it did not answer with an object")
    return document
