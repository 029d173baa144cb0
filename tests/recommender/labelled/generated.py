"""Generated cases. Each recipe draws its parameters from a seed, borderline ones on purpose.

Seeds are even for the half on which thresholds were set, odd for the half that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tests.recommender.labelled.simulate import Service

Recipe = Callable[[np.random.Generator], Service]
CPU, IO, MIXED = "latency-sensitive, CPU-bound", "latency-sensitive, IO-bound", "latency-sensitive"


def wave(mean: float, swing: float, period: float, phase: float = 0.0) -> Callable[[float], float]:
    return lambda now: mean * (1 + swing * np.sin(2 * np.pi * now / period + phase))


def request_rate(chance: np.random.Generator, cost: float, load: tuple[float, float]) -> Callable[[float], float]:
    """Traffic that takes so many cores, with a wave on it."""
    cores = chance.uniform(*load)
    return wave(cores / cost, chance.uniform(0.1, 0.7), chance.uniform(200, 1500), chance.uniform(0, 6))


def service_with(shares: tuple[float, float], **settings: object) -> Recipe:
    """A service whose requests are on CPU for that share of their time."""

    def recipe(chance: np.random.Generator) -> Service:
        cost = float(np.exp(chance.uniform(np.log(0.0008), np.log(0.02))))
        share = chance.uniform(*shares)
        rate = request_rate(chance, cost, (0.1, 1.2))
        born = (0.0,) * int(chance.integers(1, 3))
        probes = bool(chance.random() < 0.3)
        return Service(rate=rate, cost=cost, wait=cost * (1 / share - 1), born=born, probes=probes, **settings)

    return recipe


def faulty(shares: tuple[float, float]) -> Recipe:
    """Errors in episodes that have nothing to do with resources: a bad release, a dependency that is down."""

    def recipe(chance: np.random.Generator) -> Service:
        service = service_with(shares)(chance)
        begins = chance.uniform(0, service.windows * service.seconds, int(chance.integers(1, 4)))
        lasts, share = chance.uniform(30, 150), chance.uniform(0.05, 0.5)
        service.fault = lambda now: share if ((begins <= now) & (now < begins + lasts)).any() else 0.001
        return service

    return recipe


def always_failing(chance: np.random.Generator) -> Service:
    service = service_with((0.05, 0.15))(chance)
    share = chance.uniform(0.01, 0.2)
    service.fault = lambda _: share
    return service


def lightly_throttled(chance: np.random.Generator) -> Service:
    """A limit that is almost never met: under 1 % of periods."""
    service = service_with((0.6, 0.9))(chance)
    service.limit, service.request = 4.0, 1.0
    return service


def growing_service(chance: np.random.Generator) -> Service:
    """Memory that warms up and levels off is no leak."""
    service = service_with((0.05, 0.15))(chance)
    lasts = chance.uniform(60, 150)
    service.memory = lambda now: 300 - 200 * np.exp(-now / lasts)
    return service


def rolled_out(chance: np.random.Generator) -> Service:
    """New instances that start as they go on."""
    service = service_with((0.6, 0.9))(chance)
    service.windows, service.seconds = 120, 20.0
    service.born = (0.0, *chance.uniform(200, 1500, 2))
    return service


def bursty_service(chance: np.random.Generator) -> Service:
    cost, batch = chance.uniform(0.001, 0.004), int(chance.integers(40, 120))
    every = chance.uniform(2, 8)
    return Service(
        rate=wave(batch / every, 0.2, 700), cost=cost, wait=chance.uniform(0.01, 0.05), batch=batch, windows=240
    )


def bursty_worker(chance: np.random.Generator) -> Service:
    """Nothing to do most of the time, then a lot, at times of no pattern."""
    low, high = chance.uniform(0.02, 0.05), chance.uniform(1.0, 3.0)
    begins = np.sort(chance.uniform(0, 4800, int(chance.integers(9, 14))))
    lasts = chance.exponential(15, len(begins)) + 8
    return Service(windows=480, work=lambda now: high if ((begins <= now) & (now < begins + lasts)).any() else low)


def flash_crowds(chance: np.random.Generator) -> Service:
    """A quiet service that is called in storms."""
    cost, storms = chance.uniform(0.002, 0.006), chance.uniform(0, 4600, int(chance.integers(8, 12)))
    quiet, loud = chance.uniform(3, 8), chance.uniform(150, 300)
    return Service(
        windows=480,
        rate=lambda now: loud if ((storms <= now) & (now < storms + 20)).any() else quiet,
        cost=cost,
        wait=chance.uniform(0.02, 0.1),
    )


def job(chance: np.random.Generator) -> Service:
    work = chance.uniform(0.3, 2.0)
    return Service(kind=str(chance.choice(["Job", "CronJob"])), windows=60, work=wave(work, 0.1, 300))


def cron_like(chance: np.random.Generator) -> Service:
    """Runs every so many minutes, in a container that stays."""
    every, share = chance.uniform(300, 900), chance.uniform(0.1, 0.45)
    high, low = chance.uniform(0.3, 2.0), chance.uniform(0.002, 0.02)
    return Service(windows=300, seconds=20.0, work=lambda now: high if now % every < share * every else low)


def uneven_batch(chance: np.random.Generator) -> Service:
    """Runs of like length, at distances that wander."""
    at, begins = 0.0, []
    while at < 6000:
        at += chance.uniform(350, 750)
        begins.append(at)
    lasts, high = chance.uniform(100, 200), chance.uniform(0.3, 2.0)
    return Service(
        windows=300,
        seconds=20.0,
        work=lambda now: high if any(each <= now < each + lasts for each in begins) else 0.01,
    )


def daily(chance: np.random.Generator) -> Service:
    """Four days with a peak at the same hour."""
    return Service(
        windows=384,
        seconds=900.0,
        work=wave(chance.uniform(0.2, 1), chance.uniform(0.4, 0.8), 86400, chance.uniform(0, 6)),
        rate=lambda _: 0.0,
    )


def worker(chance: np.random.Generator) -> Service:
    """Steady work of no requests."""
    return Service(work=wave(chance.uniform(0.03, 1.5), 0.0, 100), probes=bool(chance.random() < 0.5))


def wandering_worker(chance: np.random.Generator) -> Service:
    """Work that drifts: a queue that fills and empties without a rhythm."""
    steps = np.cumsum(0.12 * chance.standard_normal(400))
    level = chance.uniform(0.2, 0.8) * np.exp(np.clip(steps - steps.mean(), -0.8, 0.8))
    return Service(windows=240, work=lambda now: float(level[int(now // 10)]))


def idle(chance: np.random.Generator) -> Service:
    cores = float(np.exp(chance.uniform(np.log(0.0001), np.log(0.006))))
    return Service(work=lambda _: cores, probes=bool(chance.random() < 0.5), windows=int(chance.integers(40, 200)))


def idle_near_the_edge(chance: np.random.Generator) -> Service:
    cores = chance.uniform(0.006, 0.008)
    return Service(work=lambda _: cores)


def leaking(chance: np.random.Generator) -> Service:
    service = service_with((0.05, 0.9))(chance)
    base, slope = chance.uniform(50, 200), chance.uniform(0.001, 0.005)
    service.born = (0.0,)
    service.windows, service.seconds = 180, 10.0
    service.memory = lambda now: base * (1 + slope * now)
    return service


def leaking_worker(chance: np.random.Generator) -> Service:
    slope = chance.uniform(0.05, 0.3)
    return Service(windows=180, work=lambda _: 0.1, memory=lambda now: 80 + slope * now)


def heavy_start(chance: np.random.Generator) -> Service:
    """A virtual machine that compiles as it starts."""
    cost = chance.uniform(0.002, 0.01)
    return Service(
        windows=120,
        seconds=20.0,
        rate=wave(chance.uniform(0.05, 0.25) / cost, 0.3, 800),
        cost=cost,
        wait=cost * chance.uniform(0.3, 8),
        born=(0.0, *chance.uniform(150, 1500, int(chance.integers(1, 4)))),
        start_up=(chance.uniform(1.2, 3.0), 0.0),
        start_up_seconds=chance.uniform(90, 170),
    )


def heavy_start_memory(chance: np.random.Generator) -> Service:
    """Loads a model or an index, then lets most of it go."""
    return Service(
        windows=120,
        seconds=20.0,
        work=lambda _: 0.2,
        born=(0.0, *chance.uniform(150, 1500, 2)),
        start_up=(0.0, chance.uniform(100, 400)),
        start_up_seconds=chance.uniform(90, 170),
    )


def throttled_service(chance: np.random.Generator) -> Service:
    service = service_with((0.2, 0.9))(chance)
    mean = service.rate(0.0) * service.cost
    service.limit = max(0.05, mean * chance.uniform(0.9, 1.15))
    service.request, service.memory_limit = service.limit, 1000.0
    return service


def barely_throttled_service(chance: np.random.Generator) -> Service:
    """Throttled in some of its periods, while the mean is far from the limit."""
    cost = chance.uniform(0.01, 0.02)
    return Service(
        rate=wave(0.3 / cost, 0.3, 600),
        cost=cost,
        wait=0.02,
        limit=chance.uniform(0.5, 0.65),
        request=0.5,
        memory_limit=1000.0,
    )


def overloaded_without_counts(chance: np.random.Generator) -> Service:
    """Errors come when CPU has to be waited for; no period is counted, no limit is set."""
    service = service_with((0.3, 0.9))(chance)
    service.born, service.windows = (0.0,), 240
    period, phase = chance.uniform(300, 900), chance.uniform(0, 6)
    service.neighbours = lambda now: 0.5 * max(0.0, np.sin(2 * np.pi * now / period + phase) - 0.5)
    service.overload, service.memory_limit, service.limit = chance.uniform(0.1, 0.4), 1000.0, 8.0
    service.counted, service.request = False, 4.0
    return service


def failing_under_load(chance: np.random.Generator) -> Service:
    """A pool that is too small: errors rise with load, whatever the CPU does."""
    cost = chance.uniform(0.001, 0.004)
    mean = chance.uniform(60, 200)
    rate = wave(mean, 0.7, chance.uniform(300, 1000), chance.uniform(0, 6))
    knee, steep = mean * 1.2, chance.uniform(0.1, 0.4)
    return Service(
        windows=240,
        rate=rate,
        cost=cost,
        wait=cost * 10,
        limit=4.0,
        request=2.0,
        memory_limit=1000.0,
        fault=lambda now: steep * max(0.0, rate(now) / knee - 1) + 0.0005,
    )


def throttled_worker(chance: np.random.Generator) -> Service:
    work = chance.uniform(0.3, 1.5)
    limit = work * chance.uniform(0.8, 1.05)
    return Service(work=wave(work, 0.2, 400), limit=limit, request=limit, memory_limit=800.0)


def flat_at_its_limit(chance: np.random.Generator) -> Service:
    """Usage that is cut off at the limit; nobody counted periods."""
    work = chance.uniform(0.4, 1.5)
    limit = work * chance.uniform(0.9, 1.1)
    return Service(
        work=wave(work, 0.3, 500), limit=limit, request=limit / 2, counted=False, memory_limit=800.0, threads=4
    )


def killed_for_memory(chance: np.random.Generator) -> Service:
    kills = tuple(float(each) for each in chance.uniform(100, 1100, int(chance.integers(1, 4))))
    service = service_with((0.05, 0.15))(chance) if chance.random() < 0.5 else worker(chance)
    service.oom, service.memory_limit, service.limit, service.request = kills, 300.0, 8.0, 4.0
    service.memory = wave(230, 0.1, 400)
    return service


def full_of_memory(chance: np.random.Generator) -> Service:
    return Service(
        work=lambda _: 0.2,
        memory=wave(300, 0.2, chance.uniform(300, 700)),
        memory_limit=chance.uniform(300, 330),
        limit=4.0,
        request=2.0,
    )


#: label, recipe, how many in each half, and from where we know the label
RECIPES: tuple[tuple[str, Recipe, int], ...] = (
    (CPU, service_with((0.65, 0.95)), 3),
    (CPU, service_with((0.56, 0.62)), 2),
    (CPU, lightly_throttled, 2),
    (CPU, faulty((0.6, 0.9)), 2),
    (CPU, rolled_out, 2),
    (IO, service_with((0.01, 0.12)), 3),
    (IO, service_with((0.15, 0.18)), 2),
    (IO, faulty((0.02, 0.12)), 2),
    (IO, always_failing, 1),
    (IO, growing_service, 2),
    (MIXED, service_with((0.25, 0.4)), 4),
    ("bursty", bursty_service, 2),
    ("bursty", bursty_worker, 2),
    ("bursty", flash_crowds, 2),
    ("periodic/batch", job, 2),
    ("periodic/batch", cron_like, 2),
    ("periodic/batch", uneven_batch, 2),
    ("periodic/batch", daily, 1),
    ("background worker", worker, 3),
    ("background worker", wandering_worker, 2),
    ("idle", idle, 4),
    ("idle", idle_near_the_edge, 1),
    ("leaking", leaking, 3),
    ("leaking", leaking_worker, 2),
    ("start-up-heavy", heavy_start, 3),
    ("start-up-heavy", heavy_start_memory, 2),
    ("saturated", throttled_service, 3),
    ("saturated", barely_throttled_service, 2),
    ("saturated", overloaded_without_counts, 3),
    ("saturated", failing_under_load, 2),
    ("censored", throttled_worker, 2),
    ("censored", flat_at_its_limit, 2),
    ("censored", killed_for_memory, 2),
    ("censored", full_of_memory, 2),
)


def recipes(half: str) -> Iterator[tuple[str, str, Service, int]]:
    """Name, label, service and seed of every case of one half."""
    odd = {"dev": 0, "held out": 1}[half]
    for place, (label, recipe, count) in enumerate(RECIPES):
        for number in range(count):
            seed = 1000 * (place + 1) + 2 * number + odd
            name = recipe.__name__ if recipe.__name__ != "recipe" else recipe.__qualname__.split(".")[0]
            yield f"{name}-{seed}".replace("_", "-"), label, recipe(np.random.default_rng(seed)), seed
