"""An object store that speaks S3: the server of moto, which lives in a place of its own (build/s3)."""

import contextlib
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[2] / "build" / "s3" / "bin" / "moto_server"
BUCKET = "profiles"
KEY, SECRET = "AKIAHEADROOM", "hush"


@contextlib.contextmanager
def s3_server(log):
    """The host and port of one that holds nothing but an empty bucket."""
    if not SERVER.exists():
        pytest.fail(f"{SERVER} is missing. Make it: make build/s3/bin/moto_server", pytrace=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    with log.open("w") as told:
        process = subprocess.Popen([SERVER, "-H", host, "-p", str(port)], stdout=told, stderr=told)
    try:
        make_bucket(process, f"http://{host}:{port}/{BUCKET}", log)
        yield f"{host}:{port}"
    finally:
        process.terminate()
        process.wait(20)


def make_bucket(process, url, log):
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(urllib.request.Request(url, method="PUT")) as answer:
            assert answer.status == 200
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture(name="s3_address", scope="module")
def make_s3_address(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as address:
        yield address


@pytest.fixture(name="s3_uri")
def make_s3_uri(s3_address, request, monkeypatch):
    """How a depot of the test's own is called, in that store; the environment says who one is there."""
    be_let_in(monkeypatch)
    return uri(s3_address, f"{BUCKET}/{request.node.name}")


def be_let_in(monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def uri(address, path, user=""):
    return f"s3://{user}{path}?endpoint_override={address}&scheme=http&region=us-east-1"
