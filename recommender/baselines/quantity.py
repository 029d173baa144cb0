"""Kubernetes quantities, read exactly, as the peers' own test vectors need it.

Decimal digits are scaled as decimals: 128.974848M is 128974848, not a bit more.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from profiles.errors import UsageError

_UNITS = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"\+?((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)([a-zA-Z]*)", re.ASCII)


def parse_quantity(text: str) -> float:
    """Base units (cores, bytes) of a quantity that is not negative.

    >>> parse_quantity("128974848000m") == parse_quantity("128.974848M") == 128974848
    True

    :raises UsageError: when it is none
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in _UNITS or (match[2] and "e" in match[1].lower()):
        raise UsageError(f"{text!r} is not a Kubernetes quantity.", "Write 250m, 0.5, 128Mi or 1G.")
    value = float(Decimal(match[1]) * _UNITS[match[2]])
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is too large for a quantity.", "Write 250m, 0.5, 128Mi or 1G.")
    return value
