import pytest

from policies.schema import PolicyError, built_in_names, load_policies, policy_for


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
