"""Every recommender on the public CPU series that shared/data holds: ``python -m benchmarks backtest``."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.stand import DATA
from recommender.backtest.run import backtest
from recommender.inputs.traces import read_workloads

TRACES = DATA / "crane_dsp"


def measure() -> dict[str, dict[str, float]]:
    """Scores by recommender."""
    return {each.name: asdict(each.scores) for each in backtest(read_workloads(TRACES, "cpu")).judged}
