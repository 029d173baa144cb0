"""Prometheus, Thanos, Mimir or VictoriaMetrics, asked through prometheus-api-client.

That library is a thin transport here. Its session is ours: the query travels in the body, every
request has a time-out and is tried again where that can help, and an answer is parsed straight into
arrays. What it asked and what came back is counted, since a tool that sizes must not hurt its source.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.auth import AuthBase
from urllib3.exceptions import ReadTimeoutError
from urllib3.util.retry import Retry

from profiles.errors import HeadroomError, UsageError
from recommender.inputs.answers import BadAnswer, PartialAnswer, Samples, parse_answer, parse_names

_TRIES = Retry(
    total=3, read=1, backoff_factor=0.3, status_forcelist=(429, 502, 503, 504), allowed_methods=None,
    raise_on_status=False, respect_retry_after_header=False,
)  # fmt: skip
_SHOWN = 200
_STEPS = {
    401: "Give --bearer-token-file, or --user with a password file.",
    403: "Ask for the right to query; a tenant may be missing: --header 'X-Scope-OrgID: NAME'.",
    404: "Give the address without /api/v1; Mimir's ends in /prometheus, VictoriaMetrics' in /select/0/prometheus.",
    422: "The server refused to run the query; its limits may be lower than usual: try fewer --days.",
    429: "The server asks for fewer queries; try again later.",
}


class PrometheusError(HeadroomError):
    """Prometheus could not be asked, or did not answer in full."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is and who asks.

    :ivar headers: sent with every request; a tenant, or what a proxy asks for
    :ivar bearer_token_file: read anew for every request, since tokens are rotated
    :ivar matchers: of every selector, as ``cluster="prod"``, where one server has several clusters
    :ivar compress: ask for gzip, which costs the server five times the CPU
    :ivar ca_file: whom to trust instead of the system's authorities
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    bearer_token_file: Path | None = None
    basic: tuple[str, str] | None = None
    client_certificate: tuple[Path, Path] | None = None
    ca_file: Path | None = None
    timeout_seconds: float = 60.0
    compress: bool = False
    matchers: tuple[str, ...] = ()


