"""What CPU, memory and nodes cost: a price file.

    version: 1
    currency: EUR
    core_hour: 0.028          where no type of node is known
    gib_hour: 0.0037
    nodes:                    by node.kubernetes.io/instance-type; headroom plan chooses among them
      - {name: m6i.xlarge, hour: 0.214, cores: 3.92, memory: 14.1Gi}

The defaults are about what large clouds ask on demand for general-purpose machines: a round number to compare sizes
with, not a bill.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from policies.strict_yaml import Strict, read_strict

_GIBIBYTE = 2**30
_EXAMPLE = "docs/policies.md has an example with every key."
_UNITS = {"Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
Price = Annotated[float, Field(ge=0, le=1e6)]


class NodeType(Strict):
    """A kind of node that can be had.

    :ivar name: as the label node.kubernetes.io/instance-type has it
    :ivar hour: what one costs an hour
    :ivar cores, memory: what pods can have of it (allocatable); memory as a quantity: 14.1Gi
    :ivar pods: how many it takes
    """

    name: Annotated[str, Field(min_length=1, max_length=63)]
    hour: Price
    cores: Annotated[float, Field(gt=0, le=10_000)]
    memory: Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?(Mi|Gi|Ti)$")]
    pods: Annotated[int, Field(ge=1, le=10_000)] = 110

    @property
    def memory_bytes(self) -> float:
        """Allocatable memory."""
        return float(self.memory[:-2]) * _UNITS[self.memory[-2:]]


class Prices(Strict):
    """A price file.

    :ivar core_hour, gib_hour: where no type of node is known
    """

    version: Literal[1] = 1
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    core_hour: Price = 0.03
    gib_hour: Price = 0.004
    nodes: tuple[NodeType, ...] = ()

    @field_validator("nodes")
    @classmethod
    def _each_once(cls, nodes: tuple[NodeType, ...]) -> tuple[NodeType, ...]:
        names = [each.name for each in nodes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"node type {name!r} stands there twice")
        return nodes

    def rates_of(self, node_type: str) -> tuple[float, float] | None:
        """What a core-hour and a GiB-hour of a type cost: its price, split in the ratio of the general ones.

        None where the type is not listed, or the general prices are zero.
        """
        found = next((each for each in self.nodes if each.name == node_type), None)
        if found is None:
            return None
        usual = found.cores * self.core_hour + found.memory_bytes / _GIBIBYTE * self.gib_hour
        return (self.core_hour * found.hour / usual, self.gib_hour * found.hour / usual) if usual else None


def load_prices(path: Path | None) -> Prices:
    """The file's prices; without a file the defaults.

    :raises PolicyError: naming the file, the line, and what is allowed there
    """
    return Prices() if path is None else read_strict(path, Prices, _EXAMPLE)
