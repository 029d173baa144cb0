"""How often the class is right: ``python -m benchmarks.classes [dev]``; the set is in tests/recommender/labelled."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache

from recommender.classify import Classification, WorkloadClass, classify
from recommender.demand import fit_demand
from recommender.memory import fit_memory
from tests.recommender.labelled.cases import Case, cases

SHORT = {
    WorkloadClass.CPU_BOUND: "CPU",
    WorkloadClass.IO_BOUND: "IO",
    WorkloadClass.MIXED: "mixed",
    WorkloadClass.WORKER: "worker",
    WorkloadClass.PERIODIC: "periodic",
    WorkloadClass.START_UP: "start-up",
}
SURE = 0.7


@cache
def answers(half: str) -> tuple[tuple[Case, Classification], ...]:
    """Every case of one half with what the classifier says."""
    return tuple(
        (case, classify(case.history, fit_demand(case.history), fit_memory(case.history)))
        for case in cases()
        if case.half == half
    )


def accuracy(rows: Sequence[tuple[Case, Classification]]) -> float:
    """Share of cases whose class is right."""
    return sum(case.label == answer.name.value for case, answer in rows) / len(rows)


def matrix(rows: Sequence[tuple[Case, Classification]]) -> str:
    """The confusion matrix as Markdown: a row per label, a column per answer."""
    counts = Counter((case.label, answer.name.value) for case, answer in rows)
    seen = [each for each in WorkloadClass if each is not WorkloadClass.UNSEEN]
    names = [each.value for each in seen]
    head = [SHORT.get(each, each.value) for each in seen]
    lines = [f"| is \\ called | {' | '.join(head)} |", "|---|" + "---|" * len(head)]
    lines += [f"| {label} | {' | '.join(str(counts[label, other] or '') for other in names)} |" for label in names]
    return "\n".join(lines) + "\n"


def report() -> str:
    """What docs/classes.md shows."""
    rows = answers("held out")
    right = sum(case.label == answer.name.value for case, answer in rows)
    parts = [f"{right} of {len(rows)} held-out cases are right ({right / len(rows):.1%})"]
    for origin in ("generated", "recorded"):
        own = [row for row in rows if row[0].origin == origin]
        parts.append(f"{origin}: {sum(c.label == a.name.value for c, a in own)} of {len(own)}")
    for what, own in (
        (f"confidence {SURE:g} or more", [row for row in rows if row[1].confidence >= SURE]),
        ("less", [row for row in rows if row[1].confidence < SURE]),
    ):
        parts.append(f"{what}: {sum(c.label == a.name.value for c, a in own)} of {len(own)}")
    wrong = [
        f"- {case.name}: is {case.label}, called {answer.name.value} ({answer.evidence}; "
        f"confidence {answer.confidence:.2f})\n"
        for case, answer in rows
        if case.label != answer.name.value
    ]
    tail = "\nWrong:\n\n" + "".join(wrong) if wrong else ""
    return f"{'; '.join(parts)}.\n\n{matrix(rows)}{tail}"


def measure() -> dict[str, float]:
    """Share that is right, per half."""
    return {f"{half.replace(' ', '_')}_right": accuracy(answers(half)) for half in ("held out", "dev")}


def main() -> None:
    if sys.argv[1:] == ["dev"]:
        rows = answers("dev")
        print(f"{accuracy(rows):.1%} of {len(rows)}\n\n{matrix(rows)}")
        for case, answer in rows:
            if case.label != answer.name.value:
                print(case.name, case.label, "->", answer.name.value, answer.confidence, answer.evidence)
        return
    print(report())


if __name__ == "__main__":
    main()
