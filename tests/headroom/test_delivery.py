"""Reports on their way to people: real receivers that are slow, down, rude or silent; killed and doubled runs."""

import asyncio
import contextlib
import email
import email.policy
import gc
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from markdown_it import MarkdownIt
from pyarrow import fs

from headroom.delivery.folder import Folder
from headroom.delivery.ledger import Ledger
from headroom.delivery.mail import Mail, Server
from headroom.delivery.message import Message
from headroom.delivery.sending import send_all
from headroom.delivery.targets import server_of, targets_of
from headroom.delivery.webhook import PAYLOADS, Webhook
from profiles.errors import HeadroomError, StoreError, UsageError
from tests.cluster.s3 import SECRET, make_s3_address, make_s3_uri  # noqa: F401

pytestmark = pytest.mark.usefixtures("outside_of_any_cluster")
HUSH = "/services/T0/hush?token=hush"
HOSTILE = (
    "<!channel> & <http://evil.example|x>", "*bold* _it_ ~no~ `code`", "@everyone [x](javascript:alert(1))",
    '"quoted" \\ \x07 <at>all</at>', "two\nlines\r\n.\r\nBcc: evil@evil.example", "![i](http://evil.example/i.png)",
)  # fmt: skip
MESSAGE = Message(
    "0123456789abcdef", "20261122T053000Z", "headroom: 5 containers", ["all is well", *HOSTILE], ["new: a"], "# all",
    {"report.html": b"<p>\n.dot\n</p>", "report.json": b"{}"},
)  # fmt: skip


class Hook(ThreadingHTTPServer):
    """A receiver: answers each request with the next of `answers`, and with the last of them for ever.

    A number is a status, alone or with headers; a float is waited before 200; bytes are the answer; None is none.
    """

    daemon_threads = True

    def __init__(self, *answers, port=0):
        self.answers, self.seen, self.came = list(answers), [], threading.Event()
        self.held = threading.Event()
        super().__init__(("127.0.0.1", port), _Answer)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}{HUSH}"

    @property
    def taken(self):
        return [status for status, _, _ in self.seen].count(200)

    def handle_error(self, request, client_address):
        """A client that went away is no news."""

    def __exit__(self, *error):
        self.held.set()
        self.shutdown()
        super().__exit__(*error)


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        hook, body = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        answer = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        status = 200 if isinstance(status, float | bytes) else status
        hook.seen.append((status, self.path, body))
        hook.came.set()
        if isinstance(answer, float):
            time.sleep(answer)
        if isinstance(answer, bytes):
            self.wfile.write(answer.replace(b"REQUEST", self.requestline.encode()))
        elif status == "hold":
            hook.held.wait(30)
        elif status is not None:
            self.send_response(status)
            for each in headers.items():
                self.send_header(*each)
            self.end_headers()

    def do_GET(self):
        self.server.seen.append(("GET", self.path, b""))
        self.send_error(405)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def send(tmp_path):
    """What became of each target, and the pauses between the turns, which are not waited for."""

    def send(*targets, retry=30.0, message=MESSAGE, sleep=None):
        pauses = []
        sent = send_all(message, targets, Ledger(tmp_path / "h" / "sent.json"), retry, sleep or pauses.append)
        assert "hush" not in repr((sent, targets))
        assert "hush" not in "".join(path.read_text() for path in (tmp_path / "h").iterdir())
        return [each.state for each in sent], pauses

    return send


def hook_at(hook, kind="webhook", timeout=5.0):
    return Webhook(kind, hook.url, timeout)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_message_is_taken_at_once_and_never_sent_again(send, kind):
    with Hook(200) as hook:
        assert send(hook_at(hook, kind)) == (["delivered"], [])
        assert send(hook_at(hook, kind)) == (["already"], [])
        assert send(hook_at(hook, kind), message=replace(MESSAGE, id="f" * 16))[0] == ["delivered"]
        assert [path for _, path, _ in hook.seen] == [HUSH] * 2
        assert json.loads(hook.seen[0][2]) == PAYLOADS[kind](MESSAGE)


def test_who_answers_500_twice_gets_it_once(send):
    with Hook(500, 503, 200) as hook:
        states, pauses = send(hook_at(hook))
        assert states == ["delivered"]
        assert pauses == sorted(pauses)
        assert len(pauses) == 2
        assert send(hook_at(hook))[0] == ["already"]
        assert [status for status, _, _ in hook.seen] == [500, 503, 200]