@dataclass(slots=True)
class Cost:
    """What has been asked so far."""

    queries: int = 0
    samples: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def __iadd__(self, other: Cost) -> Self:
        for name in ("queries", "samples", "bytes", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


class Prometheus:
    """A server that can be queried. Not for use by several threads at once: give each its own."""

    def __init__(self, connection: Connection, cost: Cost | None = None) -> None:
        """Nothing is sent yet.

        :param cost: where to add up what is asked
        :raises UsageError: when the address is none
        """
        url = connection.url.rstrip("/")
        if not _is_address(url):
            raise UsageError(f"{connection.url!r} is no address of a Prometheus.", "Write http://HOST:9090.")
        self.cost = cost if cost is not None else Cost()
        self._url, self._matchers = url, connection.matchers
        self._session = session = _Session(connection, self.cost)
        self._client = PrometheusConnect(url, retry=_TRIES, session=session, method="POST")

    def select(self, metric: str, *matchers: str) -> str:
        """A selector of the metric, with the connection's own matchers."""
        every = (*matchers, *self._matchers)
        return f"{metric}{{{','.join(every)}}}" if every else metric

    def at(self, query: str, unix_seconds: float) -> list[Samples]:
        """The series of an instant query; of a range selector, its raw samples.

        :raises PrometheusError: when there is no complete answer
        """
        return self._ask(lambda: self._client.custom_query(query, params={"time": f"{unix_seconds:.3f}"}))

    def over(self, query: str, start: float, end: float, step_seconds: int) -> list[Samples]:
        """The series of a range query, at most 10,000 points of each.

        :raises PrometheusError: when there is no complete answer
        """
        begin, until = (datetime.fromtimestamp(each, UTC) for each in (start, end))
        return self._ask(lambda: self._client.custom_query_range(query, begin, until, str(step_seconds)))

    def label_values(self, label: str, selector: str, start: float, end: float) -> list[str]:
        """What a label has been of the series selected; no sample is touched.

        :raises PrometheusError: when there is no complete answer
        """
        try:
            return self._session.label_values(self._url, label, selector, start, end)
        except requests.RequestException as error:
            raise _unreachable(self._url, error) from error

    def _ask(self, ask: Callable[[], Any]) -> list[Samples]:
        try:
            found: list[Samples] = ask()
        except PrometheusApiClientException as error:  # never: our session raises first
            raise PrometheusError(f"{self._url} answered: {str(error)[:_SHOWN]}.", "Look at its log.") from error
        except requests.RequestException as error:
            raise _unreachable(self._url, error) from error
        self.cost.samples += sum(len(each.values) for each in found)
        return found


class _Session(requests.Session):
    """Queries in the body, time-outs, and answers that are parsed and checked."""

    def __init__(self, connection: Connection, cost: Cost) -> None:
        super().__init__()
        self._cost, self._url, self._timeout = cost, connection.url, connection.timeout_seconds
        self.headers.update({"Accept-Encoding": "gzip" if connection.compress else "identity", **connection.headers})
        self.verify = str(connection.ca_file) if connection.ca_file else True
        if connection.client_certificate:
            certificate, key = connection.client_certificate
            self.cert = (str(certificate), str(key))
        if connection.bearer_token_file:
            self.auth = _TokenFile(connection.bearer_token_file)
        elif connection.basic:
            self.auth = connection.basic
        else:
            self.auth = _nobody  # else requests would take an Authorization from ~/.netrc

    def request(self, method: str, url: str, **options: Any) -> Any:  # type: ignore[override]
        begin = time.monotonic()
        options |= {"timeout": (10.0, self._timeout), "data": options.pop("params"), "verify": self.verify}
        if options.get("auth") is None:
            options.pop("auth", None)
        response = super().request(method, url, **options)
        self._cost.queries += 1
        self._cost.bytes += len(response.content)
        self._cost.seconds += time.monotonic() - begin
        if response.status_code != 200:
            raise _refused(self._url, response)
        return _Parsed(self._url, response.content)

    def label_values(self, url: str, label: str, selector: str, start: float, end: float) -> list[str]:
        asked = {"match[]": selector, "start": f"{start:.0f}", "end": f"{end:.0f}"}
        timeout = 10.0, self._timeout
        response = super().request(
            "GET", f"{url}/api/v1/label/{label}/values", params=asked, timeout=timeout, verify=self.verify
        )
        self._cost.queries += 1
        if response.status_code != 200:
            raise _refused(self._url, response)
        with _explained(self._url):
            return parse_names(response.content)


class _Parsed:
    """What prometheus-api-client needs of a response."""

    status_code = 200

    def __init__(self, url: str, content: bytes) -> None:
        self._url, self.content = url, content

    def json(self) -> Mapping[str, Any]:
        with _explained(self._url):
            return {"data": {"result": parse_answer(self.content)}}


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except PartialAnswer as error:
        raise PrometheusError(
            f"{url} answered in part only ({str(error)[:_SHOWN]}): that would size too small.",
            "Bring the missing part of it up and try again; what was read so far is kept.",
        ) from error
    except BadAnswer as error:
        raise PrometheusError(
            f"{url} did not answer as Prometheus does: {str(error)[:_SHOWN]}.",
            "Look whether a proxy or a login page answered: curl it with the same headers.",
        ) from error


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _TokenFile(AuthBase):
    """The token that the file holds at the moment."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise UsageError(
                f"The token file {self._path} cannot be read: {why}.", "Give another --bearer-token-file."
            ) from error
        request.headers["Authorization"] = f"Bearer {token}"
        return request


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _refused(url: str, response: requests.Response) -> PrometheusError:
    code = response.status_code
    try:
        said = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        said = " ".join(response.text.split()) or response.reason
    step = _STEPS.get(code, "Look at its log, and try again.")
    if "too many samples" in said or "exceeds the limit" in said or "maximum" in said.lower():
        step = "Its limit on samples or points a query is lower than usual: give a smaller --samples-a-query."
    return PrometheusError(f"{url} answered {code}: {said[:_SHOWN].rstrip('.')}.", step)


def _unreachable(url: str, error: requests.RequestException) -> PrometheusError:
    if isinstance(error, requests.exceptions.SSLError):
        return PrometheusError(f"{url} has a certificate that is not trusted.", "Give --ca-file with its authority.")
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(error, requests.exceptions.Timeout) or isinstance(reason, ReadTimeoutError):
        return PrometheusError(f"{url} did not answer in time.", "Give a longer --timeout, or fewer --days.")
    if isinstance(error, requests.exceptions.ConnectionError):
        return PrometheusError(
            f"Nothing answers at {url}, or it stopped answering.",
            "Look whether it runs, and whether the address is right.",
        )
    return PrometheusError(f"{url} cannot be asked: {str(error)[:_SHOWN]}.", "Look at the address.")
