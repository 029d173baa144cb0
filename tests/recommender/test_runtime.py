"""What executes a program, from the row to the advice on its heap."""

import numpy as np
import pytest

from policies.schema import load_policies
from profiles.schema import Runtime
from recommender.recommend import recommend

BALANCED = load_policies("balanced")[0]


@pytest.mark.parametrize(
    ("runtime", "setting"),
    [
        (Runtime.GO, "Go's heap has a limit of its own: set GOMEMLIMIT="),
        (Runtime.NODE, "set NODE_OPTIONS=--max-old-space-size="),
        (Runtime.JVM, "the JVM's heap has a limit of its own: set -XX:MaxRAMPercentage="),
        (Runtime.PYTHON, None),
        (Runtime.NATIVE, None),
        (None, None),
    ],
)
def test_a_heap_with_a_limit_of_its_own_is_told_of_the_containers(make_history, runtime, setting):
    columns = {} if runtime is None else {"runtime": float(runtime)}
    history = make_history(**columns)
    assert history.runtime is runtime
    notes = [note for note in recommend(history, BALANCED).notes if "heap" in note]
    if setting is None:
        assert notes == []
    else:
        (note,) = notes
        assert setting in note


def test_the_last_runtime_that_was_seen_counts(make_history):
    history = make_history(runtime=float(Runtime.PYTHON))
    history.frame.loc[history.frame.index[-5:], "runtime"] = [float(Runtime.GO)] * 4 + [np.nan]
    assert history.runtime is Runtime.GO
