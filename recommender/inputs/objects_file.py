"""Objects from files: what ``kubectl get ... -o json`` (or ``-o yaml``) printed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from profiles.errors import UsageError
from recommender.inputs.objects import inventory_of
from recommender.inventory import Inventory

_ADVICE = "Give the output of kubectl get deploy,sts,ds,rs,job,cronjob,pod,hpa,limitrange,quota,node -A -o json."


def read_objects(paths: Sequence[Path], cluster: str) -> Inventory:
    """The inventory that the files declare together.

    :raises UsageError: naming the file that is none
    """
    objects = [each for path in paths for each in _objects(path)]
    try:
        return inventory_of(objects, cluster)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        names = ", ".join(map(str, paths))
        raise UsageError(f"{names}: an object is not as Kubernetes has it ({error}).", _ADVICE) from error


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        documents = [json.loads(text)] if text.lstrip().startswith("{") else list(yaml.safe_load_all(text))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", _ADVICE) from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path} is neither JSON nor YAML.", _ADVICE) from error
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            raise UsageError(f"{path} holds no Kubernetes objects.", _ADVICE)
        if "items" not in document:
            yield document
            continue
        kind = document["kind"].removesuffix("List")
        for each in document["items"] or ():
            if not isinstance(each, dict):
                raise UsageError(f"{path} holds something that is no object.", _ADVICE)
            # the API server's own lists do not repeat the kind in each object
            yield each if "kind" in each else {"kind": kind, "apiVersion": document.get("apiVersion", ""), **each}
