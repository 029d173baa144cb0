"""Pods that come and go while the agent runs, in real cgroups; five minutes of it are a benchmark."""

import pytest

from benchmarks.pods import measure


@pytest.mark.kernel
@pytest.mark.timeout(120)
def test_each_request_is_counted_under_its_own_pod_though_pods_live_for_seconds():
    found = measure(steady=8, seconds=14.0)
    assert found["pods"] > 10  # in a slow guest fewer come in the time
    assert not found["elsewhere"]
    assert not found["examples"]  # sent and counted, of those that differ
    assert found["pods_wrong"] == 0
    assert found["requests"] == found["counted"] > 100
    assert found["usage_without_name"] == 0
    assert not found["lost"]
