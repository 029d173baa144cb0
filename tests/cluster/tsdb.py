"""A small real Prometheus that holds what a test says it holds, and the scenes that tests ask it about.

A scene is a time of its own: all of them stand in one Prometheus, far enough apart that none sees another.
"""

import contextlib
import functools
import gzip
import itertools
import math
import random
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

RECORDED = Path(__file__).parent / "recorded"
CPU, MEMORY, RSS = "container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_memory_rss"
PERIODS, THROTTLED = "container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total"
HOUR, DAY = 3600, 86400
MEBIBYTE = 2**20

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="prometheus and promtool are not installed"
)


def line(metric, labels, value, unix_seconds):
    inner = ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items())
    return f"{metric}{{{inner}}} {value!r} {unix_seconds:.3f}"


def escaped(text):
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def load(folder, lines):
    """Make blocks of OpenMetrics text, in the folder of a Prometheus that does not run."""
    text = folder / "scene.txt"
    text.write_text("\n".join((*lines, "# EOF\n")), encoding="utf-8")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "data")]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    text.unlink()


@contextlib.contextmanager
def prometheus(*scenes, options=()):
    """The address of a Prometheus that holds these scenes and scrapes nothing."""
    with tempfile.TemporaryDirectory(prefix="headroom-tsdb-") as name:
        folder = Path(name)
        for lines in scenes:
            load(folder, lines)
        (folder / "empty.yml").write_text("")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [
            "prometheus", f"--config.file={folder / 'empty.yml'}", f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=100y", f"--web.listen-address={address}", *options,
        ]  # fmt: skip
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until_ready(process, f"http://{address}", folder / "log")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(20)


def wait_until_ready(process, url, log):
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())


# --- what containers did ---------------------------------------------------------
# A reading is (unix seconds, CPU seconds counted so far, working set).


def readings(seed, begin, end, *, every=60.0, phase=17.25, restarts=(), gaps=()):
    """A container that does something else every minute; scraped at `phase` past each `every`."""
    chance = random.Random(seed)
    counted, made, restarts = 1000.0, [], sorted(restarts)
    moment = begin + phase
    while moment <= end:
        counted += every * chance.choice((0.01, 0.05, 0.1, 0.9)) * chance.random()
        if restarts and moment >= restarts[0]:
            restarts.pop(0)
            counted = every * 0.3 * chance.random()
        if not any(first <= moment <= last for first, last in gaps):
            made.append((moment, counted, float(chance.randrange(50, 200) * MEBIBYTE)))
        moment += every
    return made


