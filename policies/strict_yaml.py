"""YAML files that people write: read into frozen models, or refused with file, line and what is allowed there.

Unknown keys are refused: a misspelt budget that silently kept its default would be a wrong number that looks right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

_PLAIN = {
    "missing": "is missing",
    "model_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "literal_error": "must be one of the values in the example",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
}


class PolicyError(Exception):
    """A policy cannot be used: one sentence that names file and line, and a next step."""

    def __init__(self, sentence: str, next_step: str) -> None:
        super().__init__(f"{sentence} {next_step}")
        self.sentence = sentence
        self.next_step = next_step


class Strict(BaseModel):
    """Refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Model = TypeVar("_Model", bound=BaseModel)
#: A better next step for one error, or None.
Advice = Callable[[Any], str | None]


def read_strict(path: Path, model: type[_Model], example: str, advice: Advice = lambda _: None) -> _Model:
    """The file as `model`.

    :param example: the next step where nothing better is known
    :param advice: of one error of pydantic's
    :raises PolicyError: naming the file, the line, and what is allowed there
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except OSError as error:
        raise PolicyError(
            f"{path} cannot be read: {error.strerror}.", "Check the path, and the right to read it."
        ) from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path} is not a text file.", example) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise PolicyError(
            f"{path}{where}: not valid YAML ({getattr(error, 'problem', 'cannot be read')}).", example
        ) from error
    if twice := _key_given_twice(root):
        raise PolicyError(
            f"{path}, line {twice.start_mark.line + 1}: {twice.value!r} is given twice.", "Keep one of them."
        )
    try:
        return model.model_validate(content)
    except OverflowError as error:
        raise PolicyError(f"{path}: a number is too large.", example) from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        raise PolicyError(*_explained(path, root, model, first, advice(first) or example)) from error


def _explained(
    path: Path, root: yaml.Node | None, model: type[BaseModel], first: Any, next_step: str
) -> tuple[str, str]:
    where = f"{path}, line {_line_of(root, first['loc'])}"
    if first["type"] == "extra_forbidden":
        allowed = [field.alias or name for name, field in _model_at(model, first["loc"][:-1]).model_fields.items()]
        return f"{where}: unknown key {first['loc'][-1]!r}.", f"Allowed here: {', '.join(allowed)}."
    if first["type"] == "value_error":
        return f"{where}: {first['ctx']['error']}.", next_step
    name = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{where}: {name}: {_PLAIN.get(first['type'], first['msg'].lower())}.", next_step


def _key_given_twice(node: yaml.Node | None) -> yaml.Node | None:
    """The second of two equal keys of one mapping: YAML itself would silently keep the last."""
    if isinstance(node, yaml.SequenceNode):
        return next((twice for each in node.value if (twice := _key_given_twice(each))), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    seen: set[str] = set()
    for key, value in node.value:
        if str(key.value) in seen:
            return cast("yaml.Node", key)
        seen.add(str(key.value))
        if twice := _key_given_twice(value):
            return twice
    return None


def _line_of(root: yaml.Node | None, location: Sequence[int | str]) -> int:
    """1-based line of the node at `location`, or of the nearest one above it that exists."""
    node, line = root, 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _model_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    for part in location:
        if not isinstance(part, int):
            annotation: Any = model.model_fields[part].annotation
            model = next(each for each in (annotation, *get_args(annotation)) if _is_model(each))
    return model


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
