"""One workload of a live cluster: how its roll-out goes, how its pods are, and what its server says."""

import json
import time

import pytest

from profiles.errors import HeadroomError
from recommender.inputs.access import Access
from recommender.inputs.api import ClusterError, Refused, ask, connected
from recommender.inputs.workloads import RefusedByCluster, Workloads, progress_of
from tests.cluster.patching import stages
from tests.cluster.replay import api_server, by_kind, kubeconfig, recorded, shop

WEB = ("prod", "Deployment", "shop", "web")


def objects(kind):
    return [each for each in shop() if each["kind"] == kind]


def of(kind, status, generation=2, **spec):
    return {"kind": kind, "metadata": {"generation": generation}, "spec": {"replicas": 3} | spec, "status": status}


def counts(new, ready, total=3, **more):
    told = {"observedGeneration": 2, "replicas": total, "updatedReplicas": new, "availableReplicas": ready}
    return told | more


def daemons(new, ready):
    return {
        "observedGeneration": 2,
        "desiredNumberScheduled": 3,
        "updatedNumberScheduled": new,
        "numberAvailable": ready,
    }


def condition(kind, reason, status="False"):
    return {"conditions": [{"type": kind, "reason": reason, "status": status, "message": f"because of {reason}"}]}


# --- a roll-out --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "CronJob"])
def test_what_ran_when_it_was_recorded_is_rolled_out(kind):
    for each in objects(kind):
        progress = progress_of(each)
        assert (progress.done, progress.failed) == (True, ""), each["metadata"]["name"]


def test_an_autoscaler_has_no_roll_out():
    assert progress_of(objects("HorizontalPodAutoscaler")[0]).done
    assert progress_of({"kind": "HorizontalPodAutoscaler"}).told == ""


@pytest.mark.parametrize(
    ("workload", "told"),
    [
        (of("Deployment", counts(3, 3) | {"observedGeneration": 1}), "not seen by its controller yet"),
        (of("Deployment", {}), "not seen by its controller yet"),
        (of("Deployment", counts(1, 3, 4)), "1 of 3 replicas are new, 3 available"),
        (of("Deployment", counts(3, 2)), "3 of 3 replicas are new, 2 available"),
        (of("Deployment", counts(3, 3, 4)), "3 of 3 replicas are new, 3 available"),  # an old one is still there
        (
            of("Deployment", {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3}),
            "3 of 3 replicas are new, 0 available",  # not long enough yet
        ),
        (of("StatefulSet", counts(1, 3)), "1 of 3 replicas are new, 3 available"),
        (of("StatefulSet", counts(0, 3), updateStrategy={"rollingUpdate": {"partition": 2}}), "0 of 1 replicas"),
        (of("DaemonSet", daemons(2, 3)), "2 of 3 replicas are new, 3 available"),
        (of("DaemonSet", daemons(3, 2)), "3 of 3 replicas are new, 2 available"),
        (of("Rollout", counts(1, 3, 4, phase="Progressing", observedGeneration="2")), "1 of 3 replicas are new"),
        (of("Rollout", counts(3, 3, phase="Paused", observedGeneration="2")), "3 of 3 replicas are new"),
        (of("Rollout", counts(3, 3, phase="Healthy", observedGeneration="1")), "not seen by its controller yet"),
    ],
)
def test_a_roll_out_that_is_under_way_is_not_done(workload, told):
    progress = progress_of(workload)
    assert (progress.done, progress.failed) == (False, "")
    assert progress.told.startswith(told)


@pytest.mark.parametrize(
    "workload",
    [
        of("Deployment", counts(3, 3)),
        of("Deployment", {"observedGeneration": 2}, replicas=0),
        of("Deployment", counts(3, 3, **condition("Progressing", "NewReplicaSetAvailable", "True"))),
        of("Deployment", counts(3, 3, **condition("ReplicaFailure", "FailedCreate", "False"))),
        of("StatefulSet", {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3}),
        of("StatefulSet", counts(1, 3), updateStrategy={"rollingUpdate": {"partition": 2}}),
        of("StatefulSet", counts(0, 3), updateStrategy={"type": "OnDelete"}),
        of("DaemonSet", daemons(3, 3)),
        of("DaemonSet", daemons(0, 3), updateStrategy={"type": "OnDelete"}),
        of("Rollout", counts(3, 3, phase="Healthy", observedGeneration="2")),
        of("Rollout", counts(3, 3, observedGeneration="2")),
        of("ReplicaSet", {"observedGeneration": 2, "replicas": 3, "availableReplicas": 3}),
        of("ReplicationController", {"replicas": 3}),
        of("CronJob", {}),
    ],
)
def test_a_roll_out_is_done_where_nothing_is_left_to_wait_for(workload):
    assert (progress_of(workload).done, progress_of(workload).failed) == (True, "")


