"""Which cluster, and as whom; apart from the client that asks it, which takes a third of a second to load."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the API server.

    :ivar kubeconfig: None for the usual one; inside a pod its service account
    :ivar namespace: ask for this one alone; None for all
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None

    @property
    def is_named(self) -> bool:
        """Whether somebody asked for this one, rather than being in it."""
        return self.kubeconfig is not None or self.context is not None


def is_in_cluster() -> bool:
    """Whether this is a pod with a service account."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
