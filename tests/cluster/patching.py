"""What an API server makes of a PATCH, and what controllers then make of the object and its pods."""

import copy
import json
import uuid

STRATEGIC, JSON = "application/strategic-merge-patch+json", "application/json-patch+json"
_BY_NAME = {"containers", "initContainers", "volumes", "env"}  # of the lists that are merged, not replaced
_CUSTOM = {"VerticalPodAutoscaler", "Rollout"}  # no strategic merge of what the server does not know by itself


class Unpatchable(Exception):
    """A PATCH that is answered with `status`."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def patched(document, content_type, text):
    """The object after the patch, with another generation where its spec is another.

    :raises Unpatchable: with the status and the words of an API server
    """
    if content_type not in (STRATEGIC, JSON) or (content_type == STRATEGIC and document["kind"] in _CUSTOM):
        raise Unpatchable(415, "the body of the request was in an unknown format")
    try:
        patch = json.loads(text)
    except ValueError as error:
        raise Unpatchable(400, f"error decoding patch: {error}") from error
    made = _operated(document, patch) if content_type == JSON else _merged(document, patch)
    for name in ("name", "namespace"):
        if made["metadata"][name] != document["metadata"][name]:
            raise Unpatchable(400, f"the {name} of the object does not match the {name} on the URL")
    if made["spec"] != document["spec"]:
        made["metadata"] = made["metadata"] | {"generation": document["metadata"].get("generation", 1) + 1}
    return made


def _merged(old, new):
    made = dict(old)
    for name, value in new.items():
        if value is None:
            made.pop(name, None)
        elif name in _BY_NAME:
            own = {each["name"]: each for each in made.get(name) or ()}
            made[name] = list(
                (own | {each["name"]: _merged(own.get(each["name"], {}), each) for each in value}).values()
            )
        else:
            made[name] = _merged(made.get(name) or {}, value) if isinstance(value, dict) else value
            if name in ("requests", "limits") and not made[name]:
                del made[name]  # of what is empty a server writes nothing
    return made


def _operated(document, operations):
    made = copy.deepcopy(document)
    for each in operations:
        try:
            _operate(made, each["op"], each["path"], each.get("value"))
        except (LookupError, TypeError, ValueError) as error:
            said = f"the server rejected our request due to an error in our request: {each['op']} {each['path']}"
            raise Unpatchable(422, said) from error
    return made


def _operate(made, operation, path, value):
    """One operation of RFC 6902; LookupError where there is no such place, ValueError where a test fails."""
    place, (*steps, last) = made, [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    if isinstance(place, list):
        last = len(place) if last == "-" else int(last)
    if operation == "add" and isinstance(place, list):
        place.insert(last, value)
    elif operation == "add":
        place[last] = value
    elif operation == "test" and value is None and last not in place:
        pass  # as the server's library has it, not as RFC 6902 does
    elif operation == "test" and place[last] != value:
        raise ValueError(path)
    elif operation == "replace":
        place[last]  # LookupError
        place[last] = value
    elif operation == "remove":
        del place[last]


# --- what controllers make of it ---------------------------------------------------

_WAITS = {"crashes": "CrashLoopBackOff", "no image": "ImagePullBackOff"}
_DEADLINE = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "message": 'ReplicaSet "web-new" has timed out progressing.',
}
_NO_NODE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient memory.",
}


def stages(document, ends):
    """What is seen of a roll-out, look by look: statuses of the object, each with its new pods.

    :param ends: "well", "killed" (for want of memory, later), "stuck" (until its deadline), "never" (and nobody
        says so), "crashes", "no image" or "no node"
    """
    wanted = int(document.get("status", {}).get("desiredNumberScheduled") or document["spec"].get("replicas", 1))
    before, half = document.get("status", {}), _status(document, 1, 0)
    if ends in ("well", "killed"):
        made = [before, half, _status(document, wanted, wanted)]
    else:
        made = [before, half, half | ({"conditions": [_DEADLINE]} if ends == "stuck" else {})]
    pods = [None, [], [_pod(document, number, ends) for number in range(wanted if ends in ("well", "killed") else 1)]]
    return list(zip(made, pods, strict=True))


def _status(document, new, ready):
    seen = {"observedGeneration": document["metadata"]["generation"]}
    wanted = document["spec"].get("replicas", 1)
    if document["kind"] == "DaemonSet":
        return seen | {"desiredNumberScheduled": 1, "updatedNumberScheduled": new, "numberAvailable": ready}
    if document["kind"] == "Rollout":
        seen = {"observedGeneration": str(document["metadata"]["generation"])}  # a text there
        seen["phase"] = "Healthy" if ready >= wanted else "Progressing"
    old = wanted - ready
    return seen | {"replicas": new + old, "updatedReplicas": new, "availableReplicas": ready + old}


def _pod(document, number, ends):
    """A new pod, as the kubelet tells of it."""
    template, of = document["spec"]["template"], document["metadata"]
    state, last, conditions = {"running": {}}, {}, []
    if ends in _WAITS:
        state = {"waiting": {"reason": _WAITS[ends]}}
    if ends == "killed":
        last = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    if ends == "no node":
        state, conditions = {"waiting": {"reason": "ContainerCreating"}}, [_NO_NODE]
    statuses = [
        {"name": each["name"], "state": state, "lastState": last} for each in template["spec"].get("containers", ())
    ]
    named = f"{of['name']}-{number}" if document["kind"] == "StatefulSet" else f"{of['name']}-new-{number}"
    metadata = {"name": named, "namespace": of["namespace"], "uid": str(uuid.uuid4())}
    metadata["labels"] = template["metadata"]["labels"]
    status = {"conditions": conditions, "containerStatuses": statuses}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": status}
