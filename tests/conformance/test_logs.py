"""Real servers asked by real clients: what we count is what the server's own log says, by method, route and status."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest

from collector.traffic import TrafficCounters
from tests.collector.counting import settle
from tests.conformance.clients import CASES
from tests.conformance.servers import SERVERS, start

pytestmark = pytest.mark.kernel

#: Servers and clients that do not get along: ab asks by HTTP/1.0 for a connection that stays, http.server leaves it
#: open without saying so, and both wait for the other.
LEFT_OUT = {("http.server", "ab, keep-alive"), ("http.server", "ab POST")}


@pytest.fixture(scope="module")
def watched(request):
    """A server with the counters of its cgroup."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to the users that servers change to
        server = start(request.param, Path(folder))
        counters = TrafficCounters.attach(server.cgroup)
        endings = counters.attach_endings()
        yield server, counters
        endings.close()
        counters.kernel.close()
        server.group.close()


def answered(counters):
    found = Counter()
    for each in counters.read():
        if each.role == "server" and each.outcome == "answered":
            found[each.method, each.route, each.status] += each.latency.total
    return found


@pytest.mark.parametrize(
    ("watched", "case"),
    [(server, case) for server in SERVERS for case in CASES if (server, case) not in LEFT_OUT],
    indirect=["watched"],
)
def test_counts_are_those_of_the_server_s_log(watched, case, tmp_path):
    server, counters = watched
    before = server.logged()
    counters.read()
    counters.losses()
    counters.commit()
    CASES[case](server.port, tmp_path)
    settle(lambda: bool(server.logged() - before), True)
    settle(lambda: (found := answered(counters)) - (said := server.logged() - before) + (said - found), Counter())
    assert counters.losses() == {}
