"""CFS quota as plain as it can be said: what the limit bank is held against."""

from itertools import pairwise

import numpy as np

from bpf.layout import BIN_NS, DELAY_BUCKETS, DELAY_UNIT_SHIFT

BINS_PER_PERIOD = 10
SLACK_NS = 2_000_000


class Quota:
    """One limit: quota per period, at most `parallel` CPUs, stopped up to 2 ms late, repaid."""

    def __init__(self, quota, parallel, backlog=0, left=None):
        self.quota, self.parallel = quota, parallel
        self.backlog = backlog
        self.left = quota if left is None else left
        self.throttled_periods = 0
        self.throttled = False

    def bin(self, number, used):
        """Serve one bin; what was served of it."""
        if number % BINS_PER_PERIOD == 0:
            self.left = self.quota + min(0, self.left)
            self.throttled = False
        self.backlog += used
        served = max(0, min(self.backlog, self.parallel * BIN_NS, self.left + SLACK_NS))
        self.backlog -= served
        self.left -= served
        if self.backlog and self.left <= 0 and not self.throttled:
            self.throttled = True
            self.throttled_periods += 1
        return served


def drain_ns(quota, parallel, number, backlog, left):
    """Time from the end of bin `number` until `backlog` is served, when nothing more comes."""
    rule, waited = Quota(quota, parallel, backlog, left), 0
    while True:
        number += 1
        served = rule.bin(number, 0)
        if not rule.backlog:
            return waited + served / parallel
        waited += BIN_NS


def delays_of(quota, parallel, used, first):
    """Delays of the work, first in first out, in 32 parts per bin, and the weight of each part.

    Work arrives evenly over its bin; what a bin serves, it serves from its start at full speed.
    """
    rule = Quota(quota, parallel)
    served = [rule.bin(first + index, each) for index, each in enumerate(used)]
    while rule.backlog:
        served.append(rule.bin(first + len(served), 0))
    work = np.array(used, dtype=float)
    busy = np.flatnonzero(work)
    parts = (np.arange(32) + 0.5) / 32
    place = (np.cumsum(work) - work)[busy, None] + parts * work[busy, None]
    arrival = (busy[:, None] + parts) * BIN_NS
    done = np.cumsum(np.array(served, dtype=float))
    at = np.searchsorted(done, place)
    leaves = at * BIN_NS + (place - done[at] + np.array(served)[at]) / parallel
    weights = np.repeat(work[busy, None] / 32, 32, axis=1)
    return np.maximum(0, leaves - arrival).ravel(), weights.ravel()


def worked_periods(first, used):
    """Per period, whether it had work; the last one is still open."""
    numbers = range(first // BINS_PER_PERIOD, (first + len(used) - 1) // BINS_PER_PERIOD + 1)
    busy = {number // BINS_PER_PERIOD for number, each in enumerate(used, first) if each}
    return [number in busy for number in numbers]


def counted_periods(active):
    """Which of them nr_periods of cpu.stat counts: the timer stops after the first that nothing ran in."""
    return [now or before for before, now in pairwise([False, *active])]


def delay_counts(delays, weights):
    """Microseconds of work per delay bucket."""
    units = (delays / 2**DELAY_UNIT_SHIFT).astype(np.int64)
    octave = np.floor(np.log2(np.maximum(units, 1))).astype(np.int64)
    buckets = np.where(units < 4, units, (octave - 1) * 4 + ((units >> np.maximum(octave - 2, 0)) & 3))
    return np.bincount(np.minimum(buckets, DELAY_BUCKETS - 1), weights / 1000, DELAY_BUCKETS)


def at_least(counts):
    """Per bucket: the work in it and above."""
    return np.cumsum(np.asarray(counts, dtype=float)[::-1])[::-1]
