"""Requests and limits, and how Kubernetes writes them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from profiles.errors import UsageError

MEBIBYTE = 2**20
_UNITS = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"\+?((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)([a-zA-Z]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Resources:
    """Requests and limits; None is "not set". CPU in cores, memory in bytes."""

    cpu_request_cores: float | None = None
    cpu_limit_cores: float | None = None
    memory_request_bytes: float | None = None
    memory_limit_bytes: float | None = None


#: Request and limit of each resource.
PAIRS = {"cpu": ("cpu_request_cores", "cpu_limit_cores"), "memory": ("memory_request_bytes", "memory_limit_bytes")}
#: The names of the four numbers, in the order in which people read them.
RESOURCE_NAMES = tuple(name for pair in PAIRS.values() for name in pair)
#: Where each stands in a container's resources.
PLACES = {
    name: (group, resource)
    for resource, pair in PAIRS.items()
    for group, name in zip(("requests", "limits"), pair, strict=True)
}


def parse_quantity(text: str | float) -> float:
    """A Kubernetes quantity in base units; digits are scaled as decimals, so equal sizes are equal numbers.

    >>> parse_quantity("100m"), parse_quantity("64Mi"), parse_quantity("128.974848M")
    (0.1, 67108864.0, 128974848.0)

    :raises UsageError: when it is none, or is negative
    """
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None or match[2] not in _UNITS or (match[2] and "e" in match[1].lower()):
        raise UsageError(f"{text!r} is not a Kubernetes quantity.", "Write 250m, 0.5, 128Mi or 1G.")
    value = float(Decimal(match[1]) * _UNITS[match[2]])
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is too large for a quantity.", "Write 250m, 0.5, 128Mi or 1G.")
    return value


def round_up_cores(cores: float) -> float:
    """To 1m below 100m, to 5m below one core, else to 50m; never down."""
    step = 1 if cores < 0.1 else 5 if cores < 1 else 50
    # 1e-6: 0.3 * 1000 is 300.00000000000006, which is not 305m
    return math.ceil(cores * 1000 / step - 1e-6) * step / 1000


def round_up_bytes(size: float) -> float:
    """To whole MiB; never down."""
    return float(math.ceil(size / MEBIBYTE - 1e-9) * MEBIBYTE)


def round_down(name: str, value: float) -> float:
    """What is not to be exceeded, to what can be written: whole MiB and millicores."""
    unit = 0.001 if name.startswith("cpu") else float(MEBIBYTE)
    return math.floor(value / unit + 1e-9) * unit if math.isfinite(value) else value


def format_cores(cores: float | None) -> str | None:
    """A Kubernetes quantity: ``250m``, ``2``."""
    if cores is None:
        return None
    millicores = math.ceil(cores * 1000 - 1e-6)
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def format_bytes(size: float | None) -> str | None:
    """A Kubernetes quantity: ``128Mi``, ``2Gi``."""
    if size is None:
        return None
    mebibytes = math.ceil(size / MEBIBYTE - 1e-9)
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"


def format_resource(name: str, value: float | None) -> str | None:
    """The quantity of one of :data:`RESOURCE_NAMES`."""
    return format_cores(value) if name.startswith("cpu") else format_bytes(value)
