"""Pods of a node: the recorded watch, and a server that does what API servers do."""

import contextlib
import json
import time

import pytest

from collector.api_server import ApiRefused, ApiServer
from collector.identity import identify, pod_of
from collector.pod_watch import PodWatch
from collector.pods import Pods
from tests.cluster.replay import api_server, recorded_watch, shop

ID = "0123456789ab" + "c" * 52
UID = "0a1b2c3d-0000-1111-2222-0123456789ab"
SLICED = UID.replace("-", "_")


def pod(
    name="web-6c8f7d9b5-bcdfg", containers=("app",), ids=(), owner=("ReplicaSet", "web-6c8f7d9b5"), labels=None, **more
):
    statuses = [
        {"name": each, "containerID": f"containerd://{number}"} for each, number in zip(containers, ids, strict=False)
    ]
    metadata = {"name": name, "namespace": "shop", "uid": UID, **more}
    metadata["labels"] = {"pod-template-hash": "6c8f7d9b5"} if labels is None else labels
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True, "uid": "1"}]
    spec = {"nodeName": "node1", "containers": [{"name": each} for each in containers]}
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"containerStatuses": statuses}}


def named(each, container_id=ID[:12], uid=UID):
    pods = Pods("prod")
    pods.put(each)
    return pods.identity(uid, container_id)


def test_a_container_is_called_by_the_workload_of_its_pod():
    found = named(pod(ids=[ID]))
    assert (found.cluster, found.namespace, found.kind, found.workload) == ("prod", "shop", "Deployment", "web")
    assert (found.container, found.instance) == ("app", "web-6c8f7d9b5-bcdfg")


@pytest.mark.parametrize(
    ("owner", "labels", "expected"),
    [
        (("ReplicaSet", "web-6c8f7d9b5"), {"pod-template-hash": "6c8f7d9b5"}, ("Deployment", "web")),
        (("ReplicaSet", "web-6c8f7d9b5"), {"rollouts-pod-template-hash": "6c8f7d9b5"}, ("Rollout", "web")),
        (("ReplicaSet", "plain"), {}, ("ReplicaSet", "plain")),
        (("ReplicaSet", "web-6c8f7d9b5"), {"pod-template-hash": "other"}, ("ReplicaSet", "web-6c8f7d9b5")),
        (("StatefulSet", "db"), {}, ("StatefulSet", "db")),
        (("DaemonSet", "agent"), {}, ("DaemonSet", "agent")),
        (("Job", "tick-29919525"), {}, ("CronJob", "tick")),
        (("Job", "once"), {}, ("Job", "once")),
        (("SparkApplication", "pi"), {}, ("SparkApplication", "pi")),
        (("Node", "node1"), {}, ("Pod", "web-6c8f7d9b5-bcdfg")),
        (None, {}, ("Pod", "web-6c8f7d9b5-bcdfg")),
    ],
)
def test_a_pod_belongs_to_what_controls_it_in_the_end(owner, labels, expected):
    found = named(pod(ids=[ID], owner=owner, labels=labels))
    assert (found.kind, found.workload) == expected


def test_a_static_pod_is_known_by_the_kubelets_own_uid():
    static = pod(ids=[ID], owner=("Node", "node1"), annotations={"kubernetes.io/config.hash": "f" * 32})
    assert named(static, uid="f" * 32).container == "app"
    path = f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{'f' * 32}.slice/crio-{ID}.scope"
    assert pod_of(identify(path)) == ("f" * 32, ID[:12])


def test_before_its_id_is_told_the_only_container_is_known_all_the_same():
    assert named(pod()).container == "app"
    assert named(pod(containers=("app", "proxy"))) is None


def test_the_sandbox_is_nobody_once_all_containers_are_told():
    pods = Pods("prod")
    pods.put(pod(ids=[ID]))
    path = f"kubepods/burstable/pod{UID}"
    assert pods.name_of(identify(f"{path}/{ID}")).workload == "web"
    assert pods.name_of(identify(f"{path}/{'9' * 64}")) is None


def test_a_restarted_container_and_the_one_before_it_are_one():
    pods = Pods("prod")
    pods.put(pod(ids=[ID]))
    pods.put(pod(ids=["9" * 64]))
    assert pods.identity(UID, ID[:12]) == pods.identity(UID, "9" * 12)


def test_the_last_state_of_a_pod_that_is_gone_still_names_its_containers():
    pods = Pods("prod")
    ended = pod(containers=("app", "proxy"))
    pods.put(ended)
    assert pods.identity(UID, ID[:12]) is None
    ended["status"]["containerStatuses"] = [
        {"name": "proxy", "state": {"terminated": {"containerID": f"cri-o://{ID}"}}}
    ]
    pods.remove(ended)
    assert pods.identity(UID, ID[:12]).container == "proxy"
    assert len(pods) == 0


