"""The inventory over the API: the official client and a kubeconfig against a server that answers as recorded."""

import copy
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recommender.inputs.access import Access
from recommender.inputs.cluster import ClusterError, read_cluster
from recommender.inputs.objects import inventory_of
from tests.cluster.replay import api_server, by_kind, kubeconfig, recorded, shop

ROOT = Path(__file__).parents[2]
MIB = 2**20
IMPORTS = """
from recommender.inputs.access import Access
from recommender.inputs.cluster import ClusterError, read_cluster
"""
MEASURE = f"""{IMPORTS}import sys
from pathlib import Path

def resident(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

Path("/proc/self/clear_refs").write_text("5")  # the peak begins here: imports do not count
before = resident("VmRSS")
inventory = read_cluster(Access(Path(sys.argv[1])), "test")
print(len(inventory.owners), resident("VmHWM") - before)
"""


@pytest.fixture
def server():
    with api_server(by_kind(shop())) as found:
        yield found
        assert {each.method for each in found.requests} <= {"GET"}


@pytest.fixture
def access(server, tmp_path):
    return Access(kubeconfig(tmp_path / "config", server.url))


def refused(access):
    """The one sentence and the next step of what goes wrong."""
    with pytest.raises(ClusterError) as error:
        read_cluster(access, "test")
    for text in (error.value.sentence, error.value.next_step):
        assert text.endswith(".")
        assert "\n" not in text
        assert len(text) < 400
    return error.value


def from_files(objects, *missing):
    return inventory_of(objects, "test", "api", missing)


def asked(server, plural):
    return [each.query for each in server.requests if each.path.endswith(f"/{plural}")]


def of(plural, continued=False):
    return lambda path, query: path.endswith(f"/{plural}") and (not continued or "continue" in query)


def recorded_pod():
    return {"kind": "Pod", "apiVersion": "v1"} | recorded("list_pods_page1")["body"]["items"][0]