def test_who_is_down_at_first_gets_it_when_it_is_up(send):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with contextlib.ExitStack() as stack:
        hooks = []
        states, _ = send(
            Webhook("webhook", f"http://127.0.0.1:{port}{HUSH}", 5.0),
            sleep=lambda _: hooks.append(stack.enter_context(Hook(200, port=port))),
        )
        assert states == ["delivered"]
        assert [hook.taken for hook in hooks] == [1]


def test_who_asks_to_wait_is_waited_for_and_never_beyond_the_time_there_is(send):
    with Hook((429, {"Retry-After": "7"}), 200) as hook:
        assert send(hook_at(hook)) == (["delivered"], [pytest.approx(7.0, abs=0.1)])
    with Hook((429, {"Retry-After": "70"})) as hook:
        assert send(hook_at(hook)) == (["failed"], [])
        assert len(hook.seen) == 1


def test_who_asks_to_wait_does_not_keep_the_others_from_being_tried(send):
    with Hook((429, {"Retry-After": "70"})) as patient, Hook(500, 200) as quick:
        assert send(hook_at(patient), hook_at(quick))[0] == ["failed", "delivered"]


def test_what_is_refused_is_not_tried_again_in_the_run_but_in_the_next(send):
    with Hook(400, 200) as hook:
        assert send(hook_at(hook)) == (["refused"], [])
        assert len(hook.seen) == 1
        assert send(hook_at(hook))[0] == ["delivered"]


@pytest.mark.parametrize("answer", [504, None, "hold"])
def test_what_may_have_arrived_is_never_sent_again(send, answer):
    with Hook(answer, 200) as hook:
        assert send(hook_at(hook, timeout=0.5)) == (["unknown"], [])
        assert send(hook_at(hook, timeout=0.5)) == (["unknown"], [])
        assert len(hook.seen) == 1


def test_who_is_slow_is_waited_for(send):
    with Hook(1.5) as hook:
        assert send(hook_at(hook)) == (["delivered"], [])
        assert len(hook.seen) == 1


def test_an_interim_answer_is_not_taken_for_the_answer(send):
    """RFC 9110, 15.2: a client must be able to parse one or more 1xx responses, even where it expects none."""
    final = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with Hook(final) as hook:
        states = [send(hook_at(hook))[0] for _ in range(2)]
        assert len(hook.seen) == 1
        assert states == [["delivered"], ["already"]]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(send, status):
    with Hook(200) as other, Hook((status, {"Location": other.url})) as hook:
        assert send(hook_at(hook)) == (["refused"], [])
        assert (len(hook.seen), other.seen) == (1, [])


def test_a_certificate_that_nobody_vouches_for_is_not_believed(send, certificate):
    with Hook(200) as hook:
        hook.socket = certificate[0].wrap_socket(hook.socket, server_side=True, do_handshake_on_connect=False)
        assert send(Webhook("slack", hook.url.replace("http:", "https:"), 5.0), retry=0.5)[0] == ["failed"]
        assert hook.seen == []


def test_a_host_without_a_port_is_reached_by_its_own_address():
    connection = Webhook("webhook", "http://[::1]/x")._connection()
    assert (connection.host, connection.port) == ("::1", 80)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_names_in_a_message_are_nothing_but_names(kind):
    many = [*HOSTILE, *(f"{'<*&>' * 200} {place}" for place in range(100))]
    payload = json.loads(json.dumps(PAYLOADS[kind](replace(MESSAGE, lines=many, changes=many))))
    if kind == "webhook":
        assert payload["summary"] == many
    if kind == "slack":
        texts = [block["text"]["text"] for block in payload["blocks"] if "text" in block]
        assert len(texts) == 3
        assert max(map(len, texts)) <= 3000
        assert all(block["text"].get("verbatim", True) for block in payload["blocks"] if "text" in block)
        for text in texts:
            assert not set("<>") & set(text)
            assert not re.search(r"[*_~`](?!\u200b)", text)
            assert not re.search(r"&(?!amp;|lt;|gt;)", text[:-5])
    if kind == "teams":
        texts = [block["text"] for block in payload["attachments"][0]["content"]["body"]]
        shown = [MarkdownIt("commonmark").render(text) for text in texts]
        assert not re.findall(r"<(?!/?p>)", "".join(shown))
        assert "[x](javascript:alert(1))" in "".join(shown)


# --- mail ------------------------------------------------------------------------------------


