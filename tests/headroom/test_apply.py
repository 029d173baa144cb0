"""``headroom apply`` as its users meet it: an API server that rolls out what it is given, well or not."""

import itertools
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from headroom import rollout as live
from headroom.commands.apply import _Judge
from profiles.parquet import ParquetWriter
from profiles.tables import USAGE_NUMBERS
from recommender.inputs.inventory_file import write_inventory
from recommender.inputs.objects import inventory_of
from recommender.inputs.prometheus import Connection, Prometheus
from recommender.inputs.served import usual
from tests.cluster import tsdb
from tests.cluster.patching import JSON, STRATEGIC
from tests.cluster.replay import api_server, by_kind, kubeconfig, recorded, shop, status_of

pytestmark = pytest.mark.usefixtures("outside_of_any_cluster")
MIB = 2**20
DAYS = 4
LITTLE = {  # cores and bytes of each container; of oomer nothing is known
    "shop/web/app": (0.02, 40 * MIB),
    "shop/web/sidecar": (0.001, 4 * MIB),
    "shop/db/db": (0.05, 100 * MIB),
    "shop/agent/agent": (0.05, 100 * MIB),
    "shop/tick/c": (0.1, 50 * MIB),
}


def store_of(folder, objects, usage=LITTLE):
    """A store that was pulled when the cluster held these objects."""
    inventory = inventory_of(objects, "prod")
    rows = DAYS * 288
    times = {"unix_seconds": [1_790_000_100 + 300 * row for row in range(rows)], "duration_seconds": [300.0] * rows}
    day = 1 + 0.05 * np.sin(np.arange(rows) / 288 * 2 * np.pi)
    with ParquetWriter(folder, "prometheus") as writer:
        for of in (each.container for each in inventory.containers):
            if of.name in usage:
                cores, memory = usage[of.name]
                told = {"cpu_cores": list(cores * day), "cpu_peak_cores": list(cores * day * 1.05)}
                told |= {"memory_working_set_bytes": [float(memory)] * rows, "instance": [f"{of.workload}-0"] * rows}
                columns = dict.fromkeys(USAGE_NUMBERS, [None] * rows) | times | told
                writer.write((of.cluster, of.namespace, of.kind, of.workload, of.container), {"usage": columns})
        recording = {"start_unix_seconds": 1.79e9, "end_unix_seconds": 1.79e9 + DAYS * 86400, "windows": rows}
        recording |= {"seconds": DAYS * 86400.0, "clock_steps": 0, "lost": "{}", "agent": "{}"}
        writer.finish([recording])
    write_inventory(folder, inventory)
    return folder


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(live, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(live, "_WATCH_SECONDS", 0.02)
    monkeypatch.setattr(live, "_PATIENCE_SECONDS", 0.2)


@pytest.fixture
def server():
    with api_server(by_kind(shop())) as found:
        yield found


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_of(tmp_path_factory.mktemp("stores") / "fleet", shop())


@pytest.fixture
def apply(run, server, store, tmp_path):
    """Exit code, stdout and stderr; with --yes and short times where a workload is named."""
    config = kubeconfig(tmp_path / "config", server.url)

    def apply(*arguments, store=store, config=config, watch="1s"):
        times = () if "--dry-run" in arguments else ("--yes", "--timeout", "2s", "--watch", watch)
        return run("apply", *arguments, "--store", store, "--kubeconfig", config, *times)

    return apply


def is_real(_, query):
    return "fieldManager" in query and "dryRun" not in query


def real(server):
    """What was not tried only: kind of the path and name, in order."""
    return [tuple(each.path.split("/")[-2:]) for each in server.patches if is_real("", each.query)]


def specs(server):
    return {
        (kind, each["metadata"]["name"]): json.loads(json.dumps(each.get("spec")))
        for kind, own in server.objects.items()
        if kind != "Pod"
        for each in own
    }


def resources(server, kind, name, container):
    (found,) = [
        each for each in server.find(kind, name)["spec"]["template"]["spec"]["containers"] if each["name"] == container
    ]
    return found["resources"]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- tried -------------------------------------------------------------------------------


def test_a_dry_run_shows_what_would_change_of_every_workload_and_changes_nothing(apply, server):
    before = json.dumps(server.objects)
    code, out, err = apply("--dry-run")
    assert (code, err) == (0, "")
    assert "Deployment shop/web\n  note: app: LimitRange lr gives 500m to what has no limit\n" in out
    assert "  app requests.cpu: 200m -> 23m\n  app requests.memory: 64Mi -> 44Mi\n" in out
    assert "  sidecar limits.memory: none -> 20Mi\n  target of cpu: 900% -> 5727%\n" in out
    assert "StatefulSet shop/db\n  db requests.cpu: 100m -> 58m\n" in out
    assert "DaemonSet shop/agent\n" in out
    assert "  c requests.cpu: 50m -> 115m\n" in out
    assert json.dumps(server.objects) == before
    assert {each.query.get("dryRun") for each in server.patches} == {"All"}


def test_a_dry_run_is_sent_as_kubectl_would_with_strict_validation(apply, server):
    apply("--dry-run", "shop/web")
    sent = [(each.headers["content-type"], each.query) for each in server.patches]
    query = {"fieldManager": "headroom", "fieldValidation": "Strict", "dryRun": "All"}
    assert sent == [(STRATEGIC, query), (JSON, query)]


def test_a_dry_run_of_one_workload_leaves_the_others_alone(apply):
    code, out, _ = apply("--dry-run", "db")
    assert (code, out.splitlines()[0]) == (0, "StatefulSet shop/db")
    assert "web" not in out


def test_what_admission_makes_of_it_is_what_is_shown(apply, server):
    body = recorded("patch_dry_run_ok")["body"]
    server.fail(200, body, where=lambda path, query: path.endswith("/deployments/web") and query)
    code, out, _ = apply("--dry-run", "shop/web")
    assert code == 0
    assert "  app requests.cpu: 200m -> 50m\n" in out
    assert "  proxy requests.cpu: none -> 10m\n" in out
    assert "  sidecar requests.cpu: 10m -> none\n" in out


def test_warnings_of_the_server_are_shown(apply, server):
    server.warnings = ["would violate PodSecurity", 'a "quoted", one']
    _, out, _ = apply("--dry-run", "shop/db")
    assert '  warning: would violate PodSecurity\n  warning: a "quoted", one\n' in out


CONFLICT = {
    "kind": "Status",
    "metadata": {},
    "status": "Failure",
    "code": 409,
    "message": "the object has been modified",
}


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (422, recorded("patch_bad_quantity_422")["body"], "quantities must match|is invalid: patch"),
        (422, recorded("patch_request_over_limit_422")["body"], "must be less than or equal to cpu limit of 50m"),
        (403, recorded("forbidden_403")["body"], "verb patch"),
        (404, recorded("notfound_404")["body"], "Pull the store again"),
        (409, CONFLICT, "has been modified"),
    ],
)
def test_a_refusal_is_one_line_and_the_others_are_tried_all_the_same(apply, server, status, body, words):
    server.fail(status, body, where=lambda path, query: path.endswith("/deployments/web") and "dryRun" in query)
    code, out, err = apply("--dry-run")
    (said,) = [line for line in out.splitlines() if line.startswith("  refused: ")]
    assert (code, err) == (1, "")
    assert f"Deployment shop/web ({status}: " in said or status == 409
    assert any(each in said for each in words.split("|"))
    assert "  db requests.cpu: 100m -> 58m\n" in out
    assert "  c requests.cpu: 50m -> 115m\n" in out