@pytest.mark.parametrize(
    ("path", "container"),
    [
        (f"docker/{'e' * 64}/kubelet/kubepods/burstable/pod{UID}/{ID}", ID[:12]),
        (
            f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SLICED}.slice/cri-containerd-{ID}.scope",
            ID[:12],
        ),
        (f"kubepods/pod{UID}/{ID}/nested/group", ID[:12]),
    ],
)
def test_a_pods_container_is_found_wherever_it_lies(path, container):
    assert pod_of(identify(path)) == (UID, container)


def test_the_monitor_of_a_container_is_not_the_container():
    found = identify(f"kubepods.slice/kubepods-pod{SLICED}.slice/crio-conmon-{ID}.scope")
    assert found is None or pod_of(found) is None


# --- the watch ---------------------------------------------------------------------


@contextlib.contextmanager
def watched(server, tmp_path, node="node1"):
    token = tmp_path / "token"
    token.write_text(server.token)
    watch = PodWatch(ApiServer(server.url, token), node, "prod")
    try:
        yield watch
    finally:
        watch.close()
        server.hang_up()


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def added(each):
    return {"type": "ADDED", "object": each}


def test_pods_that_are_there_and_that_come_are_known(tmp_path):
    with (
        api_server({"Pod": [each for each in shop() if each["kind"] == "Pod"]}) as server,
        watched(server, tmp_path) as watch,
    ):
        assert watch.wait(10)
        before = len(watch.pods)
        assert before == 8
        server.feed(added(pod(ids=[ID])))
        until(lambda: watch.pods.identity(UID, ID[:12]))
        assert len(watch.pods) == before + 1


def test_the_recorded_watch_of_a_real_server_is_followed_to_its_bookmark(tmp_path):
    events = recorded_watch()
    last = next(each["object"] for each in reversed(events) if each["object"]["metadata"].get("name"))
    with api_server({"Pod": []}) as server, watched(server, tmp_path, last["spec"]["nodeName"]) as watch:
        assert watch.wait(10)
        server.feed(*events)
        until(lambda: len(watch.pods) == 1)
        assert watch.problem is None
    pods = Pods("prod")
    for event in events[:-1]:
        (pods.remove if event["type"] == "DELETED" else pods.put)(event["object"])
    assert len(pods) == 1


def test_after_410_the_pods_are_listed_again_and_those_that_went_are_gone(tmp_path):
    with api_server({"Pod": [pod(ids=[ID])]}) as server, watched(server, tmp_path) as watch:
        assert watch.wait(10)
        until(lambda: len(watch.pods) == 1)
        lists = sum("watch" not in each.query for each in server.requests)
        server.objects["Pod"].clear()
        server.oldest = server.version + 1
        server.version += 2
        server.hang_up()
        until(lambda: len(watch.pods) == 0)
        assert sum("watch" not in each.query for each in server.requests) > lists
        assert watch.pods.identity(UID, ID[:12]).workload == "web"  # its last window may be yet to be stored


def test_a_new_token_is_used_as_soon_as_it_is_there(tmp_path):
    with api_server({"Pod": []}) as server, watched(server, tmp_path) as watch:
        assert watch.wait(10)
        server.token = "rotated"
        server.hang_up()
        until(lambda: watch.problem and "401" in watch.problem)
        (tmp_path / "token").write_text("rotated\n")
        server.feed(added(pod(ids=[ID])))
        until(lambda: watch.problem is None and len(watch.pods) == 1)


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_what_is_known_stays_known_while_the_server_refuses(tmp_path, status):
    with api_server({"Pod": [pod(ids=[ID])]}) as server, watched(server, tmp_path) as watch:
        assert watch.wait(10)
        server.fail(status, {"kind": "Status", "message": "no"}, times=2)
        server.hang_up()
        until(lambda: watch.problem and str(status) in watch.problem)
        assert watch.pods.identity(UID, ID[:12]).workload == "web"
        until(lambda: watch.problem is None)


def test_without_a_server_the_watch_waits_and_says_so(tmp_path):
    watch = PodWatch(ApiServer("http://127.0.0.1:9"), "node1", "prod")
    until(lambda: watch.problem)
    assert not watch.wait(0.1)
    assert "cannot be asked for pods" in watch.problem
    watch.close()


def test_a_page_that_is_no_answer_is_refused(tmp_path):
    with api_server({"Pod": []}) as server:
        server.fail(200, "<html>log in</html>", times=1)
        with pytest.raises(ApiRefused, match="JSON"):
            ApiServer(server.url).get("/api/v1/pods")


def test_only_this_nodes_pods_are_asked_for(tmp_path):
    other = json.loads(json.dumps(pod(ids=[ID])))
    other["spec"]["nodeName"] = "node2"
    with api_server({"Pod": [other]}) as server, watched(server, tmp_path) as watch:
        assert watch.wait(10)
        assert len(watch.pods) == 0
        assert all(each.query["fieldSelector"] == "spec.nodeName=node1" for each in server.requests)
