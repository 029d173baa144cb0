"""Wrote real.csv.gz: python -m tests.recommender.labelled.extract FOLDER

Kept per window and instance: what a History's frame has, and no more. See README.md for origin and licence.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
#: case -> file, label is in real.py
KRUIZE = {
    "kruize-costmanagement": "costmanagement-metrics-operator_deployment_costmanagement-metrics-operator",
    "kruize-eap-app": "eap-app_deploymentconfig_america",
    "kruize-nginx-sample": "nginx-sample_deployment_europe",
}
BOUTIQUE = ("frontend", "checkoutservice", "recommendationservice")
TRAIN_TICKET = (
    "admin-basic-info", "admin-order", "admin-route", "admin-travel", "admin-user", "consign-price", "consign",
    "food-delivery", "rebook", "route-plan", "travel-plan", "wait-order", "gateway", "preserve", "preserve-other",
)  # fmt: skip
MIB = 2**20


def main(data: Path) -> None:
    parts = [
        *(_kruize(case, data / "kruize_containers" / f"{file}.csv.gz") for case, file in KRUIZE.items()),
        *(_crane(number, data / "crane_dsp" / f"input{number}.csv.gz") for number in (0, 6, 14)),
        *(_nezha(f"nezha-{name}", data, f"2022-08-22_{name}-*_metric.csv.gz", 10.0) for name in BOUTIQUE),
        *(_nezha(f"nezha-ts-{name}", data, f"2023-01-29_ts-{name}-service-*_metric.csv.gz") for name in TRAIN_TICKET),
    ]
    text = pd.concat(parts).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    (HERE / "real.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def _kruize(case: str, path: Path) -> pd.DataFrame:
    rows = pd.read_csv(path)
    start = pd.to_datetime(rows["interval_start"].str.replace(" UTC", ""), utc=True)
    return _frame(
        case,
        (start - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1),
        900.0,
        cpu_cores=rows["cpu_usage_container_avg"],
        throttled_seconds=rows["cpu_throttle_container_avg"] * 900.0,
        cpu_limit_cores=rows["cpu_limit_container_avg"],
        cpu_request_cores=rows["cpu_request_container_avg"],
        memory=rows["memory_usage_container_max"],
        memory_anon=rows["memory_rss_usage_container_max"],
        memory_limit_bytes=rows["memory_limit_container_avg"],
    )


def _crane(number: int, path: Path) -> pd.DataFrame:
    """Units are not documented: taken as percent of a core, five minutes a window."""
    rows = pd.read_csv(path)
    mean = rows.groupby(rows.index // 5).mean()
    return _frame(f"crane-{number}", mean["ts"] - 120, 300.0, cpu_cores=mean["value"] / 100)


def _nezha(case: str, data: Path, pattern: str, millicores: float = 1.0) -> pd.DataFrame:
    (path,) = (data / "nezha_pods").glob(pattern)
    rows = pd.read_csv(path).iloc[:600]
    cores, rate = rows["CpuUsage(m)"] * millicores / 1000, rows["PodWorkload(Ops)"]
    return _frame(
        case,
        rows["TimeStamp"],
        60.0,
        cpu_cores=cores,
        requests=(rate * 60).round(),
        p90_seconds=rows["PodServerLatencyP90(s)"],
        cpu_limit_cores=(cores / rows["CpuUsageRate(%)"] * 100).median(),
        memory=rows["MemoryUsage(Mi)"] * MIB,
    )


def _frame(case: str, start: pd.Series, seconds: float, **columns: object) -> pd.DataFrame:
    out = pd.DataFrame({"case": case, "start_unix_seconds": start.astype("int64"), "duration_seconds": seconds})
    for name in (
        "cpu_cores", "throttled_seconds", "cpu_limit_cores", "cpu_request_cores", "memory", "memory_anon",
        "memory_limit_bytes", "requests", "p90_seconds",
    ):  # fmt: skip
        out[name] = columns.get(name, np.nan)
    return out.sort_values("start_unix_seconds").drop_duplicates("start_unix_seconds")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
