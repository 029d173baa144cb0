"""The Helm chart: rendered by the real helm, held against the API server's schema, and what the code asks."""

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml

import headroom
from collector.doctor import CAPABILITIES
from headroom.commands import push, recommend, record, report
from policies.schema import Policy, load_policies
from recommender.inputs.cluster import PATHS

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
HELM = shutil.which("helm", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
needs_helm = pytest.mark.skipif(HELM is None, reason="helm is not on PATH")

PROMETHEUS = {"prometheus": {"url": "http://prometheus:9090"}}
POLICIES = [{"name": "shop", "match": {"namespace": "shop", "class": ["idle"]}, "latency": {"limit_adds_percent": 2}}]
POLICIES += [{"name": 'all "others": #1', "cpu": {"limit": "none"}}]
SETS = {
    "default": {},
    "recommender": {"recommender": PROMETHEUS, "monitor": {"kind": "ServiceMonitor"}},
    "everything": {
        "fullnameOverride": "hr",
        "imagePullSecrets": [{"name": "registry"}],
        "policies": POLICIES,
        "serviceAccount": {"annotations": {"a": "b"}},
        "monitor": {"kind": "PodMonitor", "labels": {"release": "prometheus"}},
        "priorityClass": {"create": True},
        "networkPolicy": {
            "apiServer": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]},
            "prometheus": {"to": [{"namespaceSelector": {}}], "ports": [80, 9090]},
            "depot": {"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [9000]},
        },
        "profiles": {"depot": "s3://bucket/profiles?region=eu-west-1", "secret": "bucket", "every": "30m"},
        "agent": {
            "hostNetwork": True,
            "routes": ["/users/{name}", "/it's"],
            "image": {"digest": "sha256:" + "0" * 64},
            "seccompProfile": {"type": "Localhost", "localhostProfile": "headroom.json"},
            "affinity": {"nodeAffinity": {}},
            "podAnnotations": {"prometheus.io/scrape": "true"},
            "podLabels": {"team": "a"},
            "nodeSelector": {"pool": "1"},
        },
        "recommender": {
            "prometheus": PROMETHEUS["prometheus"] | {"args": ["--compress", "--header=a: b"], "secret": "token"},
            "report": {"volume": "claim", "claim": "reports"},
            "timeZone": "Europe/Berlin",
            "priorityClassName": "low",
            "podAnnotations": {"a": "b"},
            "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}],
        },
    },
    "log alone": {"agent": {"enabled": False}, "recommender": PROMETHEUS | {"report": {"volume": "none"}}},
    "claim": {"profiles": {"claim": "shared"}},
    "open": {"networkPolicy": {"enabled": False}, "agent": {"tolerations": [], "nodeSelector": {}}},
}
WITH_PROFILES = {"everything", "claim"}
every_set = pytest.mark.parametrize("name", SETS)


def helm(*arguments, values=None):
    command = [HELM, *arguments, "--values", "-"]
    return subprocess.run(command, input=json.dumps(values or {}), capture_output=True, text=True, check=False)


@cache
def rendered_text(text):
    done = helm("template", "headroom", str(CHART), "--namespace", "tools", values=json.loads(text))
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(values):
    """Objects by kind and name."""
    documents = [each for each in yaml.safe_load_all(rendered_text(json.dumps(values))) if each]
    found = {(each["kind"], each["metadata"]["name"]): each for each in documents}
    assert len(found) == len(documents)
    return found


def nested(value):
    """Every mapping in `value`, itself included."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nested(each)


def pod_of(document):
    spec = document["spec"]
    return (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]["spec"]


def containers_of(document):
    pod = pod_of(document)
    return [*pod.get("initContainers", ()), *pod["containers"]]


@cache
def definitions():
    """Of the API server that was recorded; fields that it does not know are an error here."""
    with gzip.open(ROOT / "tests" / "cluster" / "recorded" / "openapi_v2.json.gz", "rt") as file:
        known = json.load(file)["body"]["definitions"]
    closed = {
        name: each | ({"additionalProperties": False} if "properties" in each else {}) for name, each in known.items()
    }
    either = {"type": ["string", "integer"]}
    return closed | {name: either for name in closed if name.endswith((".IntOrString", ".Quantity"))}


def endpoint(name):
    """The part of the Prometheus operator's monitors that the chart uses; their schema was not recorded."""
    relabeling = {"sourceLabels", "targetLabel", "replacement", "action"}
    items = {"required": ["port", "interval"], "properties": {"port": {"const": "metrics"}, "interval": {}}}
    rules = {"items": {"additionalProperties": False, "properties": {each: {} for each in relabeling}}}
    items = items | {"additionalProperties": False, "properties": items["properties"] | {"relabelings": rules}}
    spec = {"jobLabel": {}, "selector": {"required": ["matchLabels"]}, name: {"minItems": 1, "items": items}}
    return {"properties": {"spec": {"additionalProperties": False, "required": list(spec), "properties": spec}}}


