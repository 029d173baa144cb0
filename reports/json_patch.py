"""JSON patches (RFC 6902) that test what they replace: an object that has changed meanwhile refuses them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from recommender.autoscaler import Retarget
from recommender.inventory import Quantity

_Groups = Mapping[str, Mapping[str, Quantity]]
#: By group (requests, limits) and resource; None removes.
_Values = Mapping[tuple[str, str], Quantity | None]


def operations(
    place: str,
    container: str,
    current: _Groups,
    values: _Values,
    *,
    has_resources: bool,
    absent: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Set `values` in the container at the JSON pointer `place`, which has the resources `current`.

    :param has_resources: whether there is a place for them, though it may be empty or hold other things
    :param absent: groups that are known not to be there, not even empty
    """
    made: list[dict[str, Any]] = [{"op": "test", "path": f"{place}/name", "value": container}]
    groups = {name: group for name, group in current.items() if group}
    if not has_resources:
        return [*made, *_added(f"{place}/resources", _after(current, values), is_absent=True)]
    for group in ("requests", "limits"):
        own = {key: text for (of, key), text in values.items() if of == group}
        if own and group not in groups:
            there = {key: text for key, text in own.items() if text is not None}
            made += _added(f"{place}/resources/{group}", there, is_absent=group in absent) if there else []
            continue
        for key, text in own.items():
            path, was = f"{place}/resources/{group}/{key}", groups[group].get(key)
            if was is not None:
                made.append({"op": "test", "path": path, "value": was})
            if text is not None:
                made.append({"op": "add" if was is None else "replace", "path": path, "value": text})
            elif was is not None:
                made.append({"op": "remove", "path": path})
    return made


def undo(place: str, container: str, current: _Groups, values: _Values, *, has_resources: bool) -> list[dict[str, Any]]:
    """What takes back the :func:`operations` of the same arguments: of what was not there, nothing is left."""
    then = _after(current, values)
    made: list[dict[str, Any]] = [{"op": "test", "path": f"{place}/name", "value": container}]
    if not has_resources:
        return [*made, *_removed(f"{place}/resources", then)]
    for group in ("requests", "limits"):
        own = {key: current.get(group, {}).get(key[1]) for key in values if key[0] == group}
        if group in then and not current.get(group):
            made += _removed(f"{place}/resources/{group}", then[group])
        elif own:
            made += operations(place, container, then, own, has_resources=True)[1:]
    return made


def _added(path: str, value: Mapping[str, Any], *, is_absent: bool) -> list[dict[str, Any]]:
    """Of what is not there the API server says null: what somebody has put there meanwhile is not overwritten."""
    nothing = [{"op": "test", "path": path, "value": None}] if is_absent else []
    return [*nothing, {"op": "add", "path": path, "value": value}]


def _removed(path: str, value: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"op": "test", "path": path, "value": value}, {"op": "remove", "path": path}]


def _after(current: _Groups, values: _Values) -> dict[str, dict[str, Quantity]]:
    """The resources when `values` have been set, without empty groups."""
    made = {group: dict(current.get(group, {})) for group in ("requests", "limits")}
    for (group, key), text in values.items():
        if text is None:
            made[group].pop(key, None)
        else:
            made[group][key] = text
    return {name: group for name, group in made.items() if group}


def retarget_operations(retargets: Sequence[Retarget], *, undo: bool = False) -> list[dict[str, Any]]:
    """Other targets for one autoscaler, or the ones from before."""
    made: list[dict[str, Any]] = []
    for each in retargets:
        was, value = (each.after, each.before) if undo else (each.before, each.after)
        for key, name in (("name", each.metric.name), ("container", each.metric.container)):
            if name is not None:  # the metrics may have another order by now
                made.append({"op": "test", "path": f"{each.place}/{key}", "value": name})
        made.append({"op": "test", "path": each.path, "value": was})
        made.append({"op": "replace", "path": each.path, "value": value})
    return made


def text(operations: Sequence[Mapping[str, Any]]) -> str:
    """One operation a line."""
    return "[\n" + ",\n".join(f"  {json.dumps(each)}" for each in operations) + "\n]\n"