def run(code, environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def renamed(each, number):
    made = copy.copy(each)
    made["metadata"] = each["metadata"] | {"name": f"{each['metadata']['name']}-{number:05}"}
    return made


def nodes(number):
    first = {"kind": "Node", "apiVersion": "v1"} | recorded("list_nodes")["body"]["items"][0]
    return [renamed(first, each) for each in range(number)]


def test_the_api_says_what_the_files_say(server, access):
    assert read_cluster(access, "test") == from_files(shop())


def test_every_kind_is_asked_for_once_with_the_token_and_as_json(server, access):
    read_cluster(access, "test")
    assert len(server.requests) == len({each.path for each in server.requests}) >= 12
    assert {each.headers["authorization"] for each in server.requests} == {"Bearer right"}
    assert {each.headers["accept"] for each in server.requests if "revisions" not in each.path} == {"application/json"}
    (metadata,) = [each for each in server.requests if "revisions" in each.path]
    assert "PartialObjectMetadataList" in metadata.headers["accept"]


def test_1234_pods_come_in_three_pages_and_none_is_lost(server, access):
    pod = recorded_pod()
    server.objects["Pod"] = pods = [renamed(pod, number) for number in range(1234)]
    names = {("data", each["metadata"]["name"]) for each in pods}
    assert set(read_cluster(access, "test").owners) == names
    assert [query["limit"] for query in asked(server, "pods")] == ["500"] * 3
    assert ["continue" in query for query in asked(server, "pods")] == [False, True, True]


def test_no_page_is_read_twice(server, access):
    # nodes are kept as they come: one that came twice would be there twice
    server.objects["Node"] = nodes(1234)
    found = [each.name for each in read_cluster(access, "test").nodes]
    assert sorted(found) == sorted(each["metadata"]["name"] for each in server.objects["Node"])
    assert len(asked(server, "nodes")) == 3


def test_a_list_whose_continuation_expired_begins_once_more(server, access):
    server.objects["Node"] = nodes(1234)
    server.fail(410, where=of("nodes", continued=True))
    found = [each.name for each in read_cluster(access, "test").nodes]
    assert sorted(found) == sorted(each["metadata"]["name"] for each in server.objects["Node"])
    assert ["continue" in query for query in asked(server, "nodes")] == [False, True, False, True, True]


def test_a_list_whose_continuation_expired_twice_is_an_error(server, access):
    server.objects["Node"] = nodes(1234)
    server.oldest = server.version + 1
    assert "410" in refused(access).sentence
    assert ["continue" in query for query in asked(server, "nodes")] == [False, True, False, True]


@pytest.mark.parametrize(
    ("plural", "kind"),
    [("nodes", "Node"), ("horizontalpodautoscalers", "HorizontalPodAutoscaler"), ("limitranges", "LimitRange"),
     ("statefulsets", "StatefulSet"), ("verticalpodautoscalers", "VerticalPodAutoscaler")],
)  # fmt: skip
def test_a_kind_that_may_not_be_read_is_said_and_the_rest_stands(server, access, plural, kind):
    server.objects["Node"] = nodes(2)
    server.fail(403, where=of(plural))
    inventory = read_cluster(access, "test")
    (said,) = inventory.missing
    assert said.startswith(f"{plural} may not be read (403: ")
    rest = [each for each in shop() + server.objects["Node"] if each["kind"] != kind]
    assert inventory == from_files(rest, said)


@pytest.mark.parametrize("plural", ["pods", "deployments"])
def test_pods_and_deployments_that_may_not_be_read_are_an_error(server, access, plural):
    server.fail(403, where=of(plural), times=9)
    error = refused(access)
    assert f"{plural} may not be read (403: " in error.sentence
    assert "role" in error.next_step
    assert len(asked(server, plural)) == 1


def test_a_token_that_is_not_right_is_an_error(server, tmp_path):
    error = refused(Access(kubeconfig(tmp_path / "config", server.url, "wrong")))
    assert "401: Unauthorized" in error.sentence
    assert "Log in" in error.next_step
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "headers"), [(429, {"Retry-After": "1"}), (503, {}), (500, {})])
def test_a_server_that_is_busy_is_asked_again(server, access, status, headers):
    server.fail(status, headers=headers, where=of("pods"), times=2)
    assert read_cluster(access, "test") == from_files(shop())
    assert len(asked(server, "pods")) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_stays_busy_is_an_error(server, access, status):
    server.fail(status, headers={"Retry-After": "1"}, where=of("nodes"), times=99)
    assert f"{status}: " in refused(access).sentence
    assert 2 <= len(asked(server, "nodes")) <= 10


def test_a_kind_that_the_cluster_does_not_have_is_no_problem(server, access):
    del server.objects["VerticalPodAutoscaler"]
    inventory = read_cluster(access, "test")
    assert inventory == from_files([each for each in shop() if each["kind"] != "VerticalPodAutoscaler"])
    assert inventory.missing == ()


def test_a_server_that_has_no_pods_is_no_kubernetes(server, access):
    server.fail(404, "<html>nothing here</html>", where=of("pods"))
    assert "404" in refused(access).sentence


@pytest.mark.parametrize("body", ["<html>Please log in</html>", {"error": "log in"}, [], "null", '"pods"'])
def test_a_page_that_is_no_list_is_one_sentence(server, access, body):
    server.fail(200, body, where=of("pods"))
    error = refused(access)
    assert server.url in error.sentence
    assert "proxy" in error.next_step


@pytest.mark.parametrize("body", ["<html>\n<h1>Blocked</h1>\n</html>", "", "[]", '"Blocked"', {"code": 403}])
def test_a_refusal_in_another_form_is_one_sentence(server, access, body):
    server.fail(403, body, where=of("pods"))
    assert "pods may not be read (403: " in refused(access).sentence


def test_a_connection_that_is_closed_is_one_sentence(server, access):
    server.fail(None, where=of("pods"), times=9)
    assert server.url in refused(access).sentence


def test_a_port_where_nobody_listens_is_one_sentence(tmp_path):
    with api_server({}) as gone:
        access = Access(kubeconfig(tmp_path / "config", gone.url))
    error = refused(access)
    assert gone.url in error.sentence
    assert "kubectl" in error.next_step


def test_a_server_that_speaks_no_tls_is_one_sentence(server, tmp_path):
    url = server.url.replace("http:", "https:")
    assert url in refused(Access(kubeconfig(tmp_path / "config", url))).sentence


