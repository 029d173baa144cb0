"""A patch that is applied, watched, and undone when it does harm.

    patches --> roll-out --> an autoscaler's target that rises --> watch --> done
                    |                      |                         |
                    '----------------------'-------------------------'--> rollbacks, last first

Whatever ends it in between undoes it as well. What somebody else changed meanwhile is left as it is.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import Any, TypeVar

import yaml

from headroom.applying import content_of, settings_of
from profiles.errors import HeadroomError
from recommender.inputs.workloads import Health, RefusedByCluster, Workloads, progress_of
from recommender.quality import Workload
from reports.patch import Patch

_LOOK_SECONDS, _WATCH_SECONDS = 2.0, 5.0  # between two looks, during the roll-out and after it
_PATIENCE_SECONDS = 60.0  # with a server that does not answer
_UNAVAILABLE_SECONDS = 30.0
_MOST_RESTARTS = 1
_Asked = TypeVar("_Asked")

#: Says why what is served now is worse than the budget allows, or None.
Judge = Callable[[], str | None]
Tell = Callable[[str], None]


class Overtaken(HeadroomError):
    """Somebody else has changed it meanwhile."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How long to look.

    :ivar rollout_seconds: in which every replica is to be new and available
    :ivar after_seconds: and how long after that
    """

    rollout_seconds: float = 600.0
    after_seconds: float = 600.0


def apply(workloads: Workloads, steps: Sequence[Patch], watch: Watch, judge: Judge, tell: Tell) -> str | None:
    """Apply the patches of one workload and watch it; returns why they were undone, None when they stay.

    :raises RefusedByCluster: when the server does not take one; those before it are undone
    :raises Overtaken: when somebody else changes its sizes; nothing is undone
    """
    return _Rollout(workloads, steps, watch, judge, tell).run()


@dataclass
class _Rollout:
    """One on its way.

    :ivar begun: patches that may be stored
    :ivar before: settings by target
    :ivar wanted: those of the workload, as the server took them
    :ivar old: uids of the pods that were there before
    """

    workloads: Workloads
    steps: Sequence[Patch]
    watch: Watch
    judge: Judge
    tell: Tell
    begun: list[Patch] = field(default_factory=list)
    before: dict[Workload, dict[str, str]] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    old: frozenset[str] = frozenset()

    @property
    def main(self) -> Patch:
        return next(patch for patch in self.steps if patch.target[1] != "HorizontalPodAutoscaler")

    def run(self) -> str | None:
        self._see_that_it_rests()
        self.before = {patch.target: settings_of(self.workloads.get(patch.target)) for patch in self.steps}
        self.old = self.workloads.pod_uids(self.main.target)
        try:
            why = self._through()
        except Overtaken:
            raise
        except (Exception, KeyboardInterrupt) as error:  # whatever happens, nothing is left half way
            if self.begun:
                self.tell(f"undoing it: {str(error) or 'interrupted'}")
                self._undo()
            raise
        if why:
            self.tell(f"undoing it: {why}")
            self._undo()
        return why

    def _see_that_it_rests(self) -> None:
        document = self.workloads.get(self.main.target)
        progress, name = progress_of(document), _name(self.main.target)
        if (document.get("spec") or {}).get("paused"):
            raise RefusedByCluster(f"{name} is paused.", "Resume it first, or nothing would be rolled out.")
        if not progress.rests:
            raise RefusedByCluster(f"A roll-out of {name} is under way: {progress.told}.", "Wait for its end.")

    def _through(self) -> str | None:
        """Apply, and watch; why it is to be undone."""
        place = self.steps.index(self.main)
        for patch in self.steps[: place + 1]:
            self._apply(patch)
        why = self._rolled_out()
        if why:
            return why
        for patch in self.steps[place + 1 :]:  # a target that rises: not before the pods whose requests fell are there
            self._apply(patch)
        return self._stays_well()

    def _apply(self, patch: Patch) -> None:
        self.begun.append(patch)  # first: it may be stored though no answer comes
        try:
            answer = self.workloads.patch(patch.target, *content_of(patch.patch, patch.suffix), dry_run=False)
        except RefusedByCluster:
            self.begun.remove(patch)  # nothing to undo
            raise
        if patch is self.main:
            self.wanted = settings_of(answer.document)
        self.tell(f"applied {patch.name}.{patch.suffix} to {_name(patch.target)}")

    def _look(self) -> tuple[dict[str, Any], Health]:
        """The workload and its new pods.

        :raises Overtaken: when its sizes are not ours any more
        """
        target = self.main.target
        document = _patiently(lambda: self.workloads.get(target))
        if settings_of(document) != self.wanted:
            raise Overtaken(
                f"Somebody else has changed the sizes of {_name(target)} meanwhile; nothing was undone.",
                "kubectl get --show-managed-fields says who. What keeps it (GitOps, an operator) must have the patch.",
            )
        return document, _patiently(lambda: self.workloads.health(target, document, self.old))

    def _rolled_out(self) -> str | None:
        """Wait until every replica is new; why they will not be."""
        last = ""
        for _ in _looks(self.watch.rollout_seconds, _LOOK_SECONDS):
            document, health = self._look()
            progress = progress_of(document)
            if progress.told and progress.told != last:
                self.tell(progress.told)
                last = progress.told
            trouble = progress.failed or health.harm or ("" if progress.done else health.trouble)
            if trouble:
                return f"the roll-out fails: {trouble}"
            if progress.done:
                return None
        return f"the roll-out did not end within {self.watch.rollout_seconds:.0f} s"

    def _stays_well(self) -> str | None:
        """Look at pods and latency for a while; why it is not well."""
        if self.watch.after_seconds:
            self.tell(f"rolled out; watching for {self.watch.after_seconds:.0f} s")
        restarts, well = self._look()[1].restarts, time.monotonic()
        for _ in _looks(self.watch.after_seconds, _WATCH_SECONDS):
            document, health = self._look()
            progress = progress_of(document)
            well = time.monotonic() if progress.done else well
            if health.harm or health.trouble:
                return health.harm or health.trouble
            if health.restarts > restarts + _MOST_RESTARTS:
                return f"its containers were started anew {health.restarts - restarts} times"
            if time.monotonic() - well > _UNAVAILABLE_SECONDS:
                return f"its pods do not stay available: {progress.told}"
            why = self.judge()
            if why:
                return why
        return None

    def _undo(self) -> None:
        """Apply the rollbacks, last first, every one that the server takes; nothing interrupts it.

        :raises HeadroomError: when it does not take one, with the lines that do it by hand
        """
        left: list[tuple[Patch, HeadroomError]] = []
        with _undisturbed():
            for patch in reversed(self.begun):
                try:
                    self._set_back(patch)
                    self.tell(f"set back {_name(patch.target)}")
                except HeadroomError as error:
                    left.append((patch, error))
        if left:
            names = " and ".join(_name(patch.target) for patch, _ in left)
            raise HeadroomError(
                f"{names} could not be set back: {left[0][1].sentence}",
                f"Do it by hand: {' && '.join(_by_hand(patch) for patch, _ in left)}",
            ) from left[0][1]
        if self.main.target[1] == "StatefulSet":
            self.tell("a pod of it that is stuck stays so until it is deleted: kubectl delete pod")

    def _set_back(self, patch: Patch) -> None:
        content = content_of(patch.rollback, patch.suffix)
        try:
            _patiently(lambda: self.workloads.patch(patch.target, *content, dry_run=False))
        except RefusedByCluster:  # a test fails, too, where the patch was never stored
            if settings_of(self.workloads.get(patch.target)) != self.before[patch.target]:
                raise


def _patiently(ask: Callable[[], _Asked]) -> _Asked:
    """Ask again while there is no answer, for a while; a refusal is one."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except RefusedByCluster:
            raise
        except HeadroomError:
            if time.monotonic() > end:
                raise
            time.sleep(_LOOK_SECONDS)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Meanwhile no signal that usually ends a process does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _looks(seconds: float, every: float) -> Iterator[None]:
    """Now and then, for so long, and once at the end."""
    end = time.monotonic() + seconds
    while True:
        yield
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(every, left))


def _by_hand(patch: Patch) -> str:
    """The line that undoes it; its file was never written, so it brings the content along."""
    command = patch.rollback_command.partition(" --patch-file ")[0]
    content = json.dumps(yaml.safe_load(patch.rollback))  # JSON is YAML, too
    return f"{command} --patch {quote(content)}"


def _name(target: Workload) -> str:
    return f"{target[1]} {target[2]}/{target[3]}"
