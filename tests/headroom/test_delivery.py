"""Reports on their way to people: real receivers that are slow, down, rude or silent; killed and doubled runs."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from pyarrow import fs

from headroom.delivery.folder import Folder
from headroom.delivery.ledger import Ledger
from headroom.delivery.sending import send_all
from headroom.delivery.targets import server_of, targets_of
from headroom.delivery.webhook import PAYLOADS, Webhook
from profiles.errors import HeadroomError, StoreError, UsageError
from tests.cluster.s3 import SECRET, make_s3_address, make_s3_uri  # noqa: F401
from tests.headroom.receivers import HOSTILE, HUSH, MESSAGE, Hook, hook_at


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
