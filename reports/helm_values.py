"""Sizes as values of a Helm chart: a fragment to give with ``--values``, and the one that undoes it.

    shop/web/app: resources            # namespace/workload/container: where the chart keeps its resources
    shop/web/proxy: [sidecars, proxy, resources]

Helm merges maps, so a fragment names what changes and nothing else. Null takes away a default of the chart, but not
what other values set: so what was not there before is not in the fragment that undoes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from profiles.errors import UsageError
from recommender.resources import PLACES
from reports import yaml_text
from reports.patch import OURS, Change

#: Of a container by its name; keys from the outermost on.
Mapped = Mapping[str, tuple[str, ...]]


def read_mapping(path: Path) -> Mapped:
    """Where a chart keeps the resources of which container.

    :raises UsageError: when the file cannot be read, or is no mapping
    """
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = getattr(error, "strerror", None) or "it is no YAML"
        raise UsageError(f"{path} cannot be read: {why}.", "Give --helm-map another file.") from error
    if not isinstance(told, dict):
        raise UsageError(f"{path} maps nothing.", _EXAMPLE)
    found: dict[str, tuple[str, ...]] = {}
    for name, where in told.items():
        keys = where.split(".") if isinstance(where, str) else where
        if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key for key in keys):
            raise UsageError(f"{path} does not say where {name} is.", _EXAMPLE)
        if str(name).count("/") != 2:
            raise UsageError(f"{name!r} in {path} is no container.", _EXAMPLE)
        if tuple(keys) in found.values():  # of another chart's values: one file for both would overwrite one
            raise UsageError(f"{path} puts two containers at {'.'.join(keys)}.", "Write a file for each release.")
        found[str(name)] = tuple(keys)
    return found


_EXAMPLE = "Write a line per container, as  shop/web/app: web.resources"


def values_of(changes: Iterable[Change], mapping: Mapped) -> tuple[str, str]:
    """The fragment and the one that undoes it; of containers that the mapping names."""
    wanted: dict[str, Any] = {}
    before: dict[str, Any] = {}
    for change in changes:
        keys = mapping.get(change.row.container.name)
        if keys is not None:
            _set(wanted, keys, change.wanted)
            _set(before, keys, {place: was for place, was in change.before.items() if was is not None})
    how = "for helm upgrade --reuse-values --values FILE; what is null here must not be set by values of your own"
    return _document(how, wanted), _document("sizes as they were; helm rollback undoes all of it", before)


def _document(what: str, values: Mapping[str, Any]) -> str:
    return f"{OURS}{what}\n{yaml_text.dump(dict(values))}"


def _set(values: dict[str, Any], keys: tuple[str, ...], sizes: Mapping[str, Any]) -> None:
    for key in keys:
        values = values.setdefault(key, {})
    for place, quantity in sizes.items():
        group, resource = PLACES[place]
        values.setdefault(group, {})[resource] = quantity
