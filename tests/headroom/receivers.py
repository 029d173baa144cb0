"""Real servers that take reports, or do not: HTTP and SMTP, on loopback."""

import asyncio
import email
import email.policy
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from headroom.delivery.mail import Mail, Server
from headroom.delivery.message import Message
from headroom.delivery.webhook import Webhook
from tests.cluster.s3 import SECRET, make_s3_address, make_s3_uri  # noqa: F401

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


def hook_at(hook, kind="webhook", timeout=5.0):
    return Webhook(kind, hook.url, timeout)


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