def shape_of(document):
    group, _, version = document["apiVersion"].rpartition("/")
    if group == "monitoring.coreos.com":
        return endpoint({"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}[document["kind"]])
    group = (group or "core").removesuffix(".k8s.io").removesuffix(".authorization")
    name = f"io.k8s.api.{group}.{version}.{document['kind']}"
    assert name in definitions()
    return {"$ref": f"#/definitions/{name}", "definitions": definitions()}


@needs_helm
@every_set
def test_helm_has_nothing_to_say(name):
    done = helm("lint", "--strict", str(CHART), values=SETS[name])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr


@needs_helm
@every_set
def test_the_api_server_knows_every_field(name):
    for document in rendered(SETS[name]).values():
        jsonschema.Draft4Validator(shape_of(document)).validate(document)


@needs_helm
def test_a_field_that_the_api_server_does_not_know_is_found():
    agent = deepcopy(rendered({})["DaemonSet", "headroom-agent"])
    pod_of(agent)["containers"][0]["livenessProbe"]["httpget"] = {}
    with pytest.raises(jsonschema.ValidationError, match="httpget"):
        jsonschema.Draft4Validator(shape_of(agent)).validate(agent)


@needs_helm
@every_set
def test_nothing_may_change_the_cluster_or_the_node(name):
    for document in rendered(SETS[name]).values():
        for each in nested(document):
            assert not {"privileged", "hostPID", "hostIPC"} & set(each)
            assert set(each.get("verbs", ())) <= {"get", "list", "watch"}
            assert not {"resourceNames", "nonResourceURLs"} & set(each)
            assert "*" not in each.get("resources", ())
    assert not re.search(r"privileged:|hostPID|hostIPC", "".join(each.read_text() for each in CHART.rglob("*.yaml")))


@needs_helm
@every_set
def test_the_agent_has_the_three_capabilities_and_nothing_else(name):
    agent = rendered(SETS[name]).get(("DaemonSet", "hr-agent" if name == "everything" else "headroom-agent"))
    if agent is None:
        assert name == "log alone"
        return
    container, *beside = containers_of(agent)
    assert [each["name"] for each in beside] == ["profiles"] * (name in WITH_PROFILES)
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": [each.removeprefix("CAP_") for each in CAPABILITIES]}
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert pod_of(agent)["securityContext"]["seccompProfile"]["type"] in {"RuntimeDefault", "Localhost"}
    paths = {each["hostPath"]["path"]: each["name"] for each in pod_of(agent)["volumes"] if "hostPath" in each}
    assert set(paths) == {"/sys/fs/cgroup", "/var/lib/headroom"}
    (cgroup,) = [each for each in container["volumeMounts"] if each["name"] == paths["/sys/fs/cgroup"]]
    assert (cgroup["mountPath"], cgroup["readOnly"]) == ("/sys/fs/cgroup", True)
    assert "cpu" not in container["resources"]["limits"]


@needs_helm
@pytest.mark.parametrize("name", sorted(WITH_PROFILES))
def test_what_leaves_the_profiles_is_nobody_and_may_only_read_the_history(name):
    agent, job = (
        next(each for (kind, _), each in rendered(SETS[name]).items() if kind == wanted)
        for wanted in ("DaemonSet", "CronJob")
    )
    (pushing,) = containers_of(agent)[1:]
    context = pushing["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert (context["runAsUser"], context["runAsNonRoot"], context["readOnlyRootFilesystem"]) == (65532, True, True)
    assert context["allowPrivilegeEscalation"] is False
    mounts = {each["name"]: each for each in pushing["volumeMounts"]}
    assert mounts["history"]["readOnly"] is True
    assert "cgroup" not in mounts
    pulling = next(each for each in containers_of(job) if each["name"] == "recommend")
    depots = {argument.split("=", 1)[1] for argument in pushing["args"] if argument.startswith("--to=")}
    assert depots == {each.split("=", 1)[1] for each in pulling["args"] if each.startswith("--profiles=")}
    for container in (pushing, pulling):
        if name == "claim":
            mount = next(each for each in container["volumeMounts"] if each["name"] == "profiles")
            assert depots == {mount["mountPath"]}
            assert "envFrom" not in container
        else:
            assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    report_container = next(each for each in containers_of(job) if each["name"] == "report")
    assert "envFrom" not in report_container
    assert "profiles" not in {each["name"] for each in report_container["volumeMounts"]}
    assert pod_of(agent)["securityContext"].get("fsGroup") == (65532 if name == "claim" else None)


def test_every_capability_has_its_reason_beside_it():
    text = (CHART / "templates" / "agent.yaml").read_text()
    for name, (_, why) in CAPABILITIES.items():
        assert f"- {name.removeprefix('CAP_')}  # {why}\n" in text


@needs_helm
@pytest.mark.parametrize("name", ["recommender", "everything", "log alone", "claim"])
def test_the_recommender_is_nobody(name):
    (job,) = [each for (kind, _), each in rendered(SETS[name]).items() if kind == "CronJob"]
    pod = pod_of(job)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert not any("hostPath" in each for each in pod["volumes"])
    assert [each["name"] for each in containers_of(job)] == ["recommend", "report"][: 1 if name == "log alone" else 2]
    for container in containers_of(job):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {each["mountPath"] for each in container["volumeMounts"]} >= {"/tmp", "/var/lib/headroom"}


@needs_helm
def test_roles_are_what_the_code_asks_for():
    roles = {
        name: each["rules"] for (kind, name), each in rendered(SETS["recommender"]).items() if kind == "ClusterRole"
    }
    told = {
        (group, resource, verb)
        for rule in roles["headroom-agent"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert told == {("", "pods", "list"), ("", "pods", "watch"), ("batch", "jobs", "get")}
    asked = {
        ("" if path == "/api/v1" else path.split("/")[2], plural, verb)
        for path, plural in PATHS.values()
        for verb in ("get", "list")
    }
    told = {
        (group, resource, verb)
        for rule in roles["headroom-recommender"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert told == asked


@needs_helm
@every_set
def test_every_account_is_bound_to_its_own_role_and_used(name):
    objects = rendered(SETS[name])
    pods = {
        pod_of(each)["serviceAccountName"] for (kind, _), each in objects.items() if kind in {"DaemonSet", "CronJob"}
    }
    assert {name for kind, name in objects if kind == "ServiceAccount"} == pods
    for account in pods:
        binding = objects["ClusterRoleBinding", account]
        assert binding["roleRef"]["name"] == account
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "tools"}]


def commands_of(objects):
    """Arguments of every container, as they are once the kubelet has put the pod's own data in."""
    for (kind, _), document in objects.items():
        for container in containers_of(document) if kind in {"DaemonSet", "CronJob"} else ():
            names = {each["name"] for each in container["env"]}
            assert set(re.findall(r"\$\((\w+)\)", " ".join(container["args"]))) <= names
            yield [each.replace("$(NODE_NAME)", "n1").replace("$(POD_IP)", "fd00::7") for each in container["args"]]


@needs_helm
@every_set
def test_every_command_line_is_one_that_headroom_takes(name, monkeypatch):
    modules = {"record": record, "push": push, "recommend": recommend, "report": report}
    commands = {name: module.command for name, module in modules.items()}
    monkeypatch.setattr("click.Path.convert", lambda _, value, *__: Path(value))  # the paths are of the container
    read = {first: commands[first].make_context(first, rest) for first, *rest in commands_of(rendered(SETS[name]))}
    wanted = {"default": {"record"}, "open": {"record"}, "log alone": {"recommend"}}
    whole = set(commands) - (set() if name in WITH_PROFILES else {"push"})
    assert set(read) == wanted.get(name, whole)
    if "push" in read:
        told = read["push"].params
        assert (told["node"], told["every"]) == ("n1", 1800.0 if name == "everything" else 3600.0)
        assert str(told["store"]) == str(read["record"].params["store"])
    if "record" in read:
        told = read["record"].params
        assert (told["metrics"], told["node"]) == (("fd00::7", VALUES["agent"]["metricsPort"]), "n1")
        assert told["routes"] == tuple(SETS[name].get("agent", {}).get("routes", ()))
        assert (told["window"], told["keep"], told["cluster"]) == (10.0, 3 * 86400.0, "cluster")
    if "report" in read:
        assert read["report"].params["store"] == read["recommend"].params["store"]


@needs_helm
@every_set
def test_the_port_is_the_same_everywhere(name):
    objects = {kind: each for (kind, _), each in rendered(SETS[name]).items()}
    if "DaemonSet" not in objects:
        assert "Service" not in objects
        return
    container = containers_of(objects["DaemonSet"])[0]
    assert container["ports"] == [{"name": "metrics", "containerPort": 9464, "protocol": "TCP"}]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness")}
    assert probes == {
        "liveness": {"path": "/healthz", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
    }
    labels = objects["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    service = objects["Service"]["spec"]
    assert service["clusterIP"] == "None"
    assert service["ports"][0]["targetPort"] == "metrics"
    assert service["selector"].items() <= labels.items()
    for kind in {"ServiceMonitor", "PodMonitor"} & set(objects):
        of = labels if kind == "PodMonitor" else objects["Service"]["metadata"]["labels"]
        assert objects[kind]["spec"]["selector"]["matchLabels"].items() <= of.items()
        assert of[objects[kind]["spec"]["jobLabel"]] == "headroom"  # as deploy/rules have it


@needs_helm
def test_network_policies_let_nothing_else_through():
    objects = rendered(SETS["everything"])
    agent = objects["NetworkPolicy", "hr-agent"]["spec"]
    assert agent["ingress"] == [
        {"ports": [{"port": 9464, "protocol": "TCP"}], "from": VALUES["networkPolicy"]["metricsFrom"]}
    ]
    assert [[each["port"] for each in rule["ports"]] for rule in agent["egress"]] == [[53, 53], [443, 6443], [9000]]
    recommender = objects["NetworkPolicy", "hr-recommender"]["spec"]
    assert recommender["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in recommender
    assert [[each["port"] for each in rule["ports"]] for rule in recommender["egress"]] == [
        [53, 53],
        [443, 6443],
        [9000],
        [80, 9090],
    ]
    for component in ("agent", "recommender"):
        (pod,) = [
            each
            for (kind, name), each in objects.items()
            if name == f"hr-{component}" and kind in {"DaemonSet", "CronJob"}
        ]
        spec = pod["spec"].get("jobTemplate", pod)["spec"]
        labels = spec["template"]["metadata"]["labels"]
        selector = objects["NetworkPolicy", f"hr-{component}"]["spec"]["podSelector"]["matchLabels"]
        assert selector.items() <= labels.items()
        assert selector["app.kubernetes.io/component"] == component


@needs_helm
def test_policies_come_through_as_headroom_reads_them(tmp_path):
    objects = rendered(SETS["everything"])
    (tmp_path / "policies.yaml").write_text(objects["ConfigMap", "hr-recommender"]["data"]["policies.yaml"])
    read = load_policies(str(tmp_path / "policies.yaml"))
    assert list(read) == [Policy.model_validate(each) for each in POLICIES]
    for container in containers_of(objects["CronJob", "hr-recommender"]):
        assert "--policy=/etc/headroom/policies.yaml" in container["args"]
        assert "/etc/headroom/policies.yaml" in {each["mountPath"] for each in container["volumeMounts"]}


def leaves(values, path=()):
    for key, value in values.items():
        yield (*path, key), value
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


def changed(path, value):
    """Values that say `value` at `path`, and nothing else."""
    made = value
    for key in reversed(path):
        made = {key: made}
    return made


#: Mappings that go to Kubernetes as they are.
OPEN = {"podAnnotations", "podLabels", "nodeSelector", "annotations", "labels"}


def test_the_values_fit_their_schema_and_each_is_in_it():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA)
    for values in SETS.values():
        jsonschema.validate(values, SCHEMA)


@pytest.mark.parametrize(
    "path", [(), *(path for path, value in leaves(VALUES) if isinstance(value, dict))], ids=".".join
)
def test_a_misspelt_value_is_refused(path):
    if path and path[-1] in OPEN:
        return
    with pytest.raises(jsonschema.ValidationError, match=r"typo|not of type"):
        jsonschema.validate(changed((*path, "typo"), {}), SCHEMA)


@pytest.mark.parametrize("path", [path for path, value in leaves(VALUES)], ids=".".join)
def test_a_value_of_another_type_is_refused(path):
    if len(path) > 1 and path[-2] in OPEN:
        return
    if path[-1] == "maxUnavailable":
        return
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(path, None), SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("agent.window", "10 s"),
        ("agent.metricsPort", 70_000),
        ("agent.image.digest", "sha256:abc"),
        ("agent.image.pullPolicy", "Sometimes"),
        ("agent.resources.limits.memory", "128 MB"),
        ("agent.historyPath", "/"),
        ("agent.seccompProfile.type", "None"),
        ("agent.tolerations", [{"operator": "Exist"}]),
        ("recommender.prometheus.url", "prometheus:9090"),
        ("recommender.schedule", "daily"),
        ("recommender.policy", "fast"),
        ("recommender.report.volume", "hostPath"),
        ("monitor.kind", "Service"),
        ("profiles.depot", "/mnt/profiles"),
        ("profiles.depot", "s3://key:secret@bucket"),
        ("policies", [{"name": "a", "latencies": {}}]),
        ("policies", [{"name": "a", "latency": {"limit_adds": 2}}]),
        ("networkPolicy.metricsFrom", [{"namespace": "a"}]),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(path, value):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(path.split("."), value), SCHEMA)


@needs_helm
def test_helm_refuses_a_typo_and_a_claim_without_a_name():
    done = helm("template", "headroom", str(CHART), values={"agent": {"windw": "5s"}})
    assert done.returncode != 0
    assert "windw" in done.stderr
    values = {"recommender": PROMETHEUS | {"report": {"volume": "claim"}}}
    done = helm("template", "headroom", str(CHART), values=values)
    assert done.returncode != 0
    assert "name the PersistentVolumeClaim" in done.stderr
    values = {"recommender": PROMETHEUS | {"report": {"args": ["--to=@/targets"]}}}
    done = helm("template", "headroom", str(CHART), values=values)
    assert done.returncode != 0
    assert "without it a second try would send it twice" in done.stderr
    done = helm("template", "headroom", str(CHART), values={"profiles": {"claim": "a", "depot": "s3://b/c"}})
    assert done.returncode != 0
    assert "give a depot or a claim, not both" in done.stderr


def test_policies_in_the_schema_are_those_of_headroom():
    def keys(model):
        fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        return {name: keys(each) if hasattr(each, "model_fields") else None for name, each in fields.items()}

    def told(part):
        assert part["additionalProperties"] is False
        return {name: told(each) if "properties" in each else None for name, each in part["properties"].items()}

    assert told(SCHEMA["definitions"]["policy"]) == keys(Policy)


def test_every_value_has_a_comment():
    for number, line in enumerate((CHART / "values.yaml").read_text().splitlines(), 1):
        if line and not line.strip().startswith("#") and not line.rstrip().endswith(":") and "- " not in line[:6]:
            assert re.search(r"\S  # \S", line) or "requests:" in line, f"line {number}: {line}"


#: What to set instead of the default, where the opposite or another text will not do.
INSTEAD = {
    "imagePullSecrets": [{"name": "a"}],
    "agent.image.digest": "sha256:" + "a" * 64,
    "agent.image.pullPolicy": "Always",
    "agent.routes": ["/a"],
    "agent.historyPath": "/data",
    "agent.seccompProfile.type": "Unconfined",
    "agent.updateStrategy.type": "OnDelete",
    "agent.tolerations": [],
    "recommender.image.digest": "sha256:" + "a" * 64,
    "recommender.image.pullPolicy": "Always",
    "recommender.prometheus.url": "http://b",
    "recommender.prometheus.args": ["--compress"],
    "recommender.schedule": "@daily",
    "recommender.policy": "lean",
    "recommender.output": "json",
    "recommender.report.volume": "none",
    "recommender.tolerations": [{"operator": "Exists"}],
    "recommender.report.args": ["--to=/s"],
    "profiles.depot": "gs://d/e",
    "prices": {"currency": "EUR"},
    "policies": [{"name": "a"}],
    "monitor.kind": "PodMonitor",
    "networkPolicy.metricsFrom": [],
    "networkPolicy.apiServer.to": [{"podSelector": {}}],
    "networkPolicy.prometheus.to": [{"podSelector": {}}],
    "networkPolicy.delivery.to": [{"podSelector": {}}],
    "networkPolicy.depot.to": [{"podSelector": {}}],
    "priorityClass.create": False,
}


def other(name, value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return [each + 1 for each in value]
    if isinstance(value, dict):
        return {"podAffinity": {}} if name.endswith("affinity") else {"a": "b"}
    return {"10s": "5s", "3d": "7d", "30d": "7d", "1h": "2h", "30s": "15s", "": "a"}.get(value, "5")


def deep(values, more):
    return {
        key: deep(values.get(key) or {}, value) if isinstance(value, dict) and key not in OPEN else value
        for key, value in more.items()
    } | {key: value for key, value in values.items() if key not in more}


@needs_helm
def test_every_value_changes_something():
    """A value that no template reads is a promise that is not kept."""
    report = {"volume": "claim", "claim": "c", "args": ["--to=/r"]}
    base = {"recommender": PROMETHEUS | {"report": report}}
    base |= {"monitor": {"kind": "ServiceMonitor"}, "priorityClass": {"create": True}}
    base |= {"profiles": {"depot": "s3://b/c"}}
    before, dead = rendered_text(json.dumps(base)), []
    ends = [
        (path, value) for path, value in leaves(VALUES) if not isinstance(value, dict) or not value or path[-1] in OPEN
    ]
    for path, value in ends:
        if len(path) > 1 and path[-2] in OPEN:
            continue
        name = ".".join(path)
        own = base | {"profiles": {}} if name == "profiles.claim" else base
        if name == "recommender.report.volume":  # nothing is sent without a claim
            own = deep(base, {"recommender": {"report": {"args": []}}})
        values = deep(own, changed(path, INSTEAD[name] if name in INSTEAD else other(name, value)))
        if rendered_text(json.dumps(values)) == before:
            dead.append(name)
    assert dead == []


def test_versions_are_those_of_headroom():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == headroom.__version__
    assert f"ARG VERSION={headroom.__version__}\n" in (ROOT / "deploy" / "Dockerfile").read_text()


def as_the_pod(tmp_path, capabilities, command):
    """Run `command` as the container would: its capabilities, its namespaces, its mounts, a read-only root."""
    names = ",".join(f"+{each.removeprefix('CAP_').lower()}" for each in capabilities)
    script = "\n".join(
        [
            "set -e",
            "mount -t proc proc /proc",
            "mount --rbind /sys/fs/cgroup /sys/fs/cgroup",
            "for each in $(awk '$2 ~ \"^/sys/fs/cgroup\" {print $2}' /proc/self/mounts); do",
            "    mount -o remount,bind,ro $each",
            "done",
            f"mount --bind {tmp_path} {tmp_path}",
            "mount -o remount,bind,ro /",
            f"exec setpriv --bounding-set=-all,{names} --inh-caps=-all,{names} --no-new-privs {shlex.join(command)}",
        ]
    )
    namespaces = ["--mount", "--pid", "--net", "--ipc", "--cgroup", "--fork", "--propagation", "private"]
    return subprocess.run(
        ["unshare", *namespaces, "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.kernel
@pytest.mark.parametrize("missing", [None, *CAPABILITIES])
def test_the_three_capabilities_are_enough_and_each_is_needed(tmp_path, missing):
    command = [str(Path(sys.executable).parent / "headroom"), "record", "--store", str(tmp_path / "node.db")]
    capabilities = [each for each in CAPABILITIES if each != missing]
    done = as_the_pod(tmp_path, capabilities, [*command, "--duration", "500ms", "--window", "250ms"])
    refused = re.findall(r"refuses (\w+)", done.stderr)
    if missing is None:
        assert done.returncode == 0, done.stderr
        assert refused == []
        assert (tmp_path / "node.db").exists()
    else:
        assert refused or done.returncode != 0, done.stderr
