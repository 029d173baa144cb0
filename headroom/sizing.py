"""Store and policy -> recommendations and patches: the wiring that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policies.schema import PolicyError, load_policies
from profiles.errors import UsageError
from recommender.history import Recording
from recommender.inputs.store import read_store
from recommender.recommend import recommend_all
from recommender.recommendation import Recommendation
from reports.patch import Patch, make_patch, read_manifests, target_of, with_current


def size_store(store: Path, policy_name: str) -> tuple[Recording, list[Recommendation]]:
    """The recording in `store` and a recommendation per container.

    :raises profiles.errors.HeadroomError: when the store or the policy cannot be read
    """
    try:
        policies = load_policies(policy_name)
    except PolicyError as error:  # policies stands beside profiles and does not know its errors
        raise UsageError(error.sentence, error.next_step) from error
    recording = read_store(store)
    return recording, recommend_all(recording, policies)


def patches_of(
    rows: Sequence[Recommendation], manifests: Sequence[Path] = (), kind: str = "Deployment", namespace: str = "default"
) -> tuple[dict[str, Patch], dict[str, str]]:
    """Patches by container name, and for the others the reason why there is none."""
    targets = read_manifests(manifests)
    made: dict[str, Patch] = {}
    without: dict[str, str] = {}
    for row in rows:
        target = target_of(row, targets, kind, namespace)
        if target is None:
            without[row.container.name] = "no manifest that was given has it"
            continue
        patch = make_patch(with_current(row, target), target)
        if patch is None:
            without[row.container.name] = (
                next(iter(row.reasons.values())) if row.verdict == "refuse" else "right as it is"
            )
        else:
            made[row.container.name] = patch
    return made, without


def write_patches(patches: dict[str, Patch], folder: Path) -> None:
    """``<name>.yaml`` in `folder` and its rollback in ``rollback/``.

    :raises UsageError: when the folder cannot be written
    """
    try:
        (folder / "rollback").mkdir(parents=True, exist_ok=True)
        for patch in patches.values():
            (folder / f"{patch.name}.yaml").write_text(patch.patch)
            (folder / "rollback" / f"{patch.name}.yaml").write_text(patch.rollback)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written: {error.strerror}.", "Give --out a folder that you own."
        ) from error


def find(rows: Sequence[Recommendation], wanted: str) -> Recommendation:
    """The recommendation of a container, by full name or by an unambiguous workload name.

    :raises UsageError: naming what there is
    """
    found = [row for row in rows if wanted in (row.container.name, row.container.workload)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(row.container.name for row in found or rows)
    problem = "is not in this store" if not found else "is ambiguous"
    raise UsageError(f"{wanted} {problem}.", f"There are: {names}.")