@pytest.mark.parametrize(
    ("workload", "why"),
    [
        (of("Deployment", counts(1, 3, **condition("Progressing", "ProgressDeadlineExceeded"))), "ProgressDeadline"),
        (
            of("Rollout", counts(1, 3, phase="Degraded", message="because of InvalidSpec", observedGeneration="2")),
            "InvalidSpec",
        ),
    ],
)
def test_a_controller_that_has_given_up_says_why(workload, why):
    assert progress_of(workload).failed.startswith(f"because of {why}")


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "web"), ("StatefulSet", "db"), ("DaemonSet", "agent")])
def test_the_replayed_roll_outs_end_like_the_recorded_ones(kind, name):
    (recorded_one,) = [each for each in objects(kind) if each["metadata"]["name"] == name]
    *_, (status, _) = stages(recorded_one, "well")
    assert status.items() <= recorded_one["status"].items()


# --- its pods ----------------------------------------------------------------------------


@pytest.fixture
def server():
    with api_server(by_kind(shop())) as found:
        yield found


@pytest.fixture
def workloads(server, tmp_path):
    made = Workloads(Access(kubeconfig(tmp_path / "config", server.url)))
    yield made
    made.close()


def health(workloads, old=(), target=WEB):
    found = workloads.health(target, workloads.get(target), old)
    return int(bool(found.harm)), found.trouble


def a_pod(server, name="web-c6757df8b-m5nts"):
    return server.find("Pod", name)


def test_pods_of_others_are_not_asked_for(server, workloads):
    for each in server.objects["Pod"]:
        if not each["metadata"]["name"].startswith("web-"):
            each["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert health(workloads) == (0, "")
    assert [each.query for each in server.requests if each.path.endswith("/pods")] == [{"labelSelector": "app=web"}]


def test_a_container_that_was_killed_when_it_was_recorded_is_counted(workloads):
    assert health(workloads, target=("prod", "Deployment", "shop", "oomer"))[0] == 1


@pytest.mark.parametrize("statuses", ["containerStatuses", "initContainerStatuses"])
@pytest.mark.parametrize("reason", ["CrashLoopBackOff", "ImagePullBackOff", "RunContainerError"])
def test_a_container_that_does_not_start_is_trouble(server, workloads, statuses, reason):
    a_pod(server)["status"][statuses] = [{"name": "x", "state": {"waiting": {"reason": reason}}}]
    assert health(workloads) == (0, f"container x of web-c6757df8b-m5nts: {reason}")


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_a_container_that_is_about_to_start_is_none(server, workloads, reason):
    a_pod(server)["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": reason}}
    assert health(workloads) == (0, "")


@pytest.mark.parametrize("when", ["state", "lastState"])
def test_a_container_that_was_killed_for_want_of_memory_is_counted(server, workloads, when):
    a_pod(server)["status"]["containerStatuses"][0][when] = {"terminated": {"reason": "OOMKilled"}}
    assert health(workloads) == (1, "")


def test_what_is_on_its_way_out_or_was_there_before_is_left_aside(server, workloads):
    pod = a_pod(server)
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert workloads.pod_uids(WEB) >= {pod["metadata"]["uid"]}
    assert health(workloads, workloads.pod_uids(WEB)) == (0, "")
    pod["metadata"]["deletionTimestamp"] = "2026-11-20T10:00:00Z"
    assert health(workloads) == (0, "")


def test_a_pod_without_a_node_waits_for_one_that_may_be_on_its_way(server, workloads):
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes."}
    a_pod(server)["status"] = {"conditions": [said]}
    assert health(workloads) == (0, "")


def test_without_labels_no_pods_are_asked_for(server, workloads):
    target = ("prod", "CronJob", "shop", "tick")
    assert health(workloads, target=target) == (0, "")
    assert [each.path for each in server.requests if each.path.endswith("/pods")] == []


# --- what its server says ----------------------------------------------------------------