class Post:
    """A mail server: answers each mail with the next of `answers`, and with the last of them for ever.

    None is no answer; a recipient at nobody.example is refused until `mended`.
    """

    def __init__(self, *answers, host="127.0.0.1", **settings):
        self.answers, self.begun, self.mails, self.logins, self.mended = list(answers), 0, [], [], False
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.controller = Controller(self, host, self.port, authenticator=self.let_in, **settings)
        self.url = f"smtp://us@{host}:{self.port}"

    def __enter__(self):
        self.controller.start()
        return self

    def __exit__(self, *error):
        self.controller.stop()

    def let_in(self, *given):
        self.logins.append(given[-1].password)
        return AuthResult(success=self.logins[-1] == b"hush", handled=False)

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802
        if address.endswith("@nobody.example") and not self.mended:
            return "550 nobody here, hush"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server, _session, envelope):  # noqa: N802
        self.begun += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            server.transport.abort()
            await asyncio.sleep(0)
        elif answer.startswith("250"):
            self.mails.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=email.policy.SMTP)))
        return answer or "421 gone"

    def to(self, recipient="a@b.example", password=None):
        return Mail(recipient, Server(self.url, "headroom@b.example", password, 10.0))


OPEN = {"auth_required": True, "auth_require_tls": False}
without_tls = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")


def test_a_mail_has_the_summary_to_read_and_the_page_attached(send):
    with Post("250 ok") as post:
        assert send(post.to()) == (["delivered"], [])
        assert send(post.to()) == (["already"], [])
        ((recipients, mail),) = post.mails
    assert recipients == ["a@b.example"]
    assert (mail["Subject"], mail["From"], mail["To"]) == (MESSAGE.title, "headroom@b.example", "a@b.example")
    assert mail["Message-ID"] == f"<{MESSAGE.id}@headroom>"
    body = mail.get_body(("plain",)).get_content().replace("\r\n", "\n")
    assert "- all is well\n" in body
    assert "- new: a\n" in body
    (page,) = mail.iter_attachments()
    assert (page.get_content_type(), page.get_filename()) == ("text/html", f"headroom-{MESSAGE.stamp}.html")
    assert page.get_payload(decode=True) == MESSAGE.files["report.html"]


def test_names_with_newlines_and_dots_neither_end_a_mail_nor_become_headers(send):
    evil = "x\r\n.\r\nMAIL FROM:<e@e.example>\r\n\n.hidden\n..two\n.\nBcc: evil@evil.example\r.\r"
    with Post("250 ok") as post:
        assert send(post.to(), message=replace(MESSAGE, lines=[evil], changes=[evil]))[0] == ["delivered"]
        ((recipients, mail),) = post.mails
    assert (recipients, mail["Bcc"], mail.defects) == (["a@b.example"], None, [])
    body = mail.get_body(("plain",)).get_content().splitlines()
    assert [line for line in body if line.startswith(".")] == [".", ".hidden", "..two", ".", "."] * 2


def test_who_answers_451_gets_the_mail_once(send):
    with Post("451 later", "250 ok") as post:
        assert send(post.to())[0] == ["delivered"]
        assert send(post.to())[0] == ["already"]
        assert (post.begun, len(post.mails)) == (2, 1)


def test_a_mail_that_is_refused_is_not_tried_again_in_the_run(send):
    with Post("550 hush") as post:
        assert send(post.to()) == (["refused"], [])
        assert post.begun == 1


def test_a_mail_without_a_confirmation_is_never_sent_again(send):
    with Post(None, "250 ok") as post:
        assert send(post.to()) == (["unknown"], [])
        assert send(post.to()) == (["unknown"], [])
        assert post.begun == 1


def test_one_recipient_who_is_refused_does_not_keep_the_other_from_getting_it_once(send):
    with Post("250 ok") as post:
        both = post.to("c@nobody.example"), post.to()
        assert send(*both)[0] == ["refused", "delivered"]
        assert send(*both)[0] == ["refused", "already"]
        post.mended = True
        assert send(*both)[0] == ["delivered", "already"]
        assert [recipients for recipients, _ in post.mails] == [["a@b.example"], ["c@nobody.example"]]


@without_tls
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a test of its own finds what is left open
@pytest.mark.parametrize(("password", "state"), [("hush", "delivered"), ("hush-hush", "refused")])
def test_a_password_is_used_and_nowhere_in_what_is_told(run, recorded, tmp_path, password, state):
    (tmp_path / "password").write_text(f"{password}\n")
    with Post("250 ok", **OPEN) as post:
        mail = ("--to", "mailto:a@b.example", "--smtp", post.url, "--mail-from", "headroom@b.example")
        known = ("--smtp-password-file", tmp_path / "password", "--retry-for", "100ms")
        code, out, err = run("report", "--store", recorded, *mail, *known)
        assert (code, post.logins[0]) == (state != "delivered", password.encode())
        assert len(post.mails) == (state == "delivered")
        gc.collect()
    assert f"{state}: mail to a@b.example" in out + err
    assert "hush" not in out + err + (tmp_path / "recorded.db.reports" / "sent.json").read_text()


