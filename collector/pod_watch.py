"""Keeps :class:`collector.pods.Pods` true: a list, then a watch from where the list ended, for ever.

    410 Gone          the version is too old: list again
    cut off, silent   watch again from the last version, bookmarks included
    403, 5xx, down    wait, longer each time, with chance in it

What is known stays known meanwhile.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

from collector.api_server import ApiRefused, ApiServer
from collector.pods import LEAST_REMEMBERED_SECONDS, Pods

log = logging.getLogger("headroom.pods")

_PATH = "/api/v1/pods"
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 30.0
_GONE = 410


class PodWatch:
    """Watches the pods of one node on a thread of its own, until it is closed."""

    def __init__(
        self, server: ApiServer, node: str, cluster: str, remembered_seconds: float = LEAST_REMEMBERED_SECONDS
    ) -> None:
        self._server, self._query = server, {"fieldSelector": f"spec.nodeName={node}"}
        self.pods = Pods(cluster, self._owner_of_job, remembered_seconds)
        self.problem: str | None = None
        self._listed, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="pods", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Until the pods have been listed once, or not even that."""
        return self._listed.wait(seconds)

    def close(self) -> None:
        """Stop asking. A request that is under way is left to end by itself."""
        self._stop.set()

    def _run(self) -> None:
        wait, version = _FIRST_WAIT_SECONDS, ""
        while not self._stop.is_set():
            try:
                version = version or self._list()
                version = self._follow(version)
                wait = _FIRST_WAIT_SECONDS
            except ApiRefused as error:
                if error.status == _GONE:
                    version = ""
                else:
                    self._said(f"the API server refuses the pods of this node ({error})")
            except Exception as error:  # noqa: BLE001 - whatever comes from outside must not end the thread
                self._said(f"the API server cannot be asked for pods ({error})")
            self._stop.wait(wait * (0.5 + os.urandom(1)[0] / 256))  # not all nodes at once
            wait = min(_LONGEST_WAIT_SECONDS, 2 * wait)

    def _list(self) -> str:
        found: list[dict[str, Any]] = []
        version = ""
        for page in self._server.pages(_PATH, self._query):
            found += page.get("items") or ()
            version = str(page["metadata"]["resourceVersion"])
        self.pods.replace(found)
        self._listed.set()
        return version

    def _follow(self, version: str) -> str:
        """Events until the watch ends, or is cut off; the last version."""
        events = self._server.watch(_PATH, self._query, version)
        self._said(None)
        try:
            for event in events:
                each = event["object"]
                self._take(event["type"], each)
                version = str(each["metadata"]["resourceVersion"])
                if self._stop.is_set():
                    break
        except OSError:  # the connection is dead, or silent for long; the version is as good as it was
            log.debug("the watch of pods goes on from %s", version)
        return version

    def _take(self, what: str, each: Mapping[str, Any]) -> None:
        try:
            if what in ("ADDED", "MODIFIED"):
                self.pods.put(each)
            elif what == "DELETED":
                self.pods.remove(each)
        except (KeyError, TypeError, AttributeError) as error:  # one odd object must not end the watch
            log.warning("a pod is not as Kubernetes has it (%r); it goes without a name", error)

    def _owner_of_job(self, namespace: str, name: str) -> tuple[str, str] | None:
        try:
            job = self._server.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}")
        except (ApiRefused, OSError):
            return None
        above = next((each for each in job["metadata"].get("ownerReferences") or () if each.get("controller")), None)
        return (str(above["kind"]), str(above["name"])) if above else ("Job", name)

    def _said(self, problem: str | None) -> None:
        """Say a problem once, and its end."""
        if problem != self.problem:
            if problem:
                log.warning("%s; new pods go without a name meanwhile", problem)
            else:
                log.info("the API server tells pods again")
        self.problem = problem
