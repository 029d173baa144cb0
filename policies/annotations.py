"""Policy by annotation: what a workload or its namespace says of itself overrides the files.

    headroom.dev/policy: lean                        another policy, by name
    headroom.dev/latency.limit_adds_percent: "10"    one of its keys
    headroom.dev/cpu.limit: none

What cannot be understood is said and passed over: one wrong annotation must not stop a fleet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from policies.schema import Policy, built_in_names, load_policies
from policies.strict_yaml import PolicyError

PREFIX = "headroom.dev/"
_POLICY = "policy"
_SECTIONS = ("latency", "cpu", "memory", "evidence", "stability")


def annotated(
    policy: Policy, policies: Sequence[Policy], annotations: Mapping[str, str]
) -> tuple[Policy, dict[str, str], list[str]]:
    """The policy with what the annotations override, where each overridden key comes from, and what was passed over.

    :param policy: that the files give
    :param policies: of the files, which an annotation may name
    :param annotations: with their prefix
    """
    sources: dict[str, str] = {}
    problems: list[str] = []
    own = {name.removeprefix(PREFIX): text for name, text in annotations.items() if name.startswith(PREFIX)}
    if (name := own.pop(_POLICY, None)) is not None:
        found = _named(name, policies)
        if found is None:
            problems.append(f"annotation {PREFIX}{_POLICY}: there is no policy {name!r}")
        else:
            policy, sources[_POLICY] = found, f"annotation {PREFIX}{_POLICY}"
    for key, text in sorted(own.items()):
        section, _, field = key.partition(".")
        if section not in _SECTIONS or field not in type(getattr(policy, section)).model_fields:
            problems.append(f"annotation {PREFIX}{key} is no key of a policy")
            continue
        try:
            policy = _with(policy, section, field, yaml.safe_load(text))
            sources[key] = f"annotation {PREFIX}{key}"
        except (ValidationError, yaml.YAMLError, ValueError):
            problems.append(f"annotation {PREFIX}{key}: {text[:40]!r} cannot be")
    return policy, sources, problems


def _with(policy: Policy, section: str, field: str, value: Any) -> Policy:
    part = getattr(policy, section)
    made = type(part).model_validate({**part.model_dump(), field: value})
    return policy.model_copy(update={section: made})


def _named(name: str, policies: Sequence[Policy]) -> Policy | None:
    known = next((each for each in policies if each.name == name), None)
    if known is not None or name not in built_in_names():
        return known
    try:
        return load_policies(name)[0]
    except PolicyError:
        return None
