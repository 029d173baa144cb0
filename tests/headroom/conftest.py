"""The command line within this process, and a small real Prometheus."""

import pytest

from headroom.cli import main
from tests.cluster import tsdb


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
