"""Store and policy -> recommendations and patches: the wiring that several commands share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from headroom.keep import Keep
from policies.schema import PolicyError, load_policies
from profiles.errors import OutputError, UsageError
from recommender.history import Recording
from recommender.inputs.store import read_store
from recommender.recommend import recommend_all
from recommender.recommendation import Recommendation
from reports.manifest import read_manifests
from reports.patch import Patch, is_ours, make_patch, object_name, target_of, with_current


def size_store(
    store: Path, policy_name: str, *, only: str | None = None, keep: Keep = Keep.EVERYTHING
) -> tuple[Recording, list[Recommendation]]:
    """The recording in `store` and a recommendation per container, by name.

    :param store: an SQLite file, or the folder of a Parquet store
    :param only: of a folder, read the containers of that name or workload alone, if there are any
    :param keep: what stays in memory of each container of a folder; but for everything, no history of the recording
    :raises profiles.errors.HeadroomError: when the store or the policy cannot be read
    """
    try:
        policies = load_policies(policy_name)
    except PolicyError as error:  # policies stands beside profiles and does not know its errors
        raise UsageError(error.sentence, error.next_step) from error
    if not store.is_dir():
        recording = read_store(store)
        return recording, recommend_all(recording, policies)
    from headroom.fleet import size_folder  # noqa: PLC0415 - pyarrow is loaded only where it is needed

    return size_folder(store, policies, only=only, keep=keep)


def patches_of(
    rows: Sequence[Recommendation], manifests: Sequence[Path] = (), kind: str = "Deployment", namespace: str = "default"
) -> tuple[dict[str, Patch], dict[str, str]]:
    """Patches by container name, and for the others the reason why there is none."""
    targets = read_manifests(manifests)
    made: dict[str, Patch] = {}
    without: dict[str, str] = {}
    shared = Counter(row.container.workload for row in rows)
    for row in rows:
        target = target_of(row, targets, kind, namespace)
        if isinstance(target, str):
            without[row.container.name] = target
            continue
        of = row.container
        parts = [of.workload] if shared[of.workload] == 1 else [of.namespace, of.workload, of.container]
        patch = make_patch(with_current(row, target), target, object_name("-".join(parts)))
        if patch is None:
            without[of.name] = next(iter(row.reasons.values())) if row.verdict == "refuse" else "right as it is"
        else:
            made[of.name] = patch
    return made, without


def write_patches(patches: dict[str, Patch], folder: Path) -> list[Path]:
    """``<name>.yaml`` in `folder` and its rollback in ``rollback/``; patches of before go.

    :returns: the files of an earlier run that were removed
    :raises OutputError: when the folder cannot be written
    """
    rollback = folder / "rollback"
    wanted = {where / f"{patch.name}.yaml" for patch in patches.values() for where in (folder, rollback)}
    try:
        rollback.mkdir(parents=True, exist_ok=True)
        old = [
            path for path in (*folder.glob("*.yaml"), *rollback.glob("*.yaml")) if path not in wanted and is_ours(path)
        ]
        for path in old:
            path.unlink()
        for patch in patches.values():
            (folder / f"{patch.name}.yaml").write_text(patch.patch, encoding="utf-8")
            (rollback / f"{patch.name}.yaml").write_text(patch.rollback, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.", "Give --out another folder.") from error
    return old


def write_report(text: str, path: Path) -> None:
    """Write a page.

    :raises OutputError: when it cannot be written
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", "Give --out another file.") from error


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
