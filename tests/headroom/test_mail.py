"""A report by mail, to a real SMTP server: what arrives, and that nothing arrives twice."""

import gc
import warnings
from dataclasses import replace

import pytest

from headroom.delivery.targets import server_of, targets_of
from profiles.errors import UsageError
from tests.cluster.s3 import SECRET, make_s3_address, make_s3_uri  # noqa: F401
from tests.headroom.receivers import MESSAGE, Post

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