@pytest.mark.parametrize("text", ["", "{", "[]", "just words", '{"current-context": "gone", "contexts": []}'])
def test_a_kubeconfig_that_is_none_is_one_sentence(tmp_path, text):
    (tmp_path / "config").write_text(text)
    assert "--kubeconfig" in refused(Access(tmp_path / "config")).next_step


def test_a_kubeconfig_or_context_that_is_not_there_is_one_sentence(server, access, tmp_path):
    assert "--kubeconfig" in refused(Access(tmp_path / "none")).next_step
    assert "nowhere" in refused(Access(access.kubeconfig, "nowhere")).sentence
    assert server.requests == []


def test_no_kubeconfig_at_all_is_one_sentence(tmp_path):
    code = f"{IMPORTS}try: read_cluster(Access(), 'c')\nexcept ClusterError as error: print(error)"
    kept = {name: text for name, text in os.environ.items() if name not in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")}
    environment = kept | {"HOME": str(tmp_path)}
    done = run(code, environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("There is no way into a cluster: ")
    assert len(done.stdout.splitlines()) == 1


def test_the_usual_kubeconfig_is_used_where_none_is_given(server, tmp_path):
    code = f"{IMPORTS}print(len(read_cluster(Access(), 'c').owners))"
    environment = os.environ | {"KUBECONFIG": str(kubeconfig(tmp_path / "config", server.url))}
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    done = run(code, environment)
    assert (done.stdout, done.stderr) == ("8\n", "")


def test_with_a_namespace_nothing_else_is_asked_for(server, access):
    elsewhere = renamed(recorded_pod(), 0)
    server.objects["Pod"].append(elsewhere)
    inventory = read_cluster(dataclasses.replace(access, namespace="shop"), "test")
    assert inventory.containers == from_files(shop()).containers
    assert inventory.owners == from_files(shop()).owners
    assert [each.path for each in server.requests if "/namespaces/shop" not in each.path] == []


def test_a_namespace_says_the_same_of_its_workloads_alone_and_among_all(server, access):
    # its own annotations too
    metadata = {"name": "shop", "annotations": {"headroom.dev/policy": "lean"}}
    server.objects["Namespace"] = [{"kind": "Namespace", "apiVersion": "v1", "metadata": metadata}]
    among_all = read_cluster(access, "test")
    assert among_all.containers[0].annotations == {"headroom.dev/policy": "lean"}
    alone = read_cluster(dataclasses.replace(access, namespace="shop"), "test")
    assert alone.containers == among_all.containers or any("namespaces" in each for each in alone.missing)


def test_5000_pods_are_read_in_little_memory(server, access, record_property):
    pod = recorded_pod()
    pod["metadata"]["managedFields"] += pod["metadata"]["managedFields"]
    size = len(json.dumps(pod))
    assert size > 7000
    server.objects["Pod"] = [renamed(pod, number) for number in range(5000)]
    command = [sys.executable, "-c", MEASURE, access.kubeconfig]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    pods, growth = map(int, done.stdout.split())
    record_property("grown_mib", growth / MIB)
    assert pods == 5000
    assert growth < 150 * MIB
    print(f"{pods} pods of {size} bytes: {growth / MIB:.0f} MiB")  # noqa: T201 - seen with -s


def test_the_replayed_pages_are_like_the_recorded_ones(server, access):
    first, second = (recorded(f"list_pods_page{number}") for number in (1, 2))
    server.objects["Pod"] = first["body"]["items"] + second["body"]["items"]
    status, page = server.page("Pod", "v1", "", {"limit": "200"})
    names = [each["metadata"]["name"] for each in page["items"]]
    assert (status, list(page)) == (first["status"], list(first["body"]))
    assert names == [each["metadata"]["name"] for each in first["body"]["items"]]
    assert list(page["metadata"]) == list(first["body"]["metadata"])
    assert page["metadata"]["remainingItemCount"] == 200
    rest = server.page("Pod", "v1", "", {"limit": "200", "continue": page["metadata"]["continue"]})[1]
    assert [each["metadata"]["name"] for each in rest["items"]] == [
        each["metadata"]["name"] for each in second["body"]["items"]
    ]
    assert list(rest["metadata"]) == ["resourceVersion"]
