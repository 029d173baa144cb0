"""One message to all targets: each is tried until it is taken, or the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headroom.delivery.ledger import DELIVERED, REFUSED, UNKNOWN, Ledger
from headroom.delivery.message import Message, NotTaken, Refused, Target, Unknown

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one target.

    :ivar shown: who, without secrets
    :ivar state: ``delivered``, ``already`` (by an earlier run), ``refused``, ``unknown`` or ``failed``
    :ivar sentence: why it was not delivered
    """

    shown: str
    state: str
    sentence: str = ""

    @property
    def failed(self) -> bool:
        """Whether somebody has to look after it."""
        return self.state in (REFUSED, UNKNOWN, "failed")


def send_all(
    message: Message,
    targets: Sequence[Target],
    ledger: Ledger,
    retry_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> list[Sent]:
    """In turns, so that one receiver that is down does not keep the others waiting.

    :param retry_seconds: for how long a target that does not take it is tried
    """
    found: dict[str, Sent] = {}
    until = now() + retry_seconds
    with ledger.locked():
        due = {target.key: (now(), _FIRST_WAIT_SECONDS, target) for target in targets}
        while due:
            key, (at, wait, target) = min(due.items(), key=lambda each: each[1][0])
            if at > now():
                sleep(at - now())
            del due[key]
            found[key], asked = _try(message, target, ledger)
            again = now() + max(wait, asked)
            if found[key].state == "failed" and again <= until:
                due[key] = again, min(2 * wait, _LONGEST_WAIT_SECONDS), target
    return list(found.values())


def _try(message: Message, target: Target, ledger: Ledger) -> tuple[Sent, float]:
    state = ledger.state(message.id, target.key)
    if state == DELIVERED:
        return Sent(target.shown, "already"), 0.0
    if state is not None:
        return Sent(target.shown, state, "as an earlier run found; it is not sent again"), 0.0
    ledger.begin(message.id, target.key)
    try:
        target.send(message)
    except NotTaken as error:
        ledger.take_back(message.id, target.key)
        return Sent(target.shown, "failed", str(error)), error.wait_seconds
    except Refused as error:
        ledger.take_back(message.id, target.key)  # whoever mends it wants this report, not the next one
        return Sent(target.shown, REFUSED, str(error)), 0.0
    except Unknown as error:
        ledger.end(message.id, target.key, UNKNOWN)
        return Sent(target.shown, UNKNOWN, f"{error}: it may have arrived, and is not sent again"), 0.0
    ledger.end(message.id, target.key, DELIVERED)
    return Sent(target.shown, DELIVERED), 0.0
