"""Patches of what a cluster declares: every kind, against the real kubectl and the API server's own schema."""

import gzip
import json
import shutil
import subprocess
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml

import tests.cluster
from headroom.patching import patches_of, write_patches
from headroom.resizing import write_resizes
from policies.schema import load_policies
from recommender.inputs.objects import inventory_of
from recommender.recommend import without_usage
from recommender.recommendation import Verdict
from recommender.resources import Resources
from tests.cluster.replay import shop

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")
MIB = 2**20
BALANCED = load_policies("balanced")
RECORDED = Path(tests.cluster.__path__[0]) / "recorded"


def workload(kind, containers, init=(), api_version="apps/v1", name="web"):
    pod = {"containers": deepcopy(containers)} | ({"initContainers": list(init)} if init else {})
    template = {"metadata": {"labels": {"app": name}}, "spec": pod | {"restartPolicy": "Always"}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template}
    if kind == "CronJob":
        api_version, spec = "batch/v1", {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}
    if kind == "DaemonSet":
        del spec["replicas"]
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


def container(name, **resources):
    return {"name": name, "image": "i:1"} | ({"resources": resources} if resources else {})


WANTED = Resources(0.3, None, 96 * MIB, 128 * MIB)


def rows_of(objects, target=WANTED, unset=(), **by_name):
    """A row for each container, with that target, or with its own by name."""
    rows = []
    for declared in inventory_of(objects, "prod").containers:
        row = without_usage(declared, BALANCED)
        wanted = by_name.get(declared.container.container.replace("-", "_"), target)
        if wanted is None:
            rows.append(row)
            continue
        rows.append(replace(row, verdict=Verdict.RESIZE, target=wanted, uncapped=wanted, unset=frozenset(unset)))
    return rows


def by_name(of_containers):
    return {container.name: each for container, each in of_containers.items()}


def patched(folder, original, text, kind="strategic"):
    (folder / "object.yaml").write_text(yaml.safe_dump(original))
    (folder / "patch").write_text(text)
    files = ["-f", str(folder / "object.yaml"), "--patch-file", str(folder / "patch")]
    command = ["kubectl", "patch", "--local", "--dry-run=client", "-o", "yaml", f"--type={kind}", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


@cache
def schema():
    with gzip.open(RECORDED / "openapi_v2.json.gz", "rt") as file:
        return json.load(file)["body"]


def assert_valid(document):
    """By the schema of the API server that was recorded; null removes, and is no value."""
    names = {
        "apps/v1": "io.k8s.api.apps.v1",
        "batch/v1": "io.k8s.api.batch.v1",
        "autoscaling/v2": "io.k8s.api.autoscaling.v2",
    }
    name = f"{names[document['apiVersion']]}.{document['kind']}"
    assert name in schema()["definitions"]
    shape = {"$ref": f"#/definitions/{name}", "definitions": _closed(schema()["definitions"])}
    jsonschema.Draft4Validator(shape).validate(document)


def _closed(definitions):
    """Fields that the API server does not know are an error here; it would drop or refuse them."""
    return {
        name: each | ({"additionalProperties": False} if "properties" in each else {}) | {"required": []}
        for name, each in definitions.items()
    }


def resources_in(document, name):
    spec = document["spec"]
    spec = spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec
    pod = spec["template"]["spec"]
    return next(
        each for group in ("containers", "initContainers") for each in pod.get(group, ()) if each["name"] == name
    )["resources"]


PLAIN = container("app", requests={"cpu": "100m", "memory": "64Mi"}, limits={"cpu": "1", "memory": "128Mi"})


@needs_kubectl
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "CronJob"])
def test_every_kind_takes_its_patch_and_its_rollback_restores_it(tmp_path, kind):
    original = workload(kind, [PLAIN, container("proxy", requests={"cpu": "50m"})])
    made = patches_of(rows_of([original], proxy=None))
    (patch,) = made.in_order
    assert f"kubectl patch {kind.lower()} web --namespace shop" in patch.command
    assert_valid(yaml.safe_load(patch.patch))
    assert_valid(yaml.safe_load(patch.rollback))
    after = patched(tmp_path, original, patch.patch)
    assert resources_in(after, "app") == {
        "requests": {"cpu": "300m", "memory": "96Mi"},
        "limits": {"cpu": "1", "memory": "128Mi"},
    }
    assert resources_in(after, "proxy") == {"requests": {"cpu": "50m"}}
    assert patched(tmp_path, after, patch.rollback) == patched(tmp_path, original, "metadata: {}\n")