@without_tls
def test_a_password_does_not_go_over_the_net_in_the_clear(send):
    with Post("250 ok", host="0.0.0.0", **OPEN) as post:  # it is none of loopback, and leads here
        assert send(post.to(password="hush")) == (["refused"], [])
        assert (post.logins, post.begun) == ([], 0)


def test_mail_and_password_go_only_to_a_server_whose_certificate_is_vouched_for(send, certificate, monkeypatch):
    context, own = certificate
    with Post("250 ok", tls_context=context, require_starttls=True, auth_required=True) as post:
        assert send(post.to(password="hush"), retry=0.5)[0] == ["failed"]
        assert (post.logins, post.begun) == ([], 0)
        monkeypatch.setenv("SSL_CERT_FILE", str(own))
        assert send(post.to(password="hush"))[0] == ["delivered"]
        assert post.logins == [b"hush"]


@without_tls
@pytest.mark.parametrize("what", ["certificate", "password"])
def test_a_connection_that_fails_half_way_is_closed(send, certificate, what):
    settings = {"tls_context": certificate[0], "require_starttls": True} if what == "certificate" else OPEN
    with Post("250 ok", **settings) as post, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        send(post.to(password="wrong"), retry=0.5)
        gc.collect()
    assert [each.message for each in told if each.category is ResourceWarning] == []


@without_tls
@pytest.mark.parametrize(("recipient", "password"), [("jörg@b.example", None), ("a@b.example", "hüsh")])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_letters_that_a_mail_server_does_not_take_are_no_traceback(send, recipient, password, tmp_path):
    (tmp_path / "password").write_text(password or "")
    with Post("250 ok", **OPEN if password else {}) as post:
        try:
            server = server_of(post.url, "headroom@b.example", tmp_path / "password" if password else None)
            (target,) = targets_of([f"mailto:{recipient}"], server)
        except UsageError:
            return
        assert send(target, retry=0.5)[0] == ["delivered" if post.mails else "refused"]


# --- files -----------------------------------------------------------------------------------


def test_a_folder_gets_each_file_whole_under_the_time_of_the_report(send, tmp_path):
    assert send(Folder(str(tmp_path / "to")))[0] == ["delivered"]
    written = {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()}
    assert written == {f"report-{MESSAGE.stamp}.{name[7:]}": data for name, data in MESSAGE.files.items()}
    (tmp_path / "file").touch()
    states, pauses = send(Folder(str(tmp_path / "file" / "x")), Folder(str(tmp_path / "other")), retry=2.0)
    assert states == ["failed", "delivered"]
    assert pauses


def test_an_object_store_gets_them_too_and_one_that_is_missing_is_told_without_its_secret(send, s3_uri, tmp_path):
    assert send(Folder(s3_uri)) == (["delivered"], [])
    files, root = fs.FileSystem.from_uri(s3_uri)
    found = {each.base_name: each.path for each in files.get_file_info(fs.FileSelector(root))}
    assert set(found) == {f"report-{MESSAGE.stamp}.{form}" for form in ("html", "json")}
    with files.open_input_stream(found[f"report-{MESSAGE.stamp}.html"]) as stream:
        assert stream.read() == MESSAGE.files["report.html"]
    missing = Folder(s3_uri.replace("s3://", f"s3://AKIA:{SECRET}@").replace("profiles", "nobody"))
    ledger = Ledger(tmp_path / "h" / "sent.json")
    (sent,) = send_all(MESSAGE, [missing], ledger, 0.1)
    assert sent.state == "failed"
    assert SECRET not in repr(sent) + (tmp_path / "h" / "sent.json").read_text()


# --- what a person writes, and what is told ----------------------------------------------------


