"""A policy: the budgets a size must stay inside. YAML in, frozen models out.

Unknown keys are refused: a misspelt budget that silently kept its default would be a wrong
number that looks right.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from policies.strict_yaml import PolicyError, Strict, read_strict

#: What a workload may be; the recommender's classes, which this package may not import (a test holds them equal).
CLASS_NAMES = (
    "saturated",
    "censored",
    "leaking",
    "start-up-heavy",
    "idle",
    "latency-sensitive, CPU-bound",
    "latency-sensitive, IO-bound",
    "latency-sensitive",
    "bursty",
    "periodic/batch",
    "background worker",
    "not seen",
)
_HERE = Path(__file__).parent
_EXAMPLE = "policies/balanced.yaml has every key and its default."

Percent = Annotated[float, Field(gt=0, le=1000, strict=True)]
Margin = Annotated[float, Field(ge=0, le=500, strict=True)]


class Selector(Strict):
    """Whom a policy is for; shell patterns, all of them must match.

    :ivar class_: ``class`` in YAML: one pattern or a list of them, of which one must match
    :ivar priority_class: of the pods, as the cluster declares it; only ``*`` matches where that is not known
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    namespace: str = "*"
    workload: str = "*"
    container: str = "*"
    class_: Annotated[tuple[str, ...], Field(alias="class", min_length=1)] = ("*",)
    priority_class: str = "*"

    @field_validator("class_", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("class_")
    @classmethod
    def _classes_exist(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in CLASS_NAMES):
                raise ValueError(f"there is no class {pattern!r}")
        return patterns

    def matches(
        self,
        namespace: str,
        workload: str,
        container: str,
        workload_class: str | None = None,
        priority_class: str = "",
    ) -> bool:
        """Whether a container falls under this selector; one of no known class only where any will do."""
        return (
            fnmatchcase(namespace, self.namespace)
            and fnmatchcase(workload, self.workload)
            and fnmatchcase(container, self.container)
            and fnmatchcase(priority_class, self.priority_class)
            and any(
                pattern == "*" or (workload_class is not None and fnmatchcase(workload_class, pattern))
                for pattern in self.class_
            )
        )


class LatencyBudget(Strict):
    """How much latency a size may add.

    :ivar quantile: where it is measured: 0.95 is P95
    :ivar limit_adds_percent: what the CPU limit may add, always
    :ivar request_adds_percent: what having no more than the request may add, on a full node
    """

    quantile: Annotated[float, Field(ge=0.5, le=0.999, strict=True)] = 0.95
    limit_adds_percent: Percent = 5.0
    request_adds_percent: Percent = 25.0


class CpuPolicy(Strict):
    """CPU rules.

    :ivar limit: ``budget`` sets the smallest limit inside the budget, ``none`` sets no limit
    :ivar throttled_percent: share of throttled periods allowed where there is no latency to go by
    :ivar price_of_minutes_over: likewise: so many percent of the request is one percent of minutes over it worth
    """

    limit: Literal["budget", "none"] = "budget"
    floor_millicores: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 10
    margin_percent: Margin = 0.0
    throttled_percent: Percent = 1.0
    price_of_minutes_over: Annotated[float, Field(ge=0.1, le=1000, strict=True)] = 8.0


class MemoryPolicy(Strict):
    """Memory rules: request = peak + margin; limit = request x ratio."""

    floor_mebibytes: Annotated[int, Field(ge=1, le=16 * 2**20, strict=True)] = 16
    margin_percent: Margin = 0.0
    limit_ratio: Annotated[float, Field(ge=1, le=10, strict=True)] = 1.25


class Evidence(Strict):
    """What has to be seen before a number is given."""

    windows: Annotated[int, Field(ge=5, le=1_000_000, strict=True)] = 30
    requests: Annotated[int, Field(ge=50, le=10**12, strict=True)] = 300


class Stability(Strict):
    """A size closer to the current one than this is no reason to restart anything."""

    keep_within_percent: Annotated[float, Field(ge=0, le=100, strict=True)] = 10.0


class Policy(Strict):
    """All rules for the workloads that `match`."""

    name: str
    match: Selector = Selector()
    latency: LatencyBudget = LatencyBudget()
    cpu: CpuPolicy = CpuPolicy()
    memory: MemoryPolicy = MemoryPolicy()
    evidence: Evidence = Evidence()
    stability: Stability = Stability()


class PolicyFile(Strict):
    """A file of policies; the first that matches a workload applies to it."""

    version: Literal[1]
    policies: Annotated[tuple[Policy, ...], Field(min_length=1)]


def _advice(error: Any) -> str | None:
    return f"Classes: {'; '.join(CLASS_NAMES)}." if error["type"] == "value_error" and "class" in error["loc"] else None


def built_in_names() -> list[str]:
    """Policies that come with headroom."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


def load_policies(name_or_path: str) -> tuple[Policy, ...]:
    """The policies of a built-in name or of a YAML file.

    :raises PolicyError: naming the file, the line, and what is allowed there
    """
    path = _HERE / f"{name_or_path}.yaml" if name_or_path in built_in_names() else Path(name_or_path)
    if not path.is_file():
        names = ", ".join(built_in_names())
        raise PolicyError(f"There is no policy {name_or_path}.", f"Use {names}, or the path of a YAML file.")
    return read_strict(path, PolicyFile, _EXAMPLE, _advice).policies


def policy_for(
    policies: Sequence[Policy],
    namespace: str,
    workload: str,
    container: str,
    workload_class: str | None = None,
    priority_class: str = "",
) -> Policy:
    """The first policy that matches; ``balanced`` when none does.

    :param workload_class: one of :data:`CLASS_NAMES`, or None where it is not known
    :param priority_class: of its pods; empty where it is not known
    """
    for policy in policies:
        if policy.match.matches(namespace, workload, container, workload_class, priority_class):
            return policy
    return load_policies("balanced")[0]
