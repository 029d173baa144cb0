"""An API server to test against: it answers as the recorded one did, and fails as it is told to."""

import base64
import gzip
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

from tests.cluster.patching import Unpatchable, patched, stages
from tests.cluster.quiet import QuietServer

RECORDED = Path(__file__).parent / "recorded"
TOKEN = "right"
_PLURALS = {
    "/api/v1": {"pods": "Pod", "namespaces": "Namespace", "nodes": "Node", "limitranges": "LimitRange",
                "resourcequotas": "ResourceQuota", "replicationcontrollers": "ReplicationController"},
    "/apis/apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet",
                      "replicasets": "ReplicaSet"},
    "/apis/batch/v1": {"jobs": "Job", "cronjobs": "CronJob"},
    "/apis/autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "/apis/autoscaling.k8s.io/v1": {"verticalpodautoscalers": "VerticalPodAutoscaler"},
    "/apis/argoproj.io/v1alpha1": {"rollouts": "Rollout"},
}  # fmt: skip
_CUSTOM = {"VerticalPodAutoscaler", "Rollout"}  # there only where a test brings some


def recorded(name):
    """One exchange: `request`, `status`, `headers` and `body`."""
    return json.loads(gzip.decompress((RECORDED / f"{name}.json.gz").read_bytes()))


def recorded_watch():
    return list(map(json.loads, gzip.decompress((RECORDED / "watch_pods_shop.ndjson.gz").read_bytes()).splitlines()))


def shop():
    """The objects of the namespace `shop`, with their kinds."""
    return recorded("shop_objects")["items"]


def by_kind(objects):
    return {kind: [each for each in objects if each["kind"] == kind] for kind in {each["kind"] for each in objects}}


def kubeconfig(path, url, token=TOKEN):
    cluster, user = {"name": "replay", "cluster": {"server": url}}, {"name": "tester", "user": {"token": token}}
    context = {"name": "replay", "context": {"cluster": "replay", "user": "tester"}}
    document = {"apiVersion": "v1", "kind": "Config", "current-context": "replay"}
    path.write_text(json.dumps(document | {"clusters": [cluster], "users": [user], "contexts": [context]}))
    return path