def test_what_is_gone_is_said_and_the_others_are_tried(apply, server):
    server.objects["StatefulSet"] = []
    code, out, _ = apply("--dry-run")
    assert code == 1
    assert "refused: The API server does not take StatefulSet shop/db (404: " in out
    assert "  app requests.cpu: 200m -> 23m\n" in out


@pytest.mark.parametrize("arguments", [["--dry-run"], ["shop/db"]])
def test_what_has_changed_since_the_pull_is_said_before_anything_is_sent(apply, server, arguments):
    resources(server, "StatefulSet", "db", "db")["requests"]["cpu"] = "150m"
    code, out, _ = apply(*arguments)
    assert code == 1
    assert "refused: requests.cpu of db is 150m, and was 100m when the store was pulled" in out
    assert [each.path for each in server.patches if each.path.endswith("/db")] == []


def test_another_way_to_write_the_same_is_no_change(apply, server):
    resources(server, "StatefulSet", "db", "db")["requests"] |= {"cpu": "0.1", "memory": str(128 * MIB)}
    assert apply("--dry-run", "shop/db")[0] == 0


def test_another_target_of_the_autoscaler_is_refused_by_the_test_of_its_patch(apply, server):
    server.find("HorizontalPodAutoscaler", "web")["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] = 80
    code, out, _ = apply("shop/web")
    assert code == 1
    assert "refused: The API server does not take HorizontalPodAutoscaler shop/web (422: " in out
    assert real(server) == []


# --- applied -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "container"),
    [("web", "Deployment", "app"), ("db", "StatefulSet", "db"), ("agent", "DaemonSet", "agent")],
)
def test_a_roll_out_that_goes_well_stays_and_the_store_is_as_it_was(apply, server, store, name, kind, container):
    before = contents(store)
    code, out, err = apply(f"shop/{name}")
    assert code == 0, err
    assert out.endswith(f"shop/{name}: applied; its pods are well; latency was not judged\n")
    wanted = {"web": "23m", "db": "58m", "agent": "58m"}[name]
    assert resources(server, kind, name, container)["requests"]["cpu"] == wanted
    assert "not seen by its controller yet\n1 of" in err
    assert "rolled out; watching for 1 s\n" in err
    assert "set back" not in err
    assert len(real(server)) == len(set(real(server)))  # no rollback
    assert contents(store) == before


