"""YAML that kubectl reads as it was meant: its parser takes words for numbers and truths that PyYAML's takes for text.

A container may be called ``y``, ``1e3`` or ``0x10``, and a quantity may be written ``"1e9"``.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@-]*|[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


class _Dumper(yaml.SafeDumper):
    """Quotes every text that is not plainly one; PyYAML quotes what is none for itself."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    doubtful = not _PLAIN.fullmatch(value) or value.lower() in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="'" if doubtful else None)


_Dumper.add_representer(str, _text)


def dump(content: Any) -> str:
    """A document in block style, keys in their order."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False))