@contextmanager
def api_server(objects):
    """A server of `objects`, which are lists by kind; gives the :class:`Replay` that it serves."""
    server = QuietServer(("127.0.0.1", 0), _Handler)
    server.replay = Replay(dict(objects), f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.replay
    finally:
        server.replay.hang_up()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Replay:
    """What is served: a test changes it while the server runs.

    :ivar requests: all that came: `method`, `path`, `query`, `body` and `headers` with their names in small letters
    :ivar rolls_out: how what a patch begins goes on: see :func:`tests.cluster.patching.stages`
    :ivar warnings: sent with every answer to a patch
    :ivar version: of the newest object; the recorded watch begins after it
    :ivar oldest: no watch and no continued list from before it
    """

    objects: dict
    url: str
    token: str = TOKEN
    version: int = 13788
    oldest: int = 1000
    requests: list = field(default_factory=list)
    hang_ups: int = 0
    rolls_out: str = "well"
    warnings: list = field(default_factory=list)
    _rolling: dict = field(default_factory=dict)  # by kind and key: stages that nobody has seen yet
    _faults: list = field(default_factory=list)
    _events: list = field(default_factory=list)  # with what was there before each
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def fail(self, status, body=None, headers=None, where=lambda *_: True, times=1, *, is_late=False):
        """Answer the next `times` requests so; status None closes the connection, a body of text is HTML.

        :param is_late: a patch is taken all the same
        """
        answer = status, status_of(status) if body is None else body, headers
        self._faults += [(where, (answer, is_late))] * times

    @property
    def patches(self):
        """The requests that changed something, or tried to."""
        return [each for each in self.requests if each.method == "PATCH"]

    def find(self, kind, name, namespace="shop"):
        """The object as it is held; None where it is not."""
        of = {"namespace": namespace, "name": name}
        own = self.objects.get(kind, ())
        return next((each for each in own if all(each["metadata"].get(key, "") == of[key] for key in of)), None)

    def one(self, kind, name, namespace):
        """Status and body of one object; whoever looks sees its roll-out go on."""
        with self._changed:
            found, rolling = self.find(kind, name, namespace), self._rolling.get((kind, namespace, name))
        if found is None:
            return 404, status_of(404)
        if rolling:
            status, pods = rolling.pop(0)
            self.feed({"type": "MODIFIED", "object": found | {"status": status, "metadata": _next(found)}})
            self._replace_pods(found, pods, keep_old=bool(rolling) or self.rolls_out not in ("well", "killed"))
        return 200, self.find(kind, name, namespace)

    def patch(self, kind, name, namespace, query, content_type, text):
        """Status, body and headers of a PATCH; it is stored but for a dry run, and its roll-out begins."""
        found = self.find(kind, name, namespace)
        if found is None:
            return 404, status_of(404), {}
        try:
            made = patched(found, content_type, text)
        except Unpatchable as error:
            return error.status, status_of(error.status) | {"message": str(error)}, {}
        if query.get("dryRun") != "All" and made != found:
            self.feed({"type": "MODIFIED", "object": made | {"metadata": _next(made)}})
            if "template" in made["spec"] and made["spec"] != found["spec"]:
                self._rolling[kind, namespace, name] = stages(made, self.rolls_out)
        warnings = [each.replace('"', '\\"') for each in self.warnings]
        return 200, made, {"Warning": ", ".join(f'299 - "{each}"' for each in warnings)} if warnings else {}

    def _replace_pods(self, owner, new, *, keep_old):
        if new is None:
            return
        labels = owner["spec"]["selector"]["matchLabels"].items()
        old = [each for each in self.objects.get("Pod", ()) if labels <= each["metadata"].get("labels", {}).items()]
        names = {each["metadata"]["name"] for each in new}
        gone = [each for each in old if not keep_old or each["metadata"]["name"] in names]
        self.feed(*({"type": "DELETED", "object": each | {"metadata": _next(each)}} for each in gone))
        self.feed(*({"type": "ADDED", "object": each} for each in new))

    def feed(self, *events):
        """Tell those who watch, and change what lists show."""
        with self._changed:
            for event in events:
                metadata = event["object"]["metadata"]
                metadata.setdefault("resourceVersion", str(self.version + 1))
                self.version = max(self.version, int(metadata["resourceVersion"]))
                own = self.objects.setdefault(event["object"]["kind"], [])
                before = next((each for each in own if _key(each) == _key(event["object"])), None)
                if event["type"] != "BOOKMARK":
                    own[:] = [each for each in own if each is not before]
                    own += [event["object"]] if event["type"] != "DELETED" else []
                self._events.append((event, before))
            self._changed.notify_all()

    def hang_up(self):
        """Cut every watch in the middle."""
        with self._changed:
            self.hang_ups += 1
            self._changed.notify_all()

    def fault_at(self, path, query):
        with self._changed:
            place = next((place for place, (where, _) in enumerate(self._faults) if where(path, query)), None)
            return None if place is None else self._faults.pop(place)[1]

    def route(self, path):
        """Kind, apiVersion and namespace; None where nothing is."""
        group, _, plural = path.rpartition("/")
        group, _, namespace = group.partition("/namespaces/")
        kind = _PLURALS.get(group, {}).get(plural)
        there = kind and (kind in self.objects or kind not in _CUSTOM)
        return (kind, group.split("/", 2)[2], namespace) if there else None

    def single(self, path):
        """Kind, name and namespace of one object's path; None where it is none."""
        where, _, name = path.rpartition("/")
        route = self.route(where)
        return (route[0], name, route[2]) if route else None

    def page(self, kind, api_version, namespace, query):
        """Status and body of a list, in the order of names as etcd has it."""
        version, start = self.version, ""
        if query.get("continue"):
            token = json.loads(base64.urlsafe_b64decode(query["continue"] + "=="))
            version, start = token["rv"], token["start"]
            if version < self.oldest:
                return 410, status_of(410)
        with self._changed:
            own = [each for each in self.objects.get(kind, ()) if _matches(each, namespace, query)]
        found = sorted((key, each) for each in own if (key := _key(each, namespace)) >= start)
        limit = int(query.get("limit", 0)) or len(found)
        shown, rest = found[:limit], found[limit:]
        metadata = {"resourceVersion": str(version)}
        if rest:
            token = {"v": "meta.k8s.io/v1", "rv": version, "start": shown[-1][0] + "\0"}
            metadata["continue"] = base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")
            if "fieldSelector" not in query:
                metadata["remainingItemCount"] = len(rest)
        left_out = () if kind in _CUSTOM else ("kind", "apiVersion")
        items = [{name: value for name, value in each.items() if name not in left_out} for _, each in shown]
        return 200, {"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata, "items": items}

    def watched(self, kind, api_version, namespace, query, hang_ups):
        """Events after the resourceVersion asked for, or what is there first; a bookmark last where they are wanted.

        It ends at the first hang-up after those that there had been when it was asked for.
        """
        end, place = time.monotonic() + float(query.get("timeoutSeconds", 3600)), 0
        bookmarks, since = query.get("allowWatchBookmarks") in ("1", "true"), int(query.get("resourceVersion") or 0)
        typed = {"kind": kind, "apiVersion": api_version}
        if not since:
            with self._changed:
                there, since = list(self.objects.get(kind, ())), self.version
            yield from ({"type": "ADDED", "object": typed | each} for each in there if _matches(each, namespace, query))
        while time.monotonic() < end and self.hang_ups == hang_ups:
            with self._changed:
                self._changed.wait_for(
                    lambda told=place: told < len(self._events) or self.hang_ups != hang_ups, end - time.monotonic()
                )
                new, place = self._events[place:], len(self._events)
            for event, before in new:
                late = int(event["object"]["metadata"]["resourceVersion"]) > since
                if event["object"]["kind"] != kind:
                    continue
                if event["type"] == "BOOKMARK":
                    yield from [event] * bookmarks
                elif late and _matches(event["object"], namespace, query):
                    # a pod that has just been given its node is new to who watches that node
                    yield event if before is None or _matches(before, namespace, query) else event | {"type": "ADDED"}
        if bookmarks and self.hang_ups == hang_ups:
            yield {"type": "BOOKMARK", "object": typed | {"metadata": {"resourceVersion": str(self.version)}}}


def status_of(code):
    """The recorded body of an error, or one like it."""
    names = {401: "unauthorized_401", 403: "forbidden_403", 404: "notfound_404", 410: "list_pods_expired_continue_410"}
    if code in names:
        return recorded(names[code])["body"]
    said = HTTPStatus(code).phrase if code else ""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": said, "code": code}


def _next(each):
    """Its metadata without the version that it had, so that it gets the next one."""
    return {name: value for name, value in each["metadata"].items() if name != "resourceVersion"}


def _key(each, namespace=""):
    metadata = each["metadata"]
    return "/".join(["", *([] if namespace else [metadata.get("namespace", "")]), metadata.get("name", "")])


def _matches(each, namespace, query):
    wanted = [pair.split("=", 1) for pair in query.get("fieldSelector", "").split(",") if pair]
    if namespace:
        wanted.append(("metadata.namespace", namespace))
    for path, value in wanted:
        found = each
        for step in path.split("."):
            found = found.get(step, {})
        if (found or "") != value:
            return False
    labels = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair)
    return labels.items() <= each["metadata"].get("labels", {}).items()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes

    def do_GET(self):
        replay, url = self.server.replay, urlsplit(self.path)
        hang_ups = replay.hang_ups
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()  # else it were the next request
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = {"method": self.command, "path": url.path, "query": query, "headers": headers, "body": body}
        replay.requests.append(SimpleNamespace(**told))
        fault, is_late = replay.fault_at(url.path, query) or (None, False)
        route, single = replay.route(url.path), replay.single(url.path)
        if fault and is_late and self.command == "PATCH":
            replay.patch(*single, query, headers.get("content-type"), body)
        if fault and fault[0] is None:
            self.close_connection = True
        elif fault:
            self._send(*fault)
        elif headers.get("authorization") != f"Bearer {replay.token}":
            self._send(401, status_of(401))
        elif single and self.command == "PATCH":
            self._send(*replay.patch(*single, query, headers.get("content-type"), body))
        elif single and self.command == "GET":
            self._send(*replay.one(*single))
        elif self.command != "GET" or route is None:
            code = 405 if route or single else 404
            self._send(code, status_of(code))
        elif query.get("watch") in ("1", "true"):
            self._stream(replay, route, query, hang_ups)
        else:
            self._send(*replay.page(*route, query))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _send(self, status, body, headers=None):
        text, kind = (body, "text/html") if isinstance(body, str) else (json.dumps(body), "application/json")
        self._begin(status, {"Content-Type": kind, "Content-Length": str(len(text.encode()))} | (headers or {}))
        self.wfile.write(text.encode())

    def _stream(self, replay, route, query, hang_ups):
        self._begin(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        too_old = 0 < int(query.get("resourceVersion") or 0) < replay.oldest
        try:
            for event in (
                [recorded("watch_too_old_410")["body"]] if too_old else replay.watched(*route, query, hang_ups)
            ):
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.close_connection = replay.hang_ups != hang_ups
            self.wfile.write(b"" if self.close_connection else b"0\r\n\r\n")
        except ConnectionError:  # who watched has gone
            self.close_connection = True

    def _begin(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments):
        """Not on the terminal: `requests` has it."""