def test_without_a_watch_it_ends_with_the_roll_out(apply, server):
    begin = time.monotonic()
    code, _, err = apply("shop/db", watch="0")
    assert (code, "watching" in err) == (0, False)
    assert time.monotonic() - begin < 1


def test_a_cron_job_is_applied_and_nothing_is_waited_for(apply, server):
    code, out, err = apply("tick", watch="0")
    assert (code, out.splitlines()[-1]) == (0, "shop/tick: applied; its pods are well; latency was not judged")
    assert "the next pods take it" in err


def test_an_autoscaler_whose_target_rises_goes_after_its_workload(apply, server):
    assert apply("shop/web", watch="0")[0] == 0
    assert real(server) == [("deployments", "web"), ("horizontalpodautoscalers", "web")]


def test_an_autoscaler_whose_target_falls_goes_before_its_workload_and_comes_back_after_it(apply, server, tmp_path):
    much = store_of(tmp_path / "much", shop(), LITTLE | {"shop/web/app": (0.6, 90 * MIB)})
    before = specs(server)
    server.rolls_out = "crashes"
    assert apply("shop/web", store=much)[0] == 1
    forth = [("horizontalpodautoscalers", "web"), ("deployments", "web")]
    assert real(server) == [*forth, *reversed(forth)]
    assert specs(server) == before