def smooth_readings(begin, end, *, every=60.0, phase=17.25):
    """The same container, whoever scrapes it and when: 0.3 cores, a little more and a little less."""
    moments = [begin + phase + every * number for number in range(int((end - begin - phase) // every) + 1)]
    return [(at, smooth_counter(at - begin), 100.0 * MEBIBYTE + at % 7) for at in moments]


def smooth_counter(seconds):
    return 0.3 * seconds + 50 * math.sin(seconds / 2000)


def usage_lines(labels, made, *, is_cpu=True, is_memory=True):
    for moment, counted, working_set in made:
        if is_cpu:
            yield line(CPU, labels | {"cpu": "total"}, counted, moment)
        if is_memory:
            yield line(MEMORY, labels, working_set, moment)


# --- what an agent tells of requests ---------------------------------------------

SERVED = "http_server_request_duration_seconds"
BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def served_lines(workload, begin, end, latency_at, *, per_second=20.0, errors_at=lambda _: 0.0, namespace="shop"):
    """Counters of one instance by the quarter of a minute; every request between two of them takes as long."""
    of = {"k8s_namespace_name": namespace, "service_name": workload, "service_instance_id": f"{workload}-0"}
    good = of | {"http_response_status_code": "200"}
    bad = of | {"http_response_status_code": "503", "error_type": "503"}
    count, failed, under = 0.0, 0.0, dict.fromkeys(BOUNDS, 0.0)
    for moment in range(begin, end, 15):
        count += 15 * per_second
        failed += 15 * per_second * errors_at(moment)
        for bound in BOUNDS:
            under[bound] += 15 * per_second * (latency_at(moment) <= bound)
            yield line(f"{SERVED}_bucket", good | {"le": repr(bound)}, under[bound], moment)
        yield line(f"{SERVED}_bucket", good | {"le": "+Inf"}, count, moment)
        yield line(f"{SERVED}_count", good, count - failed, moment)
        yield line(f"{SERVED}_count", bad, failed, moment)


# --- the shop: thirty hours of two namespaces at 60 s -----------------------------

START = 1_790_000_100
END = START + 30 * HOUR
GAP = (START + 10 * HOUR, START + 10 * HOUR + 1200)
#: Four scrapes are missing where a row ends: short enough to be known.
SHORT_GAP = (START + 12 * HOUR - 110, START + 12 * HOUR + 40)
RESTARTS = (START + 7 * HOUR + 130, START + 19 * HOUR + 200)
GONE = ("shop", "web-c6757df8b-z2z4z", "app")
LIVED = (START + 3 * HOUR + 60, START + 3 * HOUR + 660)
ODD = {"image": 'a"b\\c{d="e"}]],[["values":[[', "name": 'line\nbreak ]] "result":[ \N{SNOWMAN}\N{GRINNING FACE}'}
WEB = ("web-c6757df8b-m5nts", "web-c6757df8b-xrb9c", "web-c6757df8b-k2k4k")
SHOP_CONTAINERS = (
    ("bank", "StatefulSet", "ledger", "ledger"),
    ("bank", "StatefulSet", "odd", "odd"),
    ("shop", "CronJob", "tick", "c"),
    ("shop", "Deployment", "quiet", "quiet"),
    ("shop", "Deployment", "web", "app"),
    ("shop", "Deployment", "web", "sidecar"),
    ("shop", "StatefulSet", "cart", "cart"),
)


@functools.cache
def shop_series():
    """By namespace, pod and container: series that tell of it, as labels and readings."""
    begin, end = START - 600, END + 600
    kubelet = {"job": "kubelet"}
    ledger = smooth_readings(begin, end)
    return {
        ("shop", WEB[0], "app"): [(kubelet, readings(1, begin, end))],
        ("shop", WEB[0], "sidecar"): [(kubelet, readings(2, begin, end))],
        ("shop", WEB[1], "app"): [(kubelet, readings(3, begin, end, restarts=RESTARTS))],
        ("shop", "cart-0", "cart"): [(kubelet, readings(4, begin, end, gaps=(GAP, SHORT_GAP)))],
        GONE: [(kubelet, readings(5, *LIVED))],
        ("bank", "odd-0", "odd"): [(kubelet | ODD, readings(6, begin, end))],
        ("bank", "ledger-0", "ledger"): [
            (kubelet | {"replica": "a"}, ledger),
            ({"job": "kubelet-2", "replica": "a"}, ledger),
            (kubelet | {"replica": "b"}, smooth_readings(begin, end, phase=44.5)),
        ],
    }


@functools.cache
def shop_periods():
    """(unix seconds, periods, throttled periods) of the first pod of web, by the minute; it begins again once."""
    made, periods, throttled, chance = [], 0, 0, random.Random(7)
    for number in range(31 * 60):
        moment = START - 1200 + 60 * number + 17.25
        periods += chance.randrange(100, 600)
        throttled += chance.randrange(50)
        if number == 500:
            periods, throttled = 40, 3
        made.append((moment, float(periods), float(throttled)))
    return made


def shop():
    for (namespace, pod, container), told in shop_series().items():
        of = {"namespace": namespace, "pod": pod}
        for labels, made in told:
            yield from usage_lines(of | {"container": container} | labels, made)
        whole = [(at, 100 * counted, 100 * memory) for at, counted, memory in told[0][1]]
        for not_one in ("", "POD"):  # the pod as a whole, and what holds its network
            yield from usage_lines(of | {"container": not_one, "job": "kubelet"}, whole)
    of = {"namespace": "shop", "pod": WEB[0], "container": "app"}
    for moment, periods, throttled in shop_periods():
        yield line(PERIODS, of, periods, moment)
        yield line(THROTTLED, of, throttled, moment)
    for moment, _, working_set in shop_series()["shop", WEB[0], "app"][0][1]:
        yield line(RSS, of, working_set / 2, moment)
    yield from repeated(shop_inventory(), START - 600, END + 600, 240)


def shop_inventory():
    """Metrics, labels and values, as two replicas of kube-state-metrics tell them."""
    owners = [
        *(("shop", pod, "ReplicaSet", "web-c6757df8b") for pod in WEB),
        ("shop", "quiet-6b5c4d7f89-x2b4c", "ReplicaSet", "quiet-6b5c4d7f89"),
        ("shop", "tick-29919525-6lvfs", "Job", "tick-29919525"),
        ("shop", "cart-0", "StatefulSet", "cart"),
        ("bank", "ledger-0", "StatefulSet", "ledger"),
        ("bank", "odd-0", "StatefulSet", "odd"),
    ]
    containers = {"web": ("app", "sidecar"), "tick": ("c",)}
    told = []
    for namespace, pod, kind, name in owners:
        of = {"namespace": namespace, "pod": pod}
        told.append(("kube_pod_owner", of | {"owner_kind": kind, "owner_name": name}, 1))
        for container in containers.get(pod.split("-")[0], (pod.split("-")[0],)):
            told.append(("kube_pod_container_info", of | {"container": container}, 1))
            cores = 0.5 if pod == WEB[2] else 0.25  # most of web's pods have 0.25
            for resource, value in (("cpu", cores), ("memory", 256 * MEBIBYTE)):
                labels = of | {"container": container, "resource": resource}
                told.append(("kube_pod_container_resource_requests", labels, value))
            labels = of | {"container": container, "resource": "memory"}
            told.append(("kube_pod_container_resource_limits", labels, 512 * MEBIBYTE))
    for name in ("web-c6757df8b", "quiet-6b5c4d7f89"):
        labels = {"namespace": "shop", "replicaset": name, "owner_kind": "Deployment", "owner_name": name.split("-")[0]}
        told.append(("kube_replicaset_owner", labels, 1))
    labels = {"namespace": "shop", "job_name": "tick-29919525", "owner_kind": "CronJob", "owner_name": "tick"}
    told.append(("kube_job_owner", labels, 1))
    scaler = {"namespace": "shop", "horizontalpodautoscaler": "web-scaler"}
    target = {"scaletargetref_kind": "Deployment", "scaletargetref_name": "web"}
    metric = {"metric_name": "cpu", "metric_target_type": "utilization"}
    told += [
        ("kube_horizontalpodautoscaler_info", scaler | target, 1),
        ("kube_horizontalpodautoscaler_spec_min_replicas", scaler, 2),
        ("kube_horizontalpodautoscaler_spec_max_replicas", scaler, 9),
        ("kube_horizontalpodautoscaler_spec_target_metric", scaler | metric, 70),
    ]
    return [
        (metric, labels | {"instance": replica}, value)
        for metric, labels, value in told
        for replica in ("ksm-0", "ksm-1")
    ]


def repeated(told, begin, end, every):
    for moment, (metric, labels, value) in itertools.product(range(begin, end, every), told):
        yield line(metric, labels, value, moment)


# --- other scenes, each at a time of its own ---------------------------------------

#: Three hours that a real cAdvisor and a real kube-state-metrics told; a container uses 0.01 cores.
RECORDED_START = START - 7 * DAY
RECORDED_END = RECORDED_START + 3 * HOUR
RECORDED_CONTAINERS = (
    ("shop", "CronJob", "tick", "c"),
    ("shop", "DaemonSet", "agent", "agent"),
    ("shop", "Deployment", "oomer", "o"),
    ("shop", "Deployment", "web", "app"),
    ("shop", "Deployment", "web", "sidecar"),
    ("shop", "StatefulSet", "db", "db"),
)


def recorded():
    wanted = (CPU, MEMORY, RSS, PERIODS, THROTTLED)
    for text in recorded_lines("cadvisor.txt.gz"):
        if text.startswith(tuple(f"{each}{{" for each in wanted)):
            series, value, _ = text.rsplit(" ", 2)
            growth = 0.6 if series.startswith(CPU) else 0.0
            for minute in range(-10, 190):
                moment = RECORDED_START + 60 * minute + 4.5
                yield f"{series} {float(value) + growth * (minute + 10)!r} {moment:.3f}"
    for text in recorded_lines("ksm.txt.gz"):
        for moment in range(RECORDED_START - 600, RECORDED_END + 600, 240):
            yield f"{text} {moment}"


def recorded_lines(name):
    text = gzip.decompress((RECORDED / name).read_bytes()).decode()
    return [each for each in text.splitlines() if each and not each.startswith("#")]


#: Scraped every 15 s, without kube-state-metrics.
OFTEN_START = START - 3 * DAY
OFTEN_END = OFTEN_START + 3 * HOUR


def often():
    for replica, phase in (("a", 3.25), ("b", 9.5)):
        of = {"namespace": "fast", "pod": "api-0", "container": "api", "replica": replica}
        yield from usage_lines(of, smooth_readings(OFTEN_START - 600, OFTEN_END + 600, every=15, phase=phase))


#: Five busy containers scraped every 15 s, and one every 60 s: two jobs of one Prometheus.
MIXED_START = START - 5 * DAY
MIXED_END = MIXED_START + 3 * HOUR


def mixed():
    begin, end = MIXED_START - 600, MIXED_END + 600
    for number in range(5):
        of = {"namespace": "fast", "pod": f"api-{number}", "container": "api"}
        yield from usage_lines(of, smooth_readings(begin, end, every=15, phase=3.25))
    of = {"namespace": "slow", "pod": "batch-0", "container": "batch"}
    yield from usage_lines(of, [(at, counted / 10, memory) for at, counted, memory in smooth_readings(begin, end)])


#: A namespace in which all that ever ran is one short job, and containers that belong to no pod.
RARE_START = START - 9 * DAY
RARE_END = RARE_START + 30 * HOUR
RARE = ("night", "report-29919525-6lvfs", "c")


def rare():
    of = {"namespace": "day", "pod": "web-0", "container": "web"}
    yield from usage_lines(of, smooth_readings(RARE_START - 600, RARE_END + 600))
    at = RARE_START + 2 * 4500 + 1000
    yield from usage_lines(dict(zip(("namespace", "pod", "container"), RARE, strict=True)), readings(8, at, at + 600))


STRAY_START = START - 12 * DAY
STRAY_END = STRAY_START + 3 * HOUR


def stray():
    begin, end = STRAY_START - 600, STRAY_END + 600
    of = {"namespace": "day", "pod": "web-0", "container": "web"}
    yield from usage_lines(of, smooth_readings(begin, end))
    yield from usage_lines({"container": "docker", "id": "/docker/0123"}, smooth_readings(begin, end))


#: What a real kubelet tells at /metrics/resource, where no cAdvisor is scraped: three hours, 0.01 cores more a minute.
RESOURCE_START = START - 9 * DAY
RESOURCE_END = RESOURCE_START + 3 * HOUR


def resource():
    for text in recorded_lines("kubelet_resource.txt.gz"):
        if not text.startswith((CPU, MEMORY)):
            continue
        series, value = text.split()[:2]
        growth = 0.6 if series.startswith(CPU) else 0.0
        for minute in range(-10, 190):
            yield f"{series} {float(value) + growth * (minute + 10)!r} {RESOURCE_START + 60 * minute + 9.25:.3f}"


def every_scene():
    return shop(), recorded(), often(), mixed(), rare(), stray(), resource()
