"""Weights in buckets, as the Vertical Pod Autoscaler keeps them, and percentiles read off them.

    value ---> bucket          linear:       |  |  |  |  |     exponential: ||  |   |     |
    weight --> 2^(age / -half-life)
    percentile -> the END of the bucket in which it falls, so that it never reads too low

Only the ratio of the weights counts, so the time at which a weight is 1 cancels out, and all
weights are computed at once. It matters for one thing: a bucket at either end that holds less
than `epsilon` counts as empty, and the peer lets nothing grow past 2^100.

Source: vertical-pod-autoscaler/pkg/recommender/util (kubernetes/autoscaler): its behaviour and constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MOST_CHECKPOINT_WEIGHT = 10_000
_MOST_HALF_LIVES = 100


@dataclass(frozen=True, slots=True)
class LinearBuckets:
    """Buckets of one size from 0; the last starts at or above `most`.

    :ivar epsilon: weight below which a bucket counts as empty
    """

    most: float
    size: float
    epsilon: float = 1e-15

    @property
    def count(self) -> int:
        """Number of buckets."""
        return math.ceil(self.most / self.size) + 1

    def find(self, values: np.ndarray) -> np.ndarray:
        """Bucket of each value, int64, same shape; the last one takes all that is larger."""
        return np.clip(values / self.size, 0, self.count - 1).astype(np.int64)

    def start(self, bucket: int) -> float:
        """Smallest value of a bucket."""
        return bucket * self.size


@dataclass(frozen=True, slots=True)
class ExponentialBuckets:
    """Buckets that grow by a ratio: bucket n has size `first` * `ratio`^n; the last starts at or above `most`.

    :ivar epsilon: weight below which a bucket counts as empty
    """

    most: float
    first: float
    ratio: float
    epsilon: float = 1e-15

    @property
    def count(self) -> int:
        """Number of buckets."""
        return math.ceil(math.log(self.most * (self.ratio - 1) / self.first + 1) / math.log(self.ratio)) + 1

    def find(self, values: np.ndarray) -> np.ndarray:
        """Bucket of each value, int64, same shape; the last one takes all that is larger."""
        # the inverse of `start`: a geometric sum
        exponents = np.log(np.maximum(values, 0) * (self.ratio - 1) / self.first + 1) / math.log(self.ratio)
        buckets = np.minimum(exponents, self.count - 1).astype(np.int64)
        return np.where(values < self.first, 0, buckets)

    def start(self, bucket: int) -> float:
        """Smallest value of a bucket."""
        return float(self.first * (self.ratio**bucket - 1) / (self.ratio - 1))


Buckets = LinearBuckets | ExponentialBuckets


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Weights by bucket; shape (buckets.count,), float64."""

    buckets: Buckets
    weights: np.ndarray

    @classmethod
    def of(cls, buckets: Buckets, values: np.ndarray, weights: np.ndarray) -> Histogram:
        """Values without NaN, and their weights; both of shape (n,)."""
        return cls(buckets, np.bincount(buckets.find(values), weights=weights, minlength=buckets.count))

    @classmethod
    def merged(cls, parts: Sequence[Histogram]) -> Histogram:
        """The sum of at least one histogram over the same buckets; the same to the last bit in any order.

        :raises ValueError: when their buckets differ
        """
        if len({part.buckets for part in parts}) != 1:
            raise ValueError("Histograms over different buckets, or none at all, cannot be merged.")
        stacked = np.sort(np.stack([part.weights for part in parts]), axis=0)
        return cls(parts[0].buckets, stacked.sum(axis=0))

    def percentile(self, share: float) -> float:
        """End of the bucket in which `share` (0 to 1) of the weight is reached; 0 when empty.

        The last bucket has no end: its start is returned.
        """
        filled = np.flatnonzero(self.weights >= self.buckets.epsilon)
        if not len(filled):
            return 0.0
        low, high = int(filled[0]), int(filled[-1])
        reached = np.cumsum(self.weights[low:high])
        bucket = low + int(np.searchsorted(reached, share * self.weights.sum()))
        return self.buckets.start(min(bucket + 1, self.buckets.count - 1))

    def checkpoint(self) -> tuple[float, dict[int, int]]:
        """Total weight, and whole-number weights by bucket, the largest 10,000; small ones vanish."""
        largest = float(self.weights.max())
        if largest < self.buckets.epsilon:
            return 0.0, {}
        whole = np.floor(self.weights * (MOST_CHECKPOINT_WEIGHT / largest) + 0.5).astype(np.int64)
        return float(self.weights.sum()), {int(bucket): int(whole[bucket]) for bucket in np.flatnonzero(whole)}

    @classmethod
    def restored(cls, buckets: Buckets, total: float, whole: Mapping[int, int]) -> Histogram:
        """What :meth:`checkpoint` wrote.

        :raises ValueError: for a negative total, or a bucket that there is not
        """
        wrong = [bucket for bucket in whole if not 0 <= bucket < buckets.count]
        if total < 0 or wrong:
            raise ValueError(f"Not a checkpoint: total weight {total}, unknown buckets {wrong}.")
        weights, summed = np.zeros(buckets.count), sum(whole.values())
        for bucket, weight in whole.items():
            weights[bucket] = weight * (total / summed) if summed else 0.0
        return cls(buckets, weights)


def decay_weights(unix_seconds: np.ndarray, half_life_seconds: float, reference: float) -> np.ndarray:
    """2^((time - reference) / half-life), shape (n,): one half-life older, half the weight."""
    return np.exp2((unix_seconds - reference) / half_life_seconds)


def reference_time(times: Sequence[np.ndarray], half_life_seconds: float) -> float:
    """When a weight is 1: at the earliest sample, or at the latest where that would pass 2^100."""
    first, last = min(float(each[0]) for each in times), max(float(each[-1]) for each in times)
    return last if last - first > _MOST_HALF_LIVES * half_life_seconds else first


def decaying(
    buckets: Buckets,
    pods: Sequence[tuple[np.ndarray, np.ndarray]],
    half_life_seconds: float,
    sample_weight: float = 1.0,
) -> Histogram:
    """Decayed samples of at least one pod: (unix seconds ascending, values), none empty, without NaN."""
    reference = reference_time([times for times, _ in pods], half_life_seconds)
    return Histogram.merged(
        [
            Histogram.of(buckets, values, sample_weight * decay_weights(times, half_life_seconds, reference))
            for times, values in pods
        ]
    )
