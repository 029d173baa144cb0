"""Goldilocks: what it shows is the Vertical Pod Autoscaler's answer, under two headings.

Guaranteed: request and limit are the target. Burstable: the request is the lower bound, the
limit the upper. So the numbers are those of :mod:`recommender.baselines.vpa`; its margin and
floors apply.

Source: docs/faq.md and pkg/dashboard (FairwindsOps/goldilocks).
"""

from __future__ import annotations

from recommender.baselines import vpa

CPU_GUARANTEED = vpa.CPU_TARGET
CPU_BURSTABLE, CPU_BURSTABLE_LIMIT = vpa.CPU_LOWER, vpa.CPU_UPPER
MEMORY_GUARANTEED = vpa.MEMORY_TARGET
MEMORY_BURSTABLE, MEMORY_BURSTABLE_LIMIT = vpa.MEMORY_LOWER, vpa.MEMORY_UPPER
