"""Golden cases: objects and sizes -> patch, rollback and resize, each thought out by hand, one file per case.

A file in ``golden/`` holds the objects as an API server has them, the ``sizes`` that are recommended (of a container
that is not named nothing was recorded; a number that is not named stays; null is a policy's "no limit"), and what is
``expected``: the patches, why containers go without, and the resize of running pods; or the error. They are what
Kubernetes makes of them, not what the program prints: `make golden` leaves them alone.
"""

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from headroom.patching import patches_of, write_patches
from headroom.resizing import write_resizes
from policies.schema import load_policies
from profiles.errors import UsageError
from recommender.admission import admitted
from recommender.inputs.objects import inventory_of
from recommender.inventory import TEMPLATES
from recommender.recommend import without_usage
from recommender.recommendation import Verdict
from recommender.resources import PLACES
from reports.patch import STRATEGIC
from tests.cluster.patching import JSON, patched
from tests.reports.test_patch import needs_kubectl, without_empty

CASES = {path.stem: json.loads(path.read_text()) for path in Path(__file__).with_name("golden").glob("*.json")}
POLICIES = load_policies("balanced")
BY_NAME = sorted(CASES)


def recommended(objects, sizes):
    """What `headroom patch` has of such sizes: a row for each container, as the cluster would admit it."""
    inventory = inventory_of(objects, "prod")
    return admitted([_row(each, sizes.get(each.container.container)) for each in inventory.containers], inventory)


def _row(declared, sizes):
    row = without_usage(declared, POLICIES)
    if sizes is None:
        return row
    told = {name: sizes[group][of] for name, (group, of) in PLACES.items() if of in sizes.get(group, ())}
    unset = frozenset(name for name, value in told.items() if value is None)
    verdict = Verdict.RESIZE if told else Verdict.KEEP
    return replace(row, verdict=verdict, target=replace(row.current, **told), unset=unset)


def patches_in(case, objects=None):
    return patches_of(recommended(objects or case["objects"], case["sizes"]))


def without(patches):
    return {container.container: reason for container, reason in patches.without.items()}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_case_gets_the_patch_and_the_rollback_that_are_expected(name):
    case, expected = CASES[name], CASES[name]["expected"]
    if "error" in expected:
        with pytest.raises(UsageError) as caught:
            patches_in(case)
        assert caught.value.sentence == expected["error"]
        return
    made = patches_in(case)
    assert [
        {"command": each.command, "patch": yaml.safe_load(each.patch), "rollback": yaml.safe_load(each.rollback)}
        for each in made.in_order
    ] == expected["patches"]
    for each in made.in_order:
        assert each.rollback_command == each.command.replace("--patch-file ", "--patch-file rollback/")
    assert without(made) == expected["without"]


@pytest.mark.parametrize("name", [name for name in BY_NAME if "resize" in CASES[name]["expected"]])
def test_a_case_resizes_the_running_pods_that_are_expected(tmp_path, name):
    case, expected = CASES[name], CASES[name]["expected"]["resize"]
    lines = write_resizes(patches_in(case), inventory_of(case["objects"], "prod"), tmp_path).lines
    if expected is None:
        assert lines == []
        return
    (written,) = (tmp_path / "resize").iterdir()
    assert yaml.safe_load(written.read_text()) == expected["patch"]
    options = ["--namespace", "shop", "--subresource", "resize", "--patch-file", str(written)]
    assert [shlex.split(line) for line in lines] == [
        ["kubectl", "patch", "pod", pod, *options] for pod in expected["pods"]
    ]


def patched_object(case, patch):
    """The object that the patch is for; None where it was not read."""
    found = (each for each in case["objects"] if (each["kind"], each["metadata"]["name"]) == patch.target[1::2])
    return next(found, None)


def kubectl_patch(folder, original, text):
    """JSON in and out: what kubectl reads is then not written by the library that wrote the patch."""
    (folder / "object.json").write_text(json.dumps(original))
    (folder / "patch.yaml").write_text(text)
    files = ["-f", str(folder / "object.json"), "--patch-file", str(folder / "patch.yaml")]
    command = ["kubectl", "patch", "--local", "--dry-run=client", "-o", "json", "--type=strategic", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_kubectl
@pytest.mark.parametrize("name", BY_NAME)
def test_a_patch_leaves_nothing_to_change_and_its_rollback_gives_back_the_object(tmp_path, name):
    case = CASES[name]
    for patch in patches_in(case).in_order if "error" not in case["expected"] else ():
        original = patched_object(case, patch)
        if original is None:
            continue
        if patch.suffix == "json":
            after = patched(original, JSON, patch.patch)
            assert patched(after, JSON, patch.rollback)["spec"] == original["spec"]
        else:
            after = kubectl_patch(tmp_path, original, patch.patch)
            assert without_empty(kubectl_patch(tmp_path, after, patch.rollback)) == without_empty(original)
        assert patches_in(case, [after]).in_order == []


@needs_kubectl
@pytest.mark.parametrize("name", BY_NAME)
def test_kustomize_leaves_containers_in_their_order(tmp_path, name):
    case = CASES[name]
    made = patches_in(case) if "error" not in case["expected"] else None
    originals = [patched_object(case, patch) for patch in made.in_order] if made else []
    originals = [each for each in originals if each is not None and each["kind"] in STRATEGIC]
    if not originals:
        return
    write_patches(made, tmp_path / "patches")
    (tmp_path / "objects.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": originals}))
    (tmp_path / "kustomization.yaml").write_text("resources: [objects.json]\ncomponents: [patches]\n")
    done = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kustomized = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}
    for each in originals:
        assert order_in(kustomized[each["kind"], each["metadata"]["name"]]) == order_in(each)


def order_in(workload):
    """The names of its containers, list by list."""
    spec = workload["spec"]
    for step in TEMPLATES[workload["kind"]]:
        spec = spec[step]
    lists = (spec["spec"].get(group, ()) for group in ("initContainers", "containers"))
    return [[str(each["name"]) for each in containers] for containers in lists]


def test_there_is_a_case_of_every_kind():
    good = [case for case in CASES.values() if "error" not in case["expected"]]
    kinds = {row.container.kind for case in good for row in recommended(case["objects"], case["sizes"])}
    assert kinds >= {*TEMPLATES, "Pod"}
    merged = {
        each["patch"]["kind"]
        for case in good
        for each in case["expected"]["patches"]
        if isinstance(each["patch"], dict)
    }
    assert merged == set(STRATEGIC)