@pytest.mark.parametrize(
    "text", ["slack:hush", "teams:ftp://h/hush", "slack:http://h:99999/hush", "webhook:http://h/hush\nx", "https://h/hush",
             "webhook:http://[::1/hush"]
)  # fmt: skip
def test_what_is_no_target_is_told_before_anything_is_sent_and_not_repeated(text):
    with pytest.raises(UsageError) as told:
        targets_of([text], None)
    assert "hush" not in str(told.value)
    assert told.value.next_step


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.example"])
def test_a_host_that_can_have_no_address_is_no_traceback_and_nothing_may_have_arrived_there(send, host):
    try:
        targets = targets_of([f"slack:http://{host}{HUSH}"], None)
    except UsageError as told:
        assert "hush" not in str(told)  # noqa: PT017
        return
    assert send(*targets, retry=0.5)[0][0] in ("failed", "refused")


@pytest.mark.parametrize("url", ["smtp://h:99999", "smtp://h:x", "smtp://[::1", "smtp://u:hush@h", "http://h", "h"])
def test_what_is_no_mail_server_is_told_before_anything_is_sent(url):
    with pytest.raises(UsageError) as told:
        server_of(url, "a@b.example", None)
    assert "hush" not in str(told.value)


def test_comments_and_empty_lines_of_a_file_of_targets_are_none(tmp_path):
    (tmp_path / "to").write_text("# teams:http://h/old\n\n  # folder\n slack:http://h/x \n")
    assert [target.key for target in targets_of([f"@{tmp_path / 'to'}"], None)] == ["slack:http://h/x"]


@pytest.mark.parametrize(
    ("answer", "state"),
    [(400, "refused"), (503, "failed"), (None, "unknown"), (b"REQUEST", "unknown"), (200, "delivered")],
)
def test_the_secret_of_a_url_is_nowhere_in_what_is_told_or_kept(run, recorded, tmp_path, answer, state):
    with Hook(answer) as hook:
        (tmp_path / "to").write_text(f"webhook:{hook.url}\n")
        code, out, err = run("report", "--store", recorded, "--to", f"@{tmp_path / 'to'}", "--retry-for", "100ms")
    assert code == (state != "delivered")
    assert re.search(rf"{state}: .*at 127\.0\.0\.1", out + err)
    assert len(hook.seen) == 1
    kept = "".join(path.read_text() for path in (tmp_path / "recorded.db.reports").iterdir())
    assert "hush" not in out + err + kept
    assert "error: 1 of 1" in err or state == "delivered"


# --- runs that are killed, doubled, or find a damaged ledger ------------------------------------


def report(store, hook, *more):
    store.with_name("to").write_text(f"webhook:{hook.url}\n")
    command = [sys.executable, "-m", "headroom", "report", "--store", store, "--to", f"@{store.with_name('to')}", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_what_a_killed_run_was_sending_is_not_sent_again_and_that_is_said(recorded):
    with Hook("hold", 200) as hook:
        killed = report(recorded, hook)
        assert hook.came.wait(60)
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=20)
        later = report(recorded, hook)
        told, _ = later.communicate(timeout=60)
        assert later.returncode == 1
        assert told.startswith("unknown: ")
        assert "not sent again" in told
        assert "Traceback" not in told
        assert len(hook.seen) == 1


def test_two_runs_at_once_send_once(recorded):
    with Hook(1.0) as hook:
        runs = [report(recorded, hook) for _ in range(2)]
        told = sorted(each.communicate(timeout=60)[0].split(":")[0] for each in runs)
        assert told == ["already", "delivered"]
        assert [each.returncode for each in runs] == [0, 0]
        assert len(hook.seen) == 1


@pytest.mark.parametrize("content", [b"", b'{"a', b"\xff\xfe", b"[1]", b"null", b'"text"', b'{"a": {}}'])
def test_a_damaged_ledger_is_one_sentence_with_a_next_step_and_nothing_is_sent(send, tmp_path, content):
    (tmp_path / "h").mkdir()
    key = f"{MESSAGE.id} {'0' * 24}"
    (tmp_path / "h" / "sent.json").write_bytes(content.replace(b'"a"', json.dumps(key).encode()))
    with Hook(200) as hook:
        with pytest.raises(StoreError, match=r"sent\.json cannot be read") as told:
            send_all(MESSAGE, [hook_at(hook)], Ledger(tmp_path / "h" / "sent.json"), 1.0)
        assert hook.seen == []
    assert isinstance(told.value, HeadroomError)
    assert told.value.next_step


@pytest.fixture(name="certificate", scope="module")
def make_certificate(tmp_path_factory):
    """A server's context, and the file of its certificate, which nobody vouches for."""
    folder = tmp_path_factory.mktemp("tls")
    key, own = folder / "key.pem", folder / "own.pem"
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", key, "-out", own, *names]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    return context, own