def patch(workloads, content=None, kind="strategic", target=WEB, *, dry_run=False):
    return workloads.patch(target, json.dumps(content or {"spec": {"replicas": 4}}), kind, dry_run=dry_run)


def test_a_patch_is_stored_and_a_dry_run_is_not(server, workloads):
    assert patch(workloads, dry_run=True).document["spec"]["replicas"] == 4
    assert server.find("Deployment", "web")["spec"]["replicas"] == 2
    assert patch(workloads).document["metadata"]["generation"] == 2
    assert workloads.get(WEB)["spec"]["replicas"] == 4


def test_warnings_are_read_one_by_one(server, workloads):
    server.warnings = ["one, two", 'a "third"']
    assert patch(workloads).warnings == ("one, two", 'a "third"')


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("patch_bad_quantity_422", '(422:  "" is invalid: patch: Invalid value'),
        ("patch_request_over_limit_422", "must be less than or equal to cpu limit of 50m)."),
        ("forbidden_403", "(403: pods is forbidden"),
        ("notfound_404", '(404: deployments.apps "none" not found).'),
        ("unauthorized_401", "(401: Unauthorized)."),
    ],
)
def test_what_a_real_server_refuses_is_said_in_its_own_words(server, workloads, name, words):
    exchange = recorded(name)
    server.fail(exchange["status"], exchange["body"])
    with pytest.raises(ClusterError if name == "unauthorized_401" else RefusedByCluster) as error:
        patch(workloads)
    assert words in error.value.sentence
    assert error.value.next_step.endswith(".")
    assert len(error.value.sentence) < 400


@pytest.mark.parametrize(
    ("content", "kind", "target", "status"),
    [
        ([{"op": "test", "path": "/spec/replicas", "value": 3}], "json", WEB, 422),
        ([{"op": "replace", "path": "/spec/nothing", "value": 3}], "json", WEB, 422),
        ({}, "strategic", ("prod", "Deployment", "shop", "gone"), 404),
        ({"metadata": {"name": "other"}}, "strategic", WEB, 400),
    ],
)
def test_the_replayed_server_refuses_what_a_real_one_would(server, workloads, content, kind, target, status):
    with pytest.raises(RefusedByCluster, match=rf"\({status}: "):
        workloads.patch(target, json.dumps(content), kind, dry_run=False)
    assert by_kind(shop())["Deployment"] == server.objects["Deployment"]


def test_other_kinds_of_patch_and_other_methods_are_refused(server, workloads, tmp_path):
    path = "/apis/apps/v1/namespaces/shop/deployments/web"
    with connected(Access(kubeconfig(tmp_path / "other", server.url))) as connection:
        for method, content_type, status in (("PATCH", "application/json", 415), ("DELETE", "application/json", 405)):
            with pytest.raises(Refused) as error:
                ask(connection, path, {}, method, "{}", content_type)
            assert error.value.status == status


def test_a_kind_that_nobody_can_patch_is_said_without_asking(server, workloads):
    with pytest.raises(RefusedByCluster, match="cannot patch a Widget"):
        workloads.get(("prod", "Widget", "shop", "web"))
    assert server.requests == []


def test_a_server_that_is_busy_is_asked_again(server, workloads):
    server.fail(429, headers={"Retry-After": "1"})
    begin = time.monotonic()
    assert patch(workloads).document["spec"]["replicas"] == 4
    assert time.monotonic() - begin >= 1
    assert len(server.patches) == 2


@pytest.mark.parametrize("status", [500, 503])
def test_where_it_may_have_been_stored_it_is_no_refusal(server, workloads, status):
    server.fail(status, times=4)
    with pytest.raises(ClusterError, match=rf"failed at Deployment shop/web \({status}: "):
        patch(workloads)


def test_a_patch_without_an_answer_is_not_sent_again(server, workloads):
    server.fail(None)
    with pytest.raises(HeadroomError) as error:
        patch(workloads)
    assert not isinstance(error.value, RefusedByCluster)
    assert len(server.patches) == 1


@pytest.mark.parametrize("body", ["<html>Please log in</html>", [], {"error": "log in"}])
def test_an_answer_that_is_no_object_is_one_sentence(server, workloads, body):
    server.fail(200, body)
    with pytest.raises(ClusterError) as error:
        workloads.get(WEB)
    assert "proxy" in error.value.next_step
