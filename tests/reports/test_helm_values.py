"""Values for Helm: the real helm makes of a chart what the patch would make of its objects."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from headroom.patching import patches_of, write_patches, write_values
from profiles.errors import UsageError
from reports.helm_values import read_mapping
from tests.reports.test_cluster_patch import container, rows_of, workload

HELM = shutil.which("helm", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
needs_helm = pytest.mark.skipif(HELM is None, reason="helm is not on PATH")
TEMPLATE = """apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    spec:
      containers:
        - name: app
          resources: {{ .Values.resources | toJson }}
        - name: proxy
          resources: {{ .Values.sidecars.proxy.resources | toJson }}
"""
OWN = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
MAPPING = {"shop/web/app": "resources", "shop/web/proxy": ["sidecars", "proxy", "resources"]}


def mapping(folder, told):
    path = folder / "map.yaml"
    path.write_text(told if isinstance(told, str) else yaml.safe_dump(told))
    return read_mapping(path)


def rendered(folder, *values):
    chart = folder / "chart"
    (chart / "templates").mkdir(parents=True, exist_ok=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: web\nversion: 0.1.0\n")
    (chart / "values.yaml").write_text(json.dumps({"resources": OWN, "sidecars": {"proxy": {"resources": {}}}}))
    (chart / "templates" / "web.yaml").write_text(TEMPLATE)
    more = [text for value in values for text in ("--values", str(value))]
    done = subprocess.run([HELM, "template", "web", str(chart), *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {
        each["name"]: each["resources"]
        for each in yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["containers"]
    }


@needs_helm
def test_helm_makes_of_a_chart_what_the_sizes_say_and_undoes_it(tmp_path):
    objects = [workload("Deployment", [container("app", **OWN), container("proxy")])]
    patches = patches_of(rows_of(objects, unset=("cpu_limit_cores",)))
    out = tmp_path / "out"
    write_patches(patches, out)
    assert write_values(patches, mapping(tmp_path, MAPPING), out) == []
    found = rendered(tmp_path, out / "helm-values.yaml")
    assert found["app"] == {"requests": {"cpu": "300m", "memory": "96Mi"}, "limits": {"memory": "128Mi"}}
    assert found["proxy"]["requests"] == {"cpu": "300m", "memory": "96Mi"}
    undone = rendered(tmp_path, out / "helm-values.yaml", out / "rollback" / "helm-values.yaml")
    assert undone["app"] == OWN
    assert undone["proxy"] == found["proxy"]  # no value takes away what other values set


def test_a_container_that_the_mapping_does_not_name_is_said(tmp_path):
    objects = [workload("Deployment", [container("app", **OWN), container("proxy")])]
    patches = patches_of(rows_of(objects))
    write_patches(patches, tmp_path / "out")
    missing = write_values(patches, mapping(tmp_path, {"shop/web/app": "web.resources"}), tmp_path / "out")
    assert missing == ["shop/web/proxy"]
    told = yaml.safe_load((tmp_path / "out" / "helm-values.yaml").read_text())
    assert told["web"]["resources"]["requests"] == {"cpu": "300m", "memory": "96Mi"}


def test_values_of_an_earlier_run_go_with_its_patches(tmp_path):
    patches = patches_of(rows_of([workload("Deployment", [container("app", **OWN)])]))
    write_patches(patches, tmp_path)
    write_values(patches, mapping(tmp_path, MAPPING), tmp_path)
    write_patches(patches, tmp_path)
    assert not list(tmp_path.rglob("helm-values.yaml"))


def test_a_workload_called_helm_values_keeps_its_own_file(tmp_path):
    patches = patches_of(rows_of([workload("Deployment", [container("app", **OWN)], name="helm-values")]))
    assert {patch.name for patch in patches.by_container.values()} == {"shop-helm-values"}


@pytest.mark.parametrize(
    "told",
    [
        "- a",
        "a: b",
        "shop/web/app: 3",
        "shop/web/app: []",
        "shop/web/app: a..b",
        ": :",
        "shop/web/app: [1]",
        "shop/web/app: r\nshop/api/api: r",
    ],
)
def test_a_file_that_maps_nothing_is_one_sentence(tmp_path, told):
    with pytest.raises(UsageError) as caught:
        mapping(tmp_path, told)
    assert caught.value.sentence.endswith(".")
    assert caught.value.next_step
