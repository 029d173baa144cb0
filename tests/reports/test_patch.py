"""Patches against the real kubectl, and against what a manifest says."""

import copy
import dataclasses
import json
import shutil
import subprocess

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headroom.patching import patches_of
from headroom.sizing import size_store
from profiles.errors import UsageError
from recommender.resources import parse_quantity
from reports.manifest import read_manifests

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")

SIDECAR = {
    "name": "proxy",
    "image": "envoy:1",
    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
}


def deployment(workload, resources=None):
    own = {"name": workload, "image": "app:1"} | ({"resources": resources} if resources is not None else {})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": workload, "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": workload}},
            "template": {
                "metadata": {"labels": {"app": workload}},
                "spec": {
                    "containers": [own, copy.deepcopy(SIDECAR)],
                    "initContainers": [{"name": "init", "image": "i"}],
                },
            },
        },
    }


def kubectl_patch(folder, manifest, patch):
    (folder / "deployment.yaml").write_text(json.dumps(manifest))
    (folder / "patch.yaml").write_text(patch)
    command = ["kubectl", "patch", "--local", "--dry-run=client", "-o", "yaml", "--type=strategic",
               "-f", str(folder / "deployment.yaml"), "--patch-file", str(folder / "patch.yaml")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def by_name(of_containers):
    return {container.name: each for container, each in of_containers.items()}


def containers(manifest):
    return {each["name"]: each for each in manifest["spec"]["template"]["spec"]["containers"]}


def without_empty(value):
    """Resources with nothing in them are the same as none."""
    if isinstance(value, dict):
        return {key: kept for key, each in value.items() if (kept := without_empty(each)) not in ({}, None)}
    return [without_empty(each) for each in value] if isinstance(value, list) else value


@pytest.fixture
def rows(recorded):
    return size_store(recorded, "balanced")[1]


@needs_kubectl
def test_kubectl_takes_every_patch_and_the_rollback_restores_the_original(tmp_path, rows):
    patches = by_name(patches_of(rows).by_container)
    assert len(patches) == 5
    for row in rows:
        workload, patch = row.container.workload, patches[row.container.name]
        original = deployment(workload)
        patched = kubectl_patch(tmp_path, original, patch.patch)
        assert containers(patched)["proxy"] == SIDECAR
        assert containers(patched)[workload]["resources"]["requests"]["cpu"]
        assert patched["spec"]["template"]["spec"]["initContainers"] == [{"name": "init", "image": "i"}]
        assert without_empty(kubectl_patch(tmp_path, patched, patch.rollback)) == without_empty(original)


@needs_kubectl
def test_with_a_manifest_the_rollback_restores_what_it_says(tmp_path, rows):
    resources = {
        "requests": {"cpu": "0.1", "memory": "32Mi"},
        "limits": {"cpu": "1", "memory": "1e8", "nvidia.com/gpu": "1"},
    }
    original = deployment("checkout", resources)
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump({"kind": "List", "items": [original]}))
    made = patches_of(rows, [path])
    patches, without = by_name(made.by_container), by_name(made.without)
    assert list(patches) == ["host/checkout/checkout"]
    assert without["host/idle/idle"] == "no manifest that was given has it"
    patch = patches["host/checkout/checkout"]
    assert "--namespace shop" in patch.command
    patched = kubectl_patch(tmp_path, original, patch.patch)
    assert containers(patched)["checkout"]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    as_kubectl_writes_it = kubectl_patch(tmp_path, original, "metadata: {}\n")  # 0.1 becomes 100m
    assert kubectl_patch(tmp_path, patched, patch.rollback) == as_kubectl_writes_it


def test_a_manifest_that_already_has_the_sizes_needs_no_patch(tmp_path, rows):
    (row,) = (row for row in rows if row.container.workload == "idle")
    same = {"requests": {"cpu": "0.01", "memory": "16Mi"}, "limits": {"cpu": "0.05", "memory": "20480Ki"}}
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(deployment("idle", same)))
    made = patches_of([row], [path])
    assert made.by_container == {}
    without = by_name(made.without)
    assert without == {"host/idle/idle": "right as it is"}