@needs_kubectl
def test_containers_sidecars_and_init_containers_of_one_workload_are_patched_together(tmp_path):
    init = [
        container("prepare", requests={"cpu": "1"}),
        container("mesh", requests={"cpu": "1"}) | {"restartPolicy": "Always"},
    ]
    original = workload("Deployment", [PLAIN, container("proxy")], init)
    patches = patches_of(rows_of([original]))
    (patch,) = patches.in_order
    after = patched(tmp_path, original, patch.patch)
    for name in ("app", "proxy", "prepare", "mesh"):
        assert resources_in(after, name)["requests"] == {"cpu": "300m", "memory": "96Mi"}
    assert len(patches.by_container) == 4


@needs_kubectl
def test_a_limit_that_is_not_to_be_is_removed_and_comes_back(tmp_path):
    original = workload("Deployment", [PLAIN])
    wanted = Resources(0.3, None, 96 * MIB, 128 * MIB)
    (patch,) = patches_of(rows_of([original], wanted, unset=("cpu_limit_cores",))).in_order
    after = patched(tmp_path, original, patch.patch)
    assert resources_in(after, "app")["limits"] == {"memory": "128Mi"}
    assert resources_in(patched(tmp_path, after, patch.rollback), "app") == PLAIN["resources"]


@pytest.mark.parametrize(
    ("cpu", "memory"), [("0.3", "96Mi"), ("300m", "100663296"), (0.3, "98304Ki"), ("3e-1", "100663296000m")]
)
def test_a_size_that_is_only_written_otherwise_is_no_change(cpu, memory):
    original = workload(
        "Deployment", [container("app", requests={"cpu": cpu, "memory": memory}, limits={"memory": memory})]
    )
    made = patches_of(rows_of([original], Resources(0.3, None, 96 * MIB, 96 * MIB), unset=("cpu_limit_cores",)))
    assert made.in_order == []
    assert by_name(made.without) == {"shop/web/app": "right as it is"}


def test_a_kind_of_its_own_takes_a_json_patch_that_tests_what_it_replaces():
    rollout = workload("Rollout", [PLAIN, container("proxy")], api_version="argoproj.io/v1alpha1")
    (patch,) = patches_of(rows_of([rollout])).in_order
    assert patch.suffix == "json"
    assert "kubectl patch rollout.argoproj.io web --namespace shop --type json" in patch.command
    after = applied(rollout, json.loads(patch.patch))
    assert resources_in(after, "app") == {
        "requests": {"cpu": "300m", "memory": "96Mi"},
        "limits": {"cpu": "1", "memory": "128Mi"},
    }
    assert resources_in(after, "proxy") == {
        "requests": {"cpu": "300m", "memory": "96Mi"},
        "limits": {"memory": "128Mi"},
    }
    restored = applied(after, json.loads(patch.rollback))
    assert resources_in(restored, "app") == PLAIN["resources"]
    rollout["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "200m"
    with pytest.raises(AssertionError, match="test"):
        applied(rollout, json.loads(patch.patch))  # it has changed since


@needs_kubectl
def test_what_somebody_has_put_where_nothing_was_is_not_overwritten(tmp_path):
    """By the library that the API server has, too."""
    rollout = workload("Rollout", [container("app", requests={"cpu": "1"})], api_version="argoproj.io/v1alpha1")
    (patch,) = patches_of(rows_of([rollout])).in_order
    (tmp_path / "patch.json").write_text(patch.patch)

    def by_kubectl(document):
        (tmp_path / "object.json").write_text(json.dumps(document | {"apiVersion": "apps/v1", "kind": "Deployment"}))
        files = ["-f", str(tmp_path / "object.json"), "--patch-file", str(tmp_path / "patch.json")]
        command = ["kubectl", "patch", "--local", "--dry-run=client", "-o", "json", "--type=json", *files]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = by_kubectl(rollout)
    assert done.returncode == 0, done.stderr
    assert resources_in(json.loads(done.stdout), "app")["limits"] == {"memory": "128Mi"}
    rollout["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] = {"nvidia.com/gpu": "1"}
    refused = by_kubectl(rollout)
    assert refused.returncode != 0
    assert "test" in refused.stderr
    with pytest.raises(AssertionError, match="test"):
        applied(rollout, json.loads(patch.patch))


def applied(document, operations):
    """RFC 6902, as far as the patches here go: written anew, so that a mistake is not made twice."""
    document = json.loads(json.dumps(document))
    for each in operations:
        *path, last = each["path"].strip("/").split("/")
        at = document
        for step in path:
            at = at[int(step)] if isinstance(at, list) else at[step]
        if each["op"] == "test":
            found = at[last] if isinstance(at, list) else at.get(last)  # the API server says null of what is not there
            assert found == each["value"], f"test of {each['path']}"
        elif each["op"] == "remove":
            del at[last]
        else:
            assert each["op"] == "add" or last in at, f"replace of {each['path']}"
            at[last] = each["value"]
    return document


def test_a_job_and_a_bare_pod_are_not_patched_and_the_reason_says_why():
    job = workload("Job", [PLAIN], api_version="batch/v1")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"containers": [PLAIN]},
    }
    made = patches_of(rows_of([job, pod]))
    assert made.in_order == []
    assert "cannot be changed" in by_name(made.without)["shop/web/app"]
    assert "make it anew" in by_name(made.without)["shop/p/app"]