@pytest.mark.parametrize(
    ("goes", "words"),
    [
        ("stuck", "has timed out progressing."),
        ("crashes", "of web-new-0: CrashLoopBackOff"),
        ("no image", "of web-new-0: ImagePullBackOff"),
        ("no node", "the roll-out did not end within 2 s"),  # a node may be on its way
        ("never", "the roll-out did not end within 2 s"),
        ("killed", "for want of memory"),
    ],
)
def test_what_goes_badly_is_undone_in_reverse_order(apply, server, goes, words):
    before = specs(server)
    server.rolls_out = goes
    code, out, err = apply("shop/web")
    assert code == 1
    assert out.splitlines()[-1].startswith("shop/web: undone: ")
    assert out.splitlines()[-1].endswith(words)
    assert real(server) == 2 * [("deployments", "web")]  # the target that rises waits for the roll-out
    assert specs(server) == before
    assert "set back Deployment shop/web" in err


@pytest.mark.parametrize(("name", "goes"), [("db", "crashes"), ("db", "killed"), ("agent", "no image")])
def test_other_kinds_are_undone_too(apply, server, name, goes):
    before = specs(server)
    server.rolls_out = goes
    assert apply(f"shop/{name}")[0] == 1
    assert specs(server) == before


def test_a_pod_that_crashed_before_does_not_undo_what_may_heal_it(apply, server):
    old = next(each for each in server.objects["Pod"] if each["metadata"]["name"].startswith("web-"))
    state = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"reason": "OOMKilled"}}}
    old["status"]["containerStatuses"][0] |= state
    code, out, err = apply("shop/web")
    assert code == 0, out + err


def test_a_refusal_in_the_middle_undoes_what_went_before(apply, server):
    before = specs(server)
    server.fail(403, where=lambda path, query: is_real(path, query) and "horizontal" in path)
    code, _, err = apply("shop/web")
    assert code == 1
    assert "verb patch" in err
    assert "set back Deployment shop/web" in err
    assert specs(server) == before
    assert len(real(server)) == 3  # what was refused is not set back


def test_a_patch_that_was_taken_though_no_answer_came_is_undone(apply, server):
    before = specs(server)
    server.fail(None, where=is_real, is_late=True)
    code, _, err = apply("shop/db")
    assert code == 1
    assert "does not answer" in err
    assert [each[1] for each in real(server)] == ["db", "db"]
    assert specs(server) == before


def test_a_server_that_fails_while_it_rolls_out_is_undone(apply, server):
    before = specs(server)
    server.fail(500, where=lambda path, query: path.endswith("/db") and not query and real(server), times=4)
    code, _, err = apply("shop/db")
    assert code == 1
    assert "The API server failed at StatefulSet shop/db (500: " in err
    assert "set back StatefulSet shop/db" in err
    assert specs(server) == before


def test_a_server_that_stays_dead_leaves_the_lines_that_undo_it_by_hand(apply, server):
    server.rolls_out = "crashes"
    server.fail(None, where=lambda path, query: is_real(path, query) and len(real(server)) > 1, times=99)
    before = server.find("Deployment", "web")["spec"]["template"]["spec"]["containers"]
    code, _, err = apply("shop/web")
    assert code == 1
    assert "error: Deployment shop/web could not be set back: " in err
    workload = shlex.split(err.splitlines()[-1].removeprefix("  next: Do it by hand: "))
    assert shlex.join(workload[:-1]) == "kubectl patch deployment web --namespace shop --type strategic --patch"
    (app, sidecar) = json.loads(workload[-1])["spec"]["template"]["spec"]["containers"]
    assert app["resources"] == before[0]["resources"] | {"requests": {"cpu": "200m", "memory": "64Mi"}}
    assert sidecar["resources"] == {"limits": {"memory": None}}


def test_what_somebody_else_changes_meanwhile_is_left_as_it_is(apply, server, monkeypatch):
    def overtake(_):
        resources(server, "StatefulSet", "db", "db")["requests"]["cpu"] = "300m"

    monkeypatch.setattr(live.time, "sleep", overtake)
    server.rolls_out = "never"
    code, _, err = apply("shop/db")
    assert (code, "Somebody else has changed the sizes of StatefulSet shop/db" in err) == (1, True)
    assert len(real(server)) == 1
    assert resources(server, "StatefulSet", "db", "db")["requests"]["cpu"] == "300m"


