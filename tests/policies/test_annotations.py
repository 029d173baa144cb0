"""What workloads and namespaces say of themselves."""

import pytest

from policies.annotations import annotated
from policies.schema import load_policies

BALANCED = load_policies("balanced")


def of(**annotations):
    given = {f"headroom.dev/{name.replace('__', '.')}": text for name, text in annotations.items()}
    return annotated(BALANCED[0], BALANCED, given)


def test_without_annotations_the_files_hold():
    assert of() == (BALANCED[0], {}, [])


def test_another_policy_is_named():
    policy, sources, problems = of(policy="safe")
    assert (policy.name, policy.cpu.limit) == ("safe", "none")
    assert sources == {"policy": "annotation headroom.dev/policy"}
    assert problems == []


def test_a_key_overrides_the_policy_that_was_named():
    policy, sources, _ = of(policy="lean", latency__limit_adds_percent="7.5", cpu__limit="none")
    assert (policy.name, policy.latency.limit_adds_percent, policy.cpu.limit) == ("lean", 7.5, "none")
    assert policy.latency.request_adds_percent == load_policies("lean")[0].latency.request_adds_percent
    assert set(sources) == {"policy", "latency.limit_adds_percent", "cpu.limit"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("policy", "generous", "there is no policy 'generous'"),
        ("latency.limit_adds_percent", "-5", "cannot be"),
        ("latency.limit_adds_percent", "much", "cannot be"),
        ("cpu.limit", "[1", "cannot be"),
        ("cpu.limits", "none", "is no key of a policy"),
        ("name", "mine", "is no key of a policy"),
        ("cpu", "none", "is no key of a policy"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(name, text, said):
    policy, sources, problems = annotated(BALANCED[0], BALANCED, {f"headroom.dev/{name}": text})
    assert policy == BALANCED[0]
    assert sources == {}
    assert len(problems) == 1
    assert said in problems[0]


def test_annotations_of_others_are_none_of_ours():
    assert annotated(BALANCED[0], BALANCED, {"example.com/policy": "safe"}) == (BALANCED[0], {}, [])
