"""The traffic programs on a cgroup of the test's own."""

import os
from pathlib import Path

import pytest

from collector.cgroups import find_tree
from collector.traffic import TrafficCounters


@pytest.fixture
def own_group():
    """A cgroup that this process is in for the test: others' traffic is not seen there."""
    top = find_tree().unified
    home = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    folder = top / f"test-traffic-{os.getpid()}"
    folder.mkdir()
    (folder / "cgroup.procs").write_text(str(os.getpid()))
    yield folder
    (top / home[3:].lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
    folder.rmdir()


@pytest.fixture
def counters(own_group):
    made = TrafficCounters.attach(own_group)
    endings = made.attach_endings()
    yield made
    endings.close()
    made.kernel.close()
