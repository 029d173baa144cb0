"""Store and policy -> recommendations: the wiring that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from headroom.keep import Keep
from policies.schema import load_policies
from policies.strict_yaml import PolicyError
from profiles.errors import OutputError, UsageError
from recommender.history import Recording
from recommender.inputs.store import read_store
from recommender.recommend import recommend_all
from recommender.recommendation import Recommendation

_MOST_NAMED = 10


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
    found = [row for row in rows if row.container.is_called(wanted)]
    if len(found) == 1:
        return found[0]
    names = [row.container.name for row in found or rows]
    if len(names) > _MOST_NAMED:  # the nearest first
        names = get_close_matches(wanted, names, _MOST_NAMED, 0.0)
    more = len(found or rows) - len(names)
    problem = "is not in this store" if not found else "is ambiguous"
    raise UsageError(f"{wanted} {problem}.", f"There are: {', '.join(names)}{f' and {more} more' if more else ''}.")