def test_a_roll_out_that_is_under_way_is_waited_for_by_whoever_asks(apply, server):
    server.find("StatefulSet", "db")["status"]["updatedReplicas"] = 0
    code, _, err = apply("shop/db")
    assert (code, "A roll-out of StatefulSet shop/db is under way" in err) == (1, True)
    server.find("Deployment", "web")["spec"]["paused"] = True
    code, _, err = apply("shop/web")
    assert (code, "Deployment shop/web is paused" in err, real(server)) == (1, True, [])


def test_pods_that_may_not_be_listed_are_said_before_anything_is_changed(apply, server):
    server.fail(403, where=lambda path, _: path.endswith("/pods"))
    code, _, err = apply("shop/db")
    assert code == 1
    assert "the pods of shop/db (403: " in err
    assert real(server) == []


# --- who is there ------------------------------------------------------------------------


def process(server, store, folder, *more, **streams):
    command = [sys.executable, "-m", "headroom", "apply", "shop/db", "--store", store]
    command += ["--kubeconfig", kubeconfig(folder / "config", server.url), "--timeout", "60s", *more]
    return subprocess.Popen(list(map(str, command)), text=True, **streams)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_undoes_it(server, store, tmp_path, number):
    before = specs(server)
    server.rolls_out = "never"
    running = process(server, store, tmp_path, "--yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: server.find("StatefulSet", "db")["status"].get("observedGeneration") == 2)
        running.send_signal(number)
        _, err = running.communicate(timeout=20)
    finally:
        running.kill()
    assert running.returncode == 1
    assert "undoing it: interrupted\nset back StatefulSet shop/db\n" in err
    assert "Traceback" not in err
    assert specs(server) == before


def wait_for(happens):
    end = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_who_is_asked_and_says_no_changes_nothing(server, store, tmp_path):
    mine, theirs = pty.openpty()
    running = process(server, store, tmp_path, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.write(mine, b"n\n")
    out, err = running.communicate(timeout=20)
    os.close(mine)
    os.close(theirs)
    assert running.returncode == 1
    assert "db requests.cpu: 100m -> 58m" in out
    assert "Apply it?" in err
    assert real(server) == []


def test_where_nobody_is_there_to_say_yes_nothing_is_changed(run, server, store, tmp_path):
    config = kubeconfig(tmp_path / "config", server.url)
    code, out, err = run("apply", "shop/db", "--store", store, "--kubeconfig", config)
    assert (code, "-> 58m" in out) == (2, True)
    assert "Nobody is there to say yes." in err
    assert real(server) == []


def test_a_token_that_is_not_right_is_said(apply, server, tmp_path):
    code, _, err = apply("--dry-run", config=kubeconfig(tmp_path / "other", server.url, "wrong"))
    assert code == 1
    assert "(401: Unauthorized)." in err
    assert err.count("Log in again") == 1  # not once for every workload
    assert server.patches == []


# --- which one ---------------------------------------------------------------------------


def test_without_a_name_only_a_dry_run_does_something(apply, server):
    code, _, err = apply()
    assert (code, "Which workload?" in err) == (2, True)
    assert server.requests == []


def test_several_workloads_of_one_name_have_to_be_told_apart(apply, server, tmp_path):
    other = json.loads(json.dumps(server.find("StatefulSet", "db")))
    other["metadata"] |= {"namespace": "bank", "uid": "other"}
    server.objects["StatefulSet"].append(other)
    both = store_of(tmp_path / "both", [*shop(), other], LITTLE | {"bank/db/db": (0.05, 100 * MIB)})
    code, _, err = apply("db", store=both)
    assert (code, server.patches) == (2, [])
    assert "db are several workloads: StatefulSet/bank/db, StatefulSet/shop/db." in err
    assert apply("bank/db", store=both, watch="0")[0] == 0
    assert {each.path.split("/")[5] for each in server.patches} == {"bank"}
    code, out, _ = apply("--dry-run", "db", store=both)
    assert (code, out.count("StatefulSet ")) == (1, 2)  # one of them has changed by now


def test_a_workload_that_is_right_as_it_is_needs_nothing(apply, server, tmp_path):
    assert apply("shop/db", watch="0")[0] == 0
    again = store_of(tmp_path / "again", [each for own in server.objects.values() for each in own])
    sent = len(server.patches)
    code, out, _ = apply("shop/db", store=again)
    assert (code, out) == (0, "nothing to apply: right as it is\n")
    assert len(server.patches) == sent


def test_a_workload_of_which_nothing_is_known_needs_nothing_and_says_why(apply, server):
    code, out, _ = apply("shop/oomer")
    assert (code, server.requests) == (0, [])
    assert out.startswith("nothing to apply: it is declared, but nothing was recorded of it")


@pytest.mark.parametrize("arguments", [["--dry-run"], ["shop/db"]])
def test_a_store_without_an_inventory_does_not_say_what_to_patch(apply, server, tmp_path, arguments):
    bare = store_of(tmp_path / "bare", shop())
    (bare / "inventory~prod.json").unlink()
    code, _, err = apply(*arguments, store=bare)
    assert (code, server.requests) == (2, [])
    assert "is not known." in err


def test_a_name_that_is_not_in_the_store_is_said(apply, server):
    code, _, err = apply("shop/nobody")
    assert (code, server.requests) == (2, [])
    assert "shop/nobody" in err


# --- a kind that takes a JSON patch ------------------------------------------------------


_WELL = {"observedGeneration": "1", "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "phase": "Healthy"}


@pytest.fixture
def rollout(server, tmp_path):
    made = json.loads(json.dumps(server.find("Deployment", "web")))
    made |= {"kind": "Rollout", "apiVersion": "argoproj.io/v1alpha1", "status": _WELL}
    made["metadata"] |= {"name": "canary", "uid": "canary"}
    for labels in (made["spec"]["selector"]["matchLabels"], made["spec"]["template"]["metadata"]["labels"]):
        labels["app"] = "canary"
    server.objects["Rollout"] = [made]
    return store_of(tmp_path / "rollout", [*shop(), made], {"shop/canary/app": (0.02, 40 * MIB)})


def test_a_rollout_takes_a_json_patch_and_is_well(apply, server, rollout):
    code, out, err = apply("canary", store=rollout, watch="0")
    assert code == 0, out + err
    assert resources(server, "Rollout", "canary", "app")["requests"]["cpu"] == "23m"
    assert {each.headers["content-type"] for each in server.patches} == {JSON}


def test_a_rollout_that_crashes_is_undone(apply, server, rollout):
    before = specs(server)
    server.rolls_out = "crashes"
    assert apply("canary", store=rollout)[0] == 1
    assert specs(server) == before


# --- what is served ----------------------------------------------------------------------

CHANGED = tsdb.START


@pytest.fixture(scope="module")
def prometheus():
    """Two workloads that serve alike until the change; one stays slow after it. A third has few requests."""
    begin, end = CHANGED - 3000, CHANGED + 1800
    scenes = [
        tsdb.served_lines("db", begin, end, lambda moment: 0.15 if moment > CHANGED else 0.015),
        tsdb.served_lines("agent", begin, end, lambda moment: 0.15 if 75 < moment - CHANGED <= 105 else 0.015),
        tsdb.served_lines("web", begin, end, lambda moment: 0.15 if moment > CHANGED else 0.015, per_second=0.5),
    ]
    with tsdb.prometheus(itertools.chain(*scenes)) as url:
        yield url


@pytest.fixture
def hurried(monkeypatch):
    """A clock of the command that runs ten seconds between two looks, from the change on."""
    now = iter(range(CHANGED, CHANGED + 10**6, 10))
    monkeypatch.setattr("headroom.commands.apply.time", SimpleNamespace(time=lambda: float(next(now))))
    monkeypatch.setattr("headroom.commands.apply._Judge.long_enough", lambda _, seconds: seconds)


@tsdb.needs_prometheus
def test_latency_past_the_budget_twice_in_a_row_undoes_it(apply, server, prometheus, hurried):
    before = specs(server)
    code, out, _ = apply("shop/db", "--prometheus", prometheus, watch="10s")
    assert code == 1
    assert "shop/db: undone: P95 is " in out
    assert "5 % more is allowed" in out
    assert specs(server) == before


@tsdb.needs_prometheus
def test_latency_past_the_budget_once_lets_it_stand(apply, server, prometheus, hurried):
    code, out, err = apply("shop/agent", "--prometheus", prometheus, watch="4s")
    assert (code, "not watched" in err) == (0, False), out + err
    assert "latency and errors as usual in " in out


@tsdb.needs_prometheus
def test_too_few_requests_are_said_and_the_pods_are_watched_all_the_same(apply, server, prometheus, hurried):
    server.rolls_out = "killed"
    code, _, err = apply("shop/web", "--prometheus", prometheus)
    assert (code, "Prometheus knows of too few HTTP requests before" in err) == (1, True)


@tsdb.needs_prometheus
def test_it_is_watched_for_as_long_as_two_windows_take(prometheus):
    before = usual(Prometheus(Connection(prometheus)), "shop", "db", CHANGED, 0.95)
    judge = _Judge(None, before, ("prod", "StatefulSet", "shop", "db"), None)
    assert before.window_seconds == 120
    assert (judge.long_enough(0.0), judge.long_enough(10.0), judge.long_enough(900.0)) == (0.0, 320.0, 900.0)
    assert _Judge(None, None, ("prod", "StatefulSet", "shop", "db"), None).long_enough(10.0) == 10.0


def test_a_prometheus_that_does_not_answer_is_said_before_anything_is_changed(apply, server):
    code, _, err = apply("shop/db", "--prometheus", "http://127.0.0.1:9")
    assert (code, real(server)) == (1, [])
    assert "Nothing answers at http://127.0.0.1:9" in err


def test_without_prometheus_it_says_that_latency_is_not_watched(apply):
    assert "latency and errors are not watched" in apply("shop/db", watch="0")[2]


# --- which cluster -----------------------------------------------------------------------


def a_namespace(uid):
    return {"kind": "Namespace", "metadata": {"name": "kube-system", "uid": uid}}


@pytest.mark.parametrize(("now", "code"), [("a-1", 0), ("b-2", 2)])
def test_another_cluster_than_the_one_of_the_store_is_refused(apply, server, tmp_path, now, code):
    pulled = store_of(tmp_path / "pulled", [*shop(), a_namespace("a-1")])
    server.objects["Namespace"] = [a_namespace(now)]
    found, _, err = apply("shop/db", "--dry-run", store=pulled)
    assert (found, "another cluster than prod was" in err) == (code, code == 2)
    assert bool(server.patches) == (code == 0)


def test_where_the_namespace_may_not_be_read_the_sizes_alone_tell_the_cluster(apply, server, tmp_path):
    pulled = store_of(tmp_path / "pulled", [*shop(), a_namespace("a-1")])
    server.fail(403, status_of(403), where=lambda path, _: path.endswith("/kube-system"))
    assert apply("shop/db", "--dry-run", store=pulled)[0] == 0


def test_what_is_not_available_before_may_be_healed(apply, server):
    status = server.find("StatefulSet", "db")["status"]
    status |= {"readyReplicas": 0, "availableReplicas": 0}
    code, out, err = apply("shop/db")
    assert code == 0, out + err