def test_a_policy_without_limits_removes_them(recorded):
    _, rows = size_store(recorded, "safe")
    patches = by_name(patches_of(rows).by_container)
    content = yaml.safe_load(patches["host/checkout/checkout"].patch)
    (container,) = content["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["cpu"] is None
    assert container["resources"]["requests"]["cpu"]


def test_a_leaking_workload_keeps_its_memory(rows):
    patches = by_name(patches_of(rows).by_container)
    (container,) = yaml.safe_load(patches["host/leaky/leaky"].patch)["spec"]["template"]["spec"]["containers"]
    assert "memory" not in container["resources"]["requests"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("128974848", 128974848), ("129e6", 129e6), ("129M", 129e6), ("128974848000m", 128974848), ("123Mi", 128974848),
     ("0.1", 0.1), ("100m", 0.1), ("2", 2), (2, 2), ("1.5Gi", 1.5 * 2**30), ("1Ei", 2**60), ("340000u", 0.34),
     ("100n", 1e-7), ("+1", 1), ("1e3", 1000), (".5", 0.5), ("1E", 1e18)],
)  # fmt: skip
def test_quantities_mean_what_kubernetes_says(text, value):
    assert parse_quantity(text) == pytest.approx(value)


@given(st.text(max_size=6))
def test_any_text_is_a_quantity_or_a_usage_error(text):
    try:
        value = parse_quantity(text)
    except UsageError:
        return
    assert value >= 0


HEAD = b"kind: Deployment\nmetadata: {name: x}\nspec: {template: {spec: {containers: "


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"a: [1", b"hello", b"- 1", b"kind: CronJob", b"kind: Deployment", b"items: null", b"items: {}",
     b"items: [null]", b"a: 2020-13-45", b"[" * 3000, HEAD + b"null}}}", HEAD + b"[null]}}}", HEAD + b"text}}}",
     HEAD + b"[{name: x, resources: text}]}}}", HEAD + b"[{name: x, resources: {requests: []}}]}}}",
     HEAD + b"[{name: x, resources: {requests: {cpu: 1.2.3}}}]}}}",
     HEAD + b"[{name: x, resources: {limits: {cpu: null}}}]}}}",
     HEAD + b"[{name: x, resources: {limits: {cpu: 1e400}}}]}}}", b"kind: Deployment\nmetadata: null\nspec: []"],
)  # fmt: skip
def test_a_file_that_is_no_manifest_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_manifests([path])
    assert str(path) in caught.value.sentence
    assert "\n" not in str(caught.value)


def test_resources_that_are_null_are_none(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(HEAD + b"[{name: x, resources: null}, {name: y, resources: {requests: null}}]}}}")
    assert [target.current for target in read_manifests([path])] == [{"requests": {}, "limits": {}}] * 2


def renamed(row, **names):
    container = dataclasses.replace(row.container, **names)
    return dataclasses.replace(row, history=dataclasses.replace(row.history, container=container))


def test_two_containers_of_one_workload_get_one_patch_and_so_one_rollout(rows):
    first, second = rows[0], renamed(rows[0], container="envoy")
    patches = patches_of([first, second]).by_container
    (patch,) = set(patches.values())
    assert len(patches) == 2
    content = yaml.safe_load(patch.patch)
    assert [each["name"] for each in content["spec"]["template"]["spec"]["containers"]] == ["checkout", "envoy"]


def test_a_container_that_the_manifest_does_not_have_is_not_guessed(tmp_path, rows):
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(deployment("checkout")))
    made = patches_of([renamed(rows[0], container="other")], [path])
    assert made.by_container == {}
    without = by_name(made.without)
    assert without == {"host/checkout/other": "Deployment checkout has no container other, only checkout, proxy"}


def test_a_workload_in_two_manifests_is_not_guessed(tmp_path, rows):
    other = deployment("checkout")
    other["metadata"]["namespace"] = "test"
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump_all([deployment("checkout"), other]))
    without = by_name(patches_of(rows[:1], [path]).without)
    assert "more than one manifest has it" in without["host/checkout/checkout"]
