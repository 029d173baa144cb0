"""Prometheus' text format, by hand: prometheus-client alone is a third of the agent's memory."""

from __future__ import annotations

from collections.abc import Mapping

from profiles.schema import HOST_NAMESPACE, Identity

Labels = tuple[tuple[str, str], ...]


def whose(identity: Identity) -> Labels:
    """Resource labels; a host has no pods."""
    service = (("service_name", identity.workload), ("service_instance_id", identity.instance))
    if identity.namespace == HOST_NAMESPACE:
        return service
    return (("k8s_namespace_name", identity.namespace), ("k8s_container_name", identity.container), *service)


def head(name: str, kind: str, what: str) -> str:
    """The lines before a metric's series."""
    return f"# HELP {name} {what}\n# TYPE {name} {kind}\n"


def metric(name: str, kind: str, what: str, values: Mapping[Labels, float]) -> str:
    """A metric whole, or nothing where it has no series."""
    series = (line(name, labels, value) for labels, value in values.items())
    return head(name, kind, what) + "".join(series) if values else ""


def line(name: str, labels: Labels, value: float) -> str:
    """One series."""
    return f"{name}{f'{{{inside(labels)}}}' if labels else ''} {number(value)}\n"


def inside(labels: Labels) -> str:
    """What stands in the braces."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def number(value: float) -> str:
    """A number that is read back as it is."""
    return str(value) if isinstance(value, int) else repr(float(value))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
