"""One request to an API server, with the official client's credentials and connection.

Its methods differ between versions, and its typed models cost a third of a gigabyte for 5,000 pods: so what is
asked and answered is plain JSON.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from profiles.errors import HeadroomError
from recommender.inputs.access import Access, is_in_cluster

JSON = "application/json"
#: A list of which only the metadata is answered; a server that cannot answers it whole.
METADATA_LIST = f"{JSON};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,{JSON}"
_TRIES, _NOT_DONE = 4, 429
_AGAIN = {_NOT_DONE, 500, 502, 503, 504}
_TIMEOUT = urllib3.Timeout(connect=10.0, read=60.0)
_SHOWN = 200
_LONGEST_WAIT = 10.0
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


class ClusterError(HeadroomError):
    """The API server could not be asked."""


class Refused(Exception):
    """What the API server does not do, with its own words."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """An object or a list, and what the server warns of."""

    document: dict[str, Any]
    warnings: tuple[str, ...] = ()


def ask(
    connection: client.ApiClient,
    path: str,
    query: Mapping[str, str] | None = None,
    method: str = "GET",
    body: str | None = None,
    content_type: str = JSON,
    accept: str = JSON,
) -> Answer:
    """One request; what may be asked again is, with the waits that the server asks for.

    :raises Refused: when the server does not do it
    :raises ClusterError: when it does not answer, or not with JSON
    """
    settings, host = connection.configuration, connection.configuration.host
    address = f"{host}{path}" + (f"?{urlencode(query)}" if query else "")
    for attempt in range(_TRIES):
        headers = {"Accept": accept} | ({"Content-Type": content_type} if body is not None else {})
        headers |= {each["key"]: each["value"] for each in settings.auth_settings().values() if each["value"]}
        last = attempt == _TRIES - 1
        try:
            answer = connection.rest_client.pool_manager.request(
                method, address, body=body, headers=headers, timeout=_TIMEOUT, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            if isinstance(error, urllib3.exceptions.ProtocolError) and not attempt and method == "GET":
                continue  # a connection that was kept, and is closed now
            raise ClusterError(
                f"The API server at {host} does not answer.", "Look whether kubectl reaches it with the same context."
            ) from error
        # what changes something may have been done although the answer says otherwise
        if answer.status in (_AGAIN if method == "GET" else {_NOT_DONE}) and not last:
            time.sleep(_wait(answer.headers.get("Retry-After"), attempt))
            continue
        return Answer(_document(answer, host, path), _warnings(answer))
    raise AssertionError


def _document(answer: urllib3.BaseHTTPResponse, host: str, path: str) -> dict[str, Any]:
    good = 200 <= answer.status < 300
    try:
        document = json.loads(answer.data)
    except ValueError as error:
        if not good:
            raise Refused(answer.status, str(answer.reason)) from error
        raise ClusterError(
            f"The API server at {host} did not answer with JSON.", "Look whether a proxy or a login page answered."
        ) from error
    if not good:
        said = document.get("message") if isinstance(document, dict) else None
        raise Refused(answer.status, str(said or answer.reason)[:_SHOWN])
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        raise ClusterError(
            f"{host}{path} did not answer with an object.", "Look whether a proxy or a login page answered."
        )
    return document


def _warnings(answer: urllib3.BaseHTTPResponse) -> tuple[str, ...]:
    """What `Warning: 299 - "text"` says, as kubectl shows it."""
    return tuple(text.replace('\\"', '"') for text in _WARNING.findall(answer.headers.get("Warning", "")))


def _wait(retry_after: str | None, attempt: int) -> float:
    """As long as the server asks for, within reason."""
    asked = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    return float(min(_LONGEST_WAIT, max(asked, 0.2 * 2**attempt)))


def connected(access: Access) -> client.ApiClient:
    """A connection as the files, or the pod, say.

    :raises ClusterError: when they do not
    """
    settings = client.Configuration()
    try:
        if access.kubeconfig is None and access.context is None and is_in_cluster():
            config.load_incluster_config(client_configuration=settings)
        else:
            file = str(access.kubeconfig) if access.kubeconfig else None
            config.load_kube_config(file, access.context, client_configuration=settings, persist_config=False)
    except (ConfigException, OSError, yaml.YAMLError, TypeError, ValueError, AttributeError, KeyError) as error:
        why = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise ClusterError(
            f"There is no way into a cluster: {why}.",
            "Give --kubeconfig and --context, as for kubectl.",
        ) from error
    return client.ApiClient(settings)


def next_step(status: int | None) -> str:
    """What to do about a refusal."""
    if status == 401:
        return "Log in again: kubectl works with the same context when it is right."
    if status == 403:
        return "Give it the role that deploy/ has (get, list and watch), or --namespace with one that you may read."
    return "Look at the API server's log, and try again."
