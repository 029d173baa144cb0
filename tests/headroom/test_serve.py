"""``headroom serve`` as browsers, scrapers and attackers meet it: over real sockets, and as a process."""

import base64
import contextlib
import gzip
import hashlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import headroom.demo
from headroom.serving import pages as drawing
from headroom.serving import server as serving
from headroom.serving.pages import Page, Pages, Sources
from headroom.serving.server import Server
from profiles.errors import UsageError
from profiles.sqlite import StoreReader, StoreWriter

ADDRESSES = ("/", "/apis", "/apis/5m", "/plan", "/history", "/report.json", "/apis.json", "/metrics", "/healthz")
TOKEN = "a-token-of-many-letters"


@contextlib.contextmanager
def listening(pages, token=None, host="127.0.0.1"):
    with Server((host, 0), token) as server:
        server.pages = pages
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


@contextlib.contextmanager
def process(*arguments):
    """A real one: its port, and itself."""
    command = [sys.executable, "-m", "headroom", "serve", "--listen", "127.0.0.1:0", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            line = started.stderr.readline()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", line), line + started.stderr.read()
            yield int(line.rstrip("/\n").rpartition(":")[2]), started
        finally:
            started.kill()


def ask(port, path="/", method="GET", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def say(port, data, patience=5.0):
    """What comes back to raw bytes until the other end hangs up, or for so long."""
    told = b""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as wire, contextlib.suppress(OSError):
        wire.sendall(data)
        while part := wire.recv(65_536):
            told += part
    return told


def until(wanted, seconds=15):
    end = time.monotonic() + seconds
    while not (found := wanted()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = tmp_path_factory.mktemp("served") / "recorded.db"
    made.write_bytes(gzip.decompress((Path(headroom.demo.__file__).parent / "recording.db.gz").read_bytes()))
    return made


@pytest.fixture(scope="module")
def port(store):
    with process("--store", store) as (number, _):
        yield number


class Few:
    """Pages that cost nothing."""

    def get(self, path):
        return {"/": Page("text/html", b"<p>root"), "/large": Page("text/plain", b"x" * 8_000_000)}.get(path)


@pytest.fixture
def few():
    with listening(Few()) as number:
        yield number


@pytest.fixture
def guarded():
    with listening(Few(), TOKEN) as number:
        yield number


@pytest.mark.parametrize("path", ADDRESSES)
def test_every_page_comes_with_its_guards_and_head_without_its_body(port, path):
    status, headers, body = ask(port, path)
    assert status == 200
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert (policy["default-src"], policy["frame-ancestors"], policy["base-uri"]) == ("'none'",) * 3
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    assert headers["Referrer-Policy"] == "no-referrer"
    if headers["Content-Type"].startswith("text/html"):
        for tag in ("style", "script"):
            (own,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), body, re.DOTALL)
            assert policy[f"{tag}-src"] == f"'sha256-{base64.b64encode(hashlib.sha256(own).digest()).decode()}'"
        assert re.findall(rb"(?:src|href)=\"(?![/#])[^\"]*", body) == []
    headless = say(port, f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert headless.startswith(b"HTTP/1.1 200")
    assert headless.endswith(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in headless


@pytest.mark.parametrize(("page", "document"), [("/", "/report.json"), ("/apis", "/apis.json")])
def test_every_number_of_a_page_is_in_its_document(port, page, document):
    def numbers(value):
        if isinstance(value, dict | list):
            return {n for each in (value.values() if isinstance(value, dict) else value) for n in numbers(each)}
        return {float(value)} if isinstance(value, int | float) else set()

    shown = {float(each) for each in re.findall(r'<data value="([^"]*)"', ask(port, page)[2].decode())}
    assert len(shown) > 30
    assert shown <= numbers(json.loads(ask(port, document)[2]))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here")
def test_metrics_are_what_prometheus_takes(port):
    check = ["promtool", "check", "metrics"]
    done = subprocess.run(check, input=ask(port, "/metrics")[2], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_nothing_can_be_changed_and_what_is_not_there_is_not_found(port, store):
    def kept():
        with StoreReader(store) as reader:
            return len(list(reader.windows())), len(list(reader.traffic())), sorted(store.parent.iterdir())

    before, page = kept(), ask(port)[2]
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"):
        assert ask(port, "/", method, b"x=1")[0] in (405, 501), method
    for path in ("//evil.example", "/../etc/passwd", "/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/apis/",
                 "/apis/7m", "5m", "*", "/apis/5m/../../..", "/recorded.db", "/page.js", "/\xff"):  # fmt: skip
        told = say(port, b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode("latin-1"))
        assert told.split(b" ")[1] == b"404", (path, told[:200])
        assert b"root:" not in told
    assert (kept(), ask(port)[2]) == (before, page)


@pytest.mark.parametrize(
    ("host", "is_own"),
    [("localhost", True), ("127.0.0.1:8080", True), ("[::1]:8080", True), ("LOCALHOST:1", True),
     ("evil.example", False), ("127.0.0.1.evil.example", False), ("127.0.0.1@evil.example", False),
     ("localhost.evil.example", False), ("0.0.0.0", False), ("[bad", False), ("", False), ("192.168.0.1", False)],
)  # fmt: skip
def test_names_of_others_that_lead_to_this_machine_are_refused(few, host, is_own):
    assert ask(few, Host=host)[0] == (200 if is_own else 421)


def test_junk_is_answered_or_hung_up_on_and_others_are_served(few):
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    for data in (bytes(range(256)) * 9, b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01" + b"\0" * 60 + b"\r\n\r\n"):
        say(few, data, 0.3)
    assert say(few, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 414")
    assert say(few, head + b"a: b\r\n" * 200 + b"\r\n").startswith(b"HTTP/1.1 431")
    assert say(few, head + b"a: " + b"b" * 70_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431")
    assert say(few, b"GET / HTTP/1.1\r\nHo", 0.2) == b""
    assert ask(few)[0] == 200


def test_errors_of_the_protocol_are_answered_and_guarded(few):
    assert say(few, b"GET http://[bad HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 4")
    headers = ask(few, "/", "POST", b"x")[1]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_200_who_are_slow_do_not_stop_others(few):
    """Each has begun a request and does not go on; they come at once."""
    began = time.monotonic()
    with contextlib.ExitStack() as held:
        for _ in range(200):
            wire = held.enter_context(socket.create_connection(("127.0.0.1", few), timeout=20))
            wire.sendall(b"GET / HTTP/1.1\r\nHost: loc")
            assert time.monotonic() - began < 5, "the queue of the socket is short: the kernel has to try again"
        assert ask(few)[0] == 200


def test_who_never_finishes_a_request_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(serving._Answer, "timeout", 0.2)
    with listening(Few()) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert wire.recv(9) == b""


def test_who_reads_slowly_gets_the_whole_page(monkeypatch):
    """A large report over a thin line: patience is for who does nothing, not for all that is sent."""
    monkeypatch.setattr(serving._Answer, "timeout", 0.8)
    with listening(Few()) as port, socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        wire.connect(("127.0.0.1", port))
        wire.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got = 0
        with contextlib.suppress(OSError):
            while part := wire.recv(100_000):
                got += len(part)
                time.sleep(0.03)
        assert got > 8_000_000


def test_what_follows_a_request_with_a_body_is_no_second_request(few):
    """Behind a proxy that keeps connections it would be answered to somebody else."""
    hidden = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    assert say(few, head + hidden, 1.0).count(b"HTTP/1.1 ") == 1


def test_others_than_this_machine_need_a_token_that_cannot_be_guessed():
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", "127.1"):
        with pytest.raises(UsageError, match="could read everything"):
            Server((host, 0), None)
    with pytest.raises(UsageError, match="shorter than 16"):
        Server(("127.0.0.1", 0), "fifteen letters")


def test_a_mistake_is_a_sentence_before_the_work(run, store, tmp_path, monkeypatch):
    """A fleet takes minutes to draw."""
    (tmp_path / "short").write_text("short\n")
    monkeypatch.setattr(drawing, "_drawn", lambda _: pytest.fail("it was drawn first"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for listen, token, words in (
            ("1.2.3.4:0", ["--token-file", "/none"], "/none cannot be read"),
            ("0.0.0.0:0", [], "Whoever reaches 0.0.0.0"),
            ("127.0.0.1:0", ["--token-file", tmp_path / "short"], "The token is shorter"),
            (f"127.0.0.1:{taken.getsockname()[1]}", [], "cannot be listened at"),
        ):
            code, out, err = run("serve", "--store", store, "--listen", listen, *token)
            assert (code, out) == (2, "")
            assert re.fullmatch(rf"error: .*{words}.*\n  next: .+\n", err)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"},
     {"Cookie": "headroom=wrong"}, {"Cookie": f"other={TOKEN}"}, {"Cookie": f"headroom={TOKEN[:-1]}"},
     {"Authorization": "Bearer \xff\xfe"}, {"Authorization": "Bearer "}, {"Cookie": "headroom="},
     {"Cookie": "[;=\xff"}],
)  # fmt: skip
def test_who_has_not_the_token_learns_nothing(guarded, headers):
    for path in ("/", "/nothing", "/?token=wrong", "/?token=", "/report.json"):
        status, answered, body = ask(guarded, path, **headers)
        assert (status, "Set-Cookie" in answered) == (401, False)
        assert b"<p>root" not in body
        assert TOKEN not in str(answered) + body.decode()
        assert "default-src 'none'" in answered["Content-Security-Policy"]


def test_a_token_is_taken_as_bearer_as_cookie_and_once_from_the_address(guarded):
    assert ask(guarded, Authorization=f"Bearer {TOKEN}", Host="headroom.example")[2] == b"<p>root"
    assert ask(guarded, Authorization=f"bearer  {TOKEN} ")[0] == 200
    status, headers, body = ask(guarded, f"/large?token={TOKEN}&more=1")
    assert (status, headers["Location"], body) == (303, "/large", b"")
    cookie, *flags = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "Path=/"} <= set(flags)
    assert {"SameSite=Strict", "SameSite=Lax"} & set(flags)
    assert headers["Cache-Control"] == "no-store"
    assert ask(guarded, Cookie=f"a=b; {cookie}")[2] == b"<p>root"


@pytest.mark.parametrize("other", ['seen={"a": 1}', "name=Ann Other", "list[0]=1", "a=b, c", "\xe4=1"])
def test_cookies_of_others_on_the_same_host_do_not_lock_anybody_out(guarded, other):
    """Browsers send the cookies of all ports of a host, and they hold what they like."""
    assert ask(guarded, Cookie=f"{other}; headroom={TOKEN}")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "/\\evil.example", "\\\\evil.example", "/\\/evil.example", "http://evil.example/",
     "///evil.example", "http:evil.example", "/%0d%0aX: y", "@evil.example", "javascript:alert(1)"],
)  # fmt: skip
def test_the_address_with_a_token_leads_nowhere_else(guarded, path):
    """As browsers read it: a backslash is a slash to them."""
    told = say(guarded, f"GET {path.replace(' ', '%20')}?token={TOKEN} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
    location = re.search(rb"\r\nLocation: ([^\r]*)\r\n", told)[1].decode().replace("\\", "/")
    assert re.match(r"/(?!/)", location), location


@pytest.mark.parametrize("token", ["with spaces and a ; in it", "日本語" * 6, 'quoted "as" one likes'])
def test_a_token_that_no_cookie_can_hold_is_refused_or_works(token):
    """Not something that lets in and shows the door at once."""
    with contextlib.suppress(UsageError), listening(Few(), token) as port:
        address = "".join(f"%{byte:02x}" for byte in token.encode())
        told = say(port, f"GET /?token={address} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        cookie = re.search(rb"Set-Cookie: ([^\r]*?); HttpOnly", told)
        assert cookie, told
        assert ask(port, Cookie=cookie[1].decode("latin-1"))[0] == 200


def test_the_token_is_told_to_nobody_and_sigterm_ends_it_at_once(store, tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with process("--store", store, "--token-file", tmp_path / "token") as (port, started):
        assert ask(port, f"/?token={TOKEN}")[0] == 303
        assert ask(port, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert ask(port, "/healthz")[0] == 200
        assert TOKEN not in Path(f"/proc/{started.pid}/cmdline").read_text()
        say(port, f"BAD {TOKEN}\r\n\r\n".encode(), 1.0)
        with socket.create_connection(("127.0.0.1", port)) as idle:
            idle.sendall(b"GET /")
            began = time.monotonic()
            started.send_signal(signal.SIGTERM)
            out, err = started.communicate(timeout=20)
        assert (started.returncode, out, err) == (0, "", "")
        assert time.monotonic() - began < 4


def grow(store, step=10.0):
    """One more window, that says what the last one did."""
    with StoreReader(store) as reader:
        number, last = list(reader.windows())[-1]
        rows = [[row for at, row in each if at == number] for each in (reader.traffic(), reader.usage())]
    writer = StoreWriter(store)
    writer.write(replace(last, start_unix_seconds=last.start_unix_seconds + step), *rows)
    writer.close()


def requests_of(body):
    return sum(each["requests"] for each in json.loads(body)["workloads"])


def test_a_store_that_grows_is_drawn_anew_and_the_old_page_is_answered_meanwhile(recorded, tmp_path, monkeypatch):
    pages = Pages(Sources(recorded, "balanced", None, tmp_path / "none"), 0.0)
    go_on, real = threading.Event(), drawing._drawn
    monkeypatch.setattr(drawing, "_drawn", lambda sources: go_on.wait(20) and real(sources))
    with listening(pages) as port:
        old = {path: ask(port, path)[2] for path in ("/", "/apis.json")}
        grow(recorded)
        for _ in range(3):
            assert {path: ask(port, path)[2] for path in old} == old
        go_on.set()
        assert until(lambda: ask(port, "/")[2] != old["/"])
        assert requests_of(ask(port, "/apis.json")[2]) > requests_of(old["/apis.json"])


def test_a_store_that_goes_leaves_the_last_page_and_one_that_comes_is_shown(recorded, tmp_path, caplog):
    kept = shutil.copy(recorded, tmp_path / "kept.db")
    grow(recorded)
    with listening(Pages(Sources(recorded, "balanced", None, tmp_path / "none"), 0.0)) as port:
        old = ask(port, "/")[2]
        recorded.unlink()
        ask(port, "/")
        assert until(lambda: "There is no store" in caplog.text)
        assert ask(port, "/")[2] == old
        status, _, told = ask(port, "/apis/5m")
        assert b"There is no store at" in told
        recorded.write_bytes(b"SQLite format 3\0 but not really" * 99)
        assert (ask(port, "/apis/5m")[0], ask(port, "/")[2]) == (status, old)
        assert until(lambda: "damaged" in caplog.text)
        shutil.copy(kept, recorded)
        assert until(lambda: ask(port, "/")[2] != old), "a copy over it is shown"
        assert b"Routes" in ask(port, "/apis/5m")[2]


def test_a_report_that_is_remembered_is_in_the_history_of_a_store_that_stands_still(recorded, tmp_path):
    folder = tmp_path / "recorded.db.reports"
    with listening(Pages(Sources(recorded, "balanced", None, folder), 0.0)) as port:
        assert b"No report is remembered yet" in ask(port, "/history")[2]
        command = [sys.executable, "-m", "headroom", "report", "--store", recorded, "--since", "last", "--out"]
        subprocess.run([*command, tmp_path / "r.json"], check=True, capture_output=True)
        assert until(lambda: b"No report is remembered yet" not in ask(port, "/history")[2], 5)


@pytest.mark.parametrize("data", [b"torn", gzip.compress(b"{}")], ids=["torn", "of another version"])
def test_a_remembered_report_that_cannot_be_read_takes_no_other_page_along(recorded, tmp_path, data):
    (tmp_path / "report~20260101T000000Z~0123456789abcdef.json.gz").write_bytes(data)
    with listening(Pages(Sources(recorded, "balanced", None, tmp_path), 0.0)) as port:
        assert [ask(port, path)[0] for path in ("/", "/history")] == [200, 200]


def test_a_clock_that_was_set_back_does_not_take_the_page_of_the_last_minutes(recorded, tmp_path):
    grow(recorded, -3600.0)
    with listening(Pages(Sources(recorded, "balanced", None, tmp_path / "none"), 0.0)) as port:
        status, _, body = ask(port, "/apis/5m")
        assert (status, b"Routes" in body) == (200, True)
