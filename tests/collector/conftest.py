"""The traffic programs on a cgroup of the test's own."""

import pytest

from collector.traffic import TrafficCounters
from headroom.demo.host import Group, free_port, start_service
from tests.collector.counting import own_cgroup


@pytest.fixture
def own_group():
    with own_cgroup() as folder:
        yield folder


@pytest.fixture
def counters(own_group):
    made = TrafficCounters.attach(own_group)
    http2 = made.attach_http2()
    lifecycle = made.attach_lifecycle(http2)
    yield made
    lifecycle.close()
    http2.close()
    made.kernel.close()


@pytest.fixture
def web():
    group = Group("test-web")
    port = free_port()
    start_service(group, "checkout", port)
    yield group, port
    group.close()
