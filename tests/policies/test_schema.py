import pytest

from policies.schema import CLASS_NAMES, Selector, built_in_names, load_policies, policy_for
from policies.strict_yaml import PolicyError
from recommender.classify import WorkloadClass


def write(tmp_path, text):
    path = tmp_path / "team.yaml"
    path.write_text(text)
    return str(path)


def test_the_built_in_policies_are_valid_and_named_as_their_files():
    assert built_in_names() == ["balanced", "lean", "safe"]
    for name in built_in_names():
        assert [policy.name for policy in load_policies(name)] == [name]


def test_balanced_spells_out_every_default():
    (balanced,) = load_policies("balanced")
    assert balanced == type(balanced)(name="balanced")


def test_the_first_policy_that_matches_applies(tmp_path):
    policies = load_policies(
        write(
            tmp_path,
            "version: 1\npolicies:\n"
            "  - name: shop\n    match: {namespace: shop, workload: 'web-*'}\n"
            "  - name: rest-of-shop\n    match: {namespace: shop}\n",
        )
    )
    assert policy_for(policies, "shop", "web-1", "app").name == "shop"
    assert policy_for(policies, "shop", "cart", "app").name == "rest-of-shop"
    assert policy_for(policies, "bank", "web-1", "app").name == "balanced"


def test_the_classes_are_those_of_the_recommender():
    assert list(CLASS_NAMES) == [each.value for each in WorkloadClass]


CLASSES = """version: 1
policies:
  - name: users-wait
    match: {class: "latency-sensitive*"}
  - name: nobody-waits
    match: {class: [idle, "background *", periodic/batch]}
  - name: shop-bursts
    match: {namespace: shop, class: bursty}
"""


@pytest.mark.parametrize(
    ("namespace", "kind", "name"),
    [
        ("shop", "latency-sensitive", "users-wait"),
        ("shop", "latency-sensitive, CPU-bound", "users-wait"),
        ("bank", "idle", "nobody-waits"),
        ("bank", "background worker", "nobody-waits"),
        ("bank", "periodic/batch", "nobody-waits"),
        ("shop", "bursty", "shop-bursts"),
        ("bank", "bursty", "balanced"),
        ("bank", "saturated", "balanced"),
        ("shop", None, "balanced"),
    ],
)
def test_a_policy_selects_by_class(tmp_path, namespace, kind, name):
    policies = load_policies(write(tmp_path, CLASSES))
    assert policy_for(policies, namespace, "web", "app", kind).name == name


@pytest.mark.parametrize("kind", [None, *CLASS_NAMES])
def test_a_policy_without_a_class_is_for_all_of_them(kind):
    assert Selector().matches("shop", "web", "app", kind)


def test_a_policy_survives_being_dumped():
    selector = Selector(**{"class": "bursty"})
    assert Selector.model_validate(selector.model_dump()) == selector
    assert Selector.model_validate(selector.model_dump(by_alias=True)) == selector


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_every_class_can_be_selected_by_its_name(name):
    assert Selector(class_=name).matches("", "", "", name)
    assert not Selector(class_=name).matches("", "", "", "no such class")


HEAD = "version: 1\npolicies:\n  - name: x\n"


@pytest.mark.parametrize(
    ("text", "sentence", "next_step"),
    [
        (
            HEAD + "    latency:\n      limit_add_percent: 5\n",
            "line 5: unknown key 'limit_add_percent'",
            "limit_adds_percent",
        ),
        (HEAD + "    cpus: {}\n", "line 4: unknown key 'cpus'", "cpu, memory"),
        ("version: 1\npolices: []\npolicies: [{name: x}]\n", "line 2: unknown key 'polices'", "version, policies"),
        (HEAD + "    cpu: {limit: sometimes}\n", "line 4: policies.0.cpu.limit", "balanced.yaml"),
        (HEAD + "    memory: {limit_ratio: 0.5}\n", "line 4: policies.0.memory.limit_ratio", "balanced.yaml"),
        ("version: 2\npolicies: [{name: x}]\n", "line 1: version", "balanced.yaml"),
        ("", "line 1: the file", "balanced.yaml"),
        ("- a\n- b\n", "line 1: the file", "balanced.yaml"),
        ("version: 1\npolicies: []\n", "line 2: policies", "balanced.yaml"),
        (HEAD + "    cpu: {}\n    cpu: {limit: none}\n", "line 5: 'cpu' is given twice", "Keep one"),
        (
            HEAD + "    latency: {limit_adds_percent: true}\n",
            "line 4: policies.0.latency.limit_adds_percent: must be a number",
            "",
        ),
        (
            HEAD + f"    cpu: {{floor_millicores: {10**30}}}\n",
            "line 4: policies.0.cpu.floor_millicores",
            "balanced.yaml",
        ),
        (HEAD + "    latency: {limit_adds_percent: 2020-13-45}\n", "not valid YAML", "balanced.yaml"),
        (HEAD + "    latency: 5\n", "line 4: policies.0.latency: must be a mapping", "balanced.yaml"),
        (HEAD + "    match: {class: idel}\n", "line 4: there is no class 'idel'", "saturated; censored; leaking"),
        (HEAD + "    match:\n      class: [idle, burst]\n", "line 5: there is no class 'burst'", "periodic/batch"),
        (HEAD + "    match: {class: []}\n", "line 4: policies.0.match.class: must not be empty", ""),
        (HEAD + "    match: {class: 5}\n", "line 4: policies.0.match.class: must be a list", ""),
        (HEAD + "    match: {class: [5]}\n", "line 4: policies.0.match.class.0", "balanced.yaml"),
        (HEAD + "    match: {klass: idle}\n", "line 4: unknown key 'klass'", "container, class, priority_class."),
        ("version: [1\n", "line 2: not valid YAML", "balanced.yaml"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, text, sentence, next_step):
    with pytest.raises(PolicyError) as caught:
        load_policies(write(tmp_path, text))
    assert "team.yaml" in caught.value.sentence
    assert sentence in caught.value.sentence
    assert "\n" not in str(caught.value)
    assert next_step in caught.value.next_step


def test_a_name_that_is_neither_built_in_nor_a_file(tmp_path):
    with pytest.raises(PolicyError, match="no policy balancd") as caught:
        load_policies("balancd")
    assert "balanced, lean, safe" in caught.value.next_step


def test_a_binary_file_is_no_policy(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(PolicyError, match="not a text file"):
        load_policies(str(path))


def test_a_policy_selects_by_priority_class(tmp_path):
    text = """
version: 1
policies:
  - {name: careful, match: {priority_class: "system-*"}, latency: {limit_adds_percent: 1}}
  - {name: rest}
"""
    policies = load_policies(write(tmp_path, text))
    assert policy_for(policies, "shop", "web", "app", None, "system-cluster-critical").name == "careful"
    assert policy_for(policies, "shop", "web", "app", None, "batch").name == "rest"
    assert policy_for(policies, "shop", "web", "app").name == "rest"