def autoscaler(percent=80):
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "maxReplicas": 9,
        "metrics": [metric],
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": spec,
    }


@pytest.mark.parametrize(("request_cores", "first", "percent"), [(0.05, "deployment", 160), (0.2, "hpa", 40)])
def test_an_autoscaler_goes_where_there_are_too_many_replicas_in_between_not_too_few(request_cores, first, percent):
    objects = [workload("Deployment", [PLAIN]), autoscaler()]
    patches = patches_of(rows_of(objects, Resources(request_cores, None, 64 * MIB, 128 * MIB)))
    assert next(patch.command.split()[2] for patch in patches.in_order) == first
    hpa = next(patch for patch in patches.in_order if patch.command.split()[2] == "hpa")
    after = applied(autoscaler(), json.loads(hpa.patch))
    assert after["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == percent
    assert_valid(after)
    assert applied(after, json.loads(hpa.rollback)) == autoscaler()


def test_recommending_again_after_everything_was_applied_changes_nothing():
    objects = [workload("Deployment", [PLAIN]), autoscaler()]
    wanted = Resources(0.04, None, 64 * MIB, 128 * MIB)
    patches = patches_of(rows_of(objects, wanted))
    hpa = next(patch for patch in patches.in_order if patch.suffix == "json")
    content = yaml.safe_load(next(patch for patch in patches.in_order if patch.suffix == "yaml").patch)
    changed = json.loads(json.dumps(objects))
    target = changed[0]["spec"]["template"]["spec"]["containers"][0]["resources"]
    for group, values in content["spec"]["template"]["spec"]["containers"][0]["resources"].items():
        target[group] |= values
    changed[1] = applied(changed[1], json.loads(hpa.patch))
    assert patches_of(rows_of(changed, wanted)).in_order == []


@needs_kubectl
def test_the_folder_is_a_kustomize_component(tmp_path):
    objects = [workload("Deployment", [PLAIN]), autoscaler(), workload("StatefulSet", [PLAIN], name="db")]
    write_patches(patches_of(rows_of(objects)), tmp_path / "sizes")
    (tmp_path / "base.yaml").write_text(yaml.safe_dump_all(objects))
    (tmp_path / "kustomization.yaml").write_text("resources: [base.yaml]\ncomponents: [sizes]\n")
    done = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    assert resources_in(built["Deployment"], "app")["requests"]["cpu"] == "300m"
    assert resources_in(built["StatefulSet"], "app")["requests"]["cpu"] == "300m"
    metric = built["HorizontalPodAutoscaler"]["spec"]["metrics"][0]
    assert metric["resource"]["target"]["averageUtilization"] == round(80 * 0.1 / 0.3)


def test_running_pods_are_resized_in_place_one_line_each(tmp_path):
    inventory = inventory_of(shop(), "prod")
    rows = rows_of(shop())
    lines = write_resizes(patches_of(rows), inventory, tmp_path).lines
    assert sum("patch pod web-" in line for line in lines) == 2
    assert all("--subresource resize" in line for line in lines)
    content = yaml.safe_load((tmp_path / "resize" / "web.yaml").read_text())
    assert [each["name"] for each in content["spec"]["containers"]] == ["app", "sidecar"]


def test_the_recorded_namespace_gets_one_valid_patch_per_workload():
    patches = patches_of(rows_of(shop()))
    assert sorted((patch.target[1], patch.target[3]) for patch in patches.in_order if patch.suffix == "yaml") == [
        ("CronJob", "tick"),
        ("DaemonSet", "agent"),
        ("Deployment", "oomer"),
        ("Deployment", "web"),
        ("StatefulSet", "db"),
    ]
    for patch in patches.in_order:
        if patch.suffix == "yaml":
            assert_valid(yaml.safe_load(patch.patch))


# --- what a review found -----------------------------------------------------------


def test_a_container_that_nothing_declares_is_not_patched_in_some_default_namespace():
    (row,) = rows_of([workload("Deployment", [PLAIN])])
    injected = replace(row, declared=None)
    made = patches_of([injected])
    assert made.in_order == []
    assert "injected" in by_name(made.without)["shop/web/app"]


def test_other_resources_of_a_kind_of_its_own_are_left_as_they_are():
    gpu = container("app", limits={"nvidia.com/gpu": 1}, claims=[{"name": "disk"}])
    rollout = workload("Rollout", [gpu], api_version="argoproj.io/v1alpha1")
    (patch,) = patches_of(rows_of([rollout])).in_order
    after = applied(rollout, json.loads(patch.patch))
    assert resources_in(after, "app")["limits"] == {"nvidia.com/gpu": 1, "memory": "128Mi"}
    assert resources_in(after, "app")["claims"] == [{"name": "disk"}]
    assert resources_in(applied(after, json.loads(patch.rollback)), "app")["limits"] == {"nvidia.com/gpu": 1}


def test_a_number_without_quotes_is_tested_as_the_number_it_is():
    rollout = workload("Rollout", [container("app", requests={"cpu": 1})], api_version="argoproj.io/v1alpha1")
    (patch,) = patches_of(rows_of([rollout])).in_order
    assert resources_in(applied(rollout, json.loads(patch.patch)), "app")["requests"]["cpu"] == "300m"


def test_what_is_not_patched_does_not_move_the_autoscaler():
    objects = [workload("Deployment", [PLAIN, container("log", requests={"cpu": "100m"})]), autoscaler()]
    rows = rows_of(objects, Resources(0.02, None, 64 * MIB, 128 * MIB))
    without_log = [replace(row, declared=None) if row.container.container == "log" else row for row in rows]
    hpa = next(patch for patch in patches_of(without_log).in_order if patch.command.split()[2] == "hpa")
    after = applied(autoscaler(), json.loads(hpa.patch))["spec"]["metrics"][0]["resource"]["target"][
        "averageUtilization"
    ]
    assert after == round(80 * 0.1 / 0.02)  # of the only container that the metric is known to count


def test_a_limit_alone_is_the_request_too_and_the_autoscaler_follows_it():
    objects = [workload("Deployment", [container("app", limits={"cpu": "2"})]), autoscaler()]
    (row,) = rows_of(objects, Resources(0.4, 2.0, 64 * MIB, 128 * MIB))
    assert row.current.cpu_request_cores == 2.0
    hpa = next(patch for patch in patches_of([row]).in_order if patch.command.split()[2] == "hpa")
    assert (
        applied(autoscaler(), json.loads(hpa.patch))["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"]
        == 400
    )


def test_the_metric_is_named_so_that_another_order_of_metrics_refuses_the_patch():
    objects = [workload("Deployment", [PLAIN]), autoscaler()]
    hpa = next(each for each in patches_of(rows_of(objects)).in_order if each.suffix == "json")
    other = autoscaler()
    other["spec"]["metrics"][0]["resource"]["name"] = "memory"
    with pytest.raises(AssertionError, match="name"):
        applied(other, json.loads(hpa.patch))


def test_workloads_of_one_name_in_two_kinds_and_two_clusters_each_have_their_own_patch():
    rows = rows_of([workload("Deployment", [PLAIN]), workload("StatefulSet", [PLAIN])])
    other = [
        replace(row, history=replace(row.history, container=replace(row.container, cluster="test"))) for row in rows
    ]
    patches = patches_of([*rows, *other]).in_order
    assert len(patches) == 4
    assert len({patch.name for patch in patches}) == 4
    assert len({patch.target for patch in patches}) == 4


@pytest.mark.parametrize("names", [("a" * 70 + "-api", "a" * 70 + "-worker"), ("a.b", "a-b"), ("kustomization", "web")])
def test_names_that_look_alike_do_not_share_a_file(tmp_path, names):
    objects = [workload("Deployment", [PLAIN], name=name) for name in names]
    write_patches(patches_of(rows_of(objects)), tmp_path)
    found = [yaml.safe_load(path.read_text()) for path in tmp_path.glob("*.yaml")]
    assert sorted(each["metadata"]["name"] for each in found if each["kind"] == "Deployment") == sorted(names)


def test_what_stays_is_not_written_anew_though_it_would_be_rounded():
    original = workload(
        "Deployment", [container("app", requests={"cpu": "1", "memory": "1G"}, limits={"memory": "1G"})]
    )
    (patch,) = patches_of(rows_of([original], Resources(0.3, None, 1e9, 1e9))).in_order
    content = yaml.safe_load(patch.patch)["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert content == {"requests": {"cpu": "300m"}}


def test_json_patches_of_an_earlier_run_go_as_well(tmp_path):
    write_patches(patches_of(rows_of([workload("Deployment", [PLAIN]), autoscaler()])), tmp_path)
    assert (tmp_path / "web-hpa.json").exists()
    write_patches(patches_of(rows_of([workload("Deployment", [PLAIN])])), tmp_path)
    assert not (tmp_path / "web-hpa.json").exists()
    assert not (tmp_path / "rollback" / "web-hpa.json").exists()
