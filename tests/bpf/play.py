"""Drives cpu.bpf.c, compiled for user space (native.c): what to charge, and reading its state."""

import ctypes
import random
from itertools import groupby

from hypothesis import settings
from hypothesis import strategies as st

from bpf.layout import (
    BIN_NS,
    PERIOD_NS,
)
from profiles.limit_bank import CANDIDATE_LIMITS_CORES
from tests.bpf.quota import (
    BINS_PER_PERIOD,
)

MS = 1_000_000
FIRST_BIN = 1000  # position 0 of a period
STEPPED_IDLE_BINS = 5  # close_bins takes that many one by one before a gap

SETTINGS = settings(derandomize=True, max_examples=150, deadline=None)


def start(native, quotas, cpus, parallel=None):
    """A cgroup that has not run yet; by default all its processors count as used at once already."""
    values = (ctypes.c_uint64 * len(quotas))(*quotas)
    return native.reset(values, len(quotas), cpus, cpus if parallel is None else parallel).contents


def run_bins(function, first, used):
    function(first, (ctypes.c_uint64 * max(1, len(used)))(*used), len(used))


def played(native, quotas, cpus, used, first=FIRST_BIN):
    state = start(native, quotas, cpus)
    run_bins(native.play, first, used)
    return state


def stepped(native, quotas, cpus, used, first=FIRST_BIN):
    state = start(native, quotas, cpus)
    run_bins(native.step, first, used)
    return state


def backlog_and_left(state, index):
    """Of limit `index`; one outside the dirty prefix is clean, with the quota that is not used."""
    limit = state.limits[index]
    if index >= state.dirty:
        return 0, limit.quota_ns - state.period_used_ns
    return limit.backlog_ns, limit.left_ns


def candidates(cpus):
    """As collector.cpu configures them."""
    return [round(cores * PERIOD_NS) for cores in CANDIDATE_LIMITS_CORES if cores < cpus]


def gaps_of(used):
    """Number of idle runs that close_bins takes at once."""
    return sum(1 for busy, run in groupby([*used, 1], bool) if not busy and len(list(run)) > STEPPED_IDLE_BINS)


@st.composite
def workloads(draw, idle=40):
    """(cpus, first bin, on-CPU time per bin); the last bin closed is never the last of a period."""
    cpus = draw(st.integers(1, 4))
    full = cpus * BIN_NS // 1000
    work = st.one_of(st.integers(0, full), st.sampled_from([0, 1, full - 1, full]))
    piece = st.one_of(
        st.lists(work, min_size=1, max_size=12),
        st.tuples(work, st.integers(1, 25)).map(lambda pair: [pair[0]] * pair[1]),
        st.integers(0, idle).map(lambda bins: [0] * bins),
    )
    used = [us * 1000 for each in draw(st.lists(piece, min_size=1, max_size=8)) for us in each]
    first = FIRST_BIN + draw(st.integers(0, 9))
    if (first + len(used)) % BINS_PER_PERIOD == 0:
        used.append(0)
    return cpus, first, used


def seeded_workload(seed, bins=1500):
    """A long one: busy runs at random levels, idle gaps between them."""
    rng = random.Random(seed)
    cpus = rng.randint(1, 4)
    level = int(rng.uniform(0.1, 1) * cpus * 10_000)
    longest_run, longest_gap = rng.choice([3, 30]), rng.choice([0, 3, 10, 80])
    used = []
    while len(used) < bins:
        used += [rng.randint(1, level) * 1000 for _ in range(rng.randint(1, longest_run))]
        used += [0] * rng.randint(0, longest_gap)
    return cpus, FIRST_BIN + rng.randint(0, 9), [*used, 0]
