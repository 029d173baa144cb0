"""A report by mail: the summary to read, the page attached. One message per recipient."""

from __future__ import annotations

import re
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from ipaddress import ip_address
from urllib.parse import SplitResult, unquote, urlsplit

from headroom.delivery.message import Message, NotTaken, Refused, Unknown

TIMEOUT_SECONDS = 60.0
_ATTACHED = {"report.html": ("text", "html")}
_TRANSIENT = range(400, 500)


@dataclass(frozen=True, slots=True)
class Server:
    """Who takes mail: ``smtp://user@host:587`` (STARTTLS where it is offered) or ``smtps://host:465``.

    :ivar password: never sent over a connection in the clear, but to this machine
    """

    url: str
    sender: str
    password: str | None = field(default=None, repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class Mail:
    """One recipient."""

    recipient: str
    server: Server

    @property
    def key(self) -> str:
        """By recipient: through which server is all the same."""
        return f"mailto:{self.recipient}"

    @property
    def shown(self) -> str:
        """The recipient."""
        return f"mail to {self.recipient}"

    def send(self, message: Message) -> None:
        """One transaction.

        :raises NotTaken, Refused, Unknown: by how far it came, and by the server's codes
        """
        try:
            connection = self._connected()
        except smtplib.SMTPAuthenticationError as error:
            raise Refused(f"the mail server does not let us in ({error.smtp_code})") from error
        except (OSError, smtplib.SMTPException) as error:
            raise NotTaken(f"the mail server was not reached ({_reason(error)})") from error
        except ValueError as error:
            raise Refused("its address cannot be looked up, or user and password are not of ASCII letters") from error
        try:
            self._transaction(connection, self._mail(message))
        finally:
            connection.close()

    def _connected(self) -> smtplib.SMTP:
        parts, wait = urlsplit(self.server.url), self.server.timeout_seconds
        assert parts.hostname is not None
        context = ssl.create_default_context()
        if parts.scheme == "smtps":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                parts.hostname, parts.port or 465, timeout=wait, context=context
            )
        else:
            connection = smtplib.SMTP(parts.hostname, parts.port or 587, timeout=wait)
        try:
            self._let_in(connection, parts, context)
        except BaseException:
            connection.close()
            raise
        return connection

    def _let_in(self, connection: smtplib.SMTP, parts: SplitResult, context: ssl.SSLContext) -> None:
        connection.ehlo_or_helo_if_needed()
        if parts.scheme != "smtps" and connection.has_extn("starttls"):
            connection.starttls(context=context)
            connection.ehlo()
        elif parts.scheme != "smtps" and self.server.password is not None and not _is_here(parts.hostname or ""):
            raise Refused("the mail server offers no encryption, and the password is not sent in the clear")
        if self.server.password is not None and parts.username:
            connection.login(unquote(parts.username), self.server.password)

    def _transaction(self, connection: smtplib.SMTP, mail: EmailMessage) -> None:
        try:
            _judge(*connection.mail(self.server.sender))
            _judge(*connection.rcpt(self.recipient))
            code, text = connection.docmd("data")
            if code != 354:
                _judge(code, text)
        except (OSError, smtplib.SMTPException) as error:
            raise NotTaken(f"the mail server went away ({_reason(error)})") from error
        try:
            lines = re.sub(rb"(?m)^\.", b"..", mail.as_bytes(policy=SMTP))  # RFC 5321, 4.5.2
            connection.send(lines + b"\r\n.\r\n")
            answer = connection.getreply()
        except (OSError, smtplib.SMTPException) as error:
            raise Unknown(f"the mail server did not confirm it ({_reason(error)})") from error
        _judge(*answer)

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = message.title, self.server.sender, self.recipient
        mail["Date"], mail["Message-ID"] = formatdate(), f"<{message.id}@headroom>"
        mail["Auto-Submitted"] = "auto-generated"
        since = ["", "Since the last report:", *(f"- {line}" for line in message.changes)] if message.changes else []
        mail.set_content("\n".join([*(f"- {line}" for line in message.lines), *since, ""]))
        for name, (main, sub) in _ATTACHED.items():
            if name in message.files:
                mail.add_attachment(
                    message.files[name], maintype=main, subtype=sub, filename=f"headroom-{message.stamp}.html"
                )
        return mail


def _judge(code: int, text: bytes) -> None:
    if 200 <= code < 300:
        return
    sentence = f"the mail server answered {code}"
    del text  # it may repeat what was sent
    if code in _TRANSIENT or code < 200:
        raise NotTaken(sentence)
    raise Refused(sentence)


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
