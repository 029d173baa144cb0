"""The command line within this process, a small real Prometheus, and how a message is sent."""

import ssl
import subprocess

import pytest

from headroom.cli import main
from headroom.delivery.ledger import Ledger
from headroom.delivery.sending import send_all
from tests.cluster import tsdb
from tests.headroom.receivers import MESSAGE


@pytest.fixture(scope="module")
def outside_of_any_cluster():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("KUBERNETES_SERVICE_HOST", "KUBECONFIG", "HEADROOM_STORE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def url():
    with tsdb.prometheus(*tsdb.every_scene()) as address:
        yield address


@pytest.fixture
def run(capsys):
    """Exit code, stdout and stderr of a command; an exception that is no exit is a traceback, and fails the test."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(list(map(str, arguments)))
        told = capsys.readouterr()
        return caught.value.code, told.out, told.err

    return run


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
