"""Fixture trees of plain files, as the kernel lays them out on v2, hybrid and v1 machines."""

import pytest

from collector.cgroups import Cgroup, find_tree
from collector.identity import attribute, identify
from collector.usage import locate
from collector.usage import read_group as read_files
from profiles.errors import HeadroomError

CONTAINER = "3f1c" * 16
POD = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_0000_1111_2222_0123456789ab.slice"


def read_group(tree, path):
    return read_files(locate(tree, path))


def files(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name.replace("__", ".")).write_text(text)


def v2(root):
    files(root, cgroup__controllers="cpu memory", cgroup__procs="1\n")
    files(
        root / "system.slice/nginx.service",
        cgroup__procs="7\n",
        cpu__stat="usage_usec 2500000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 1500000\n",
        cpu__max="50000 100000\n",
        cpu__weight="39\n",
        cpu__pressure="some avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\nfull avg10=0 avg60=0 avg300=0 total=1\n",
        memory__current="1000\n",
        memory__peak="1500\n",
        memory__max="4096\n",
        memory__stat="anon 300\nfile 600\ninactive_file 250\nworkingset_refault_anon 2\nworkingset_refault_file 3\n",
        memory__events="low 0\noom 1\noom_kill 1\n",
    )
    return root


def hybrid(root):
    files(root / "unified/web", cgroup__procs="42\n", cpu__pressure="some avg10=0.00 total=1000000\n")
    files(root / "unified", cgroup__procs="1\n")
    _v1_controllers(root)
    return root


def v1(root):
    _v1_controllers(root)
    return root


def _v1_controllers(root):
    files(
        root / "cpu,cpuacct/web",
        cgroup__procs="42\n",
        cpu__stat="nr_periods 10\nnr_throttled 4\nthrottled_time 1500000000\n",
        cpu__cfs_quota_us="50000\n",
        cpu__cfs_period_us="100000\n",
        cpu__shares="256\n",
        cpuacct__usage="2500000000\n",
    )
    files(
        root / "memory/web",
        memory__usage_in_bytes="1000\n",
        memory__max_usage_in_bytes="1500\n",
        memory__limit_in_bytes="4096\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        memory__stat="cache 5\ntotal_rss 300\ntotal_cache 600\ntotal_inactive_file 250\n"
        "total_workingset_refault_anon 2\ntotal_workingset_refault_file 3\n",
    )


@pytest.mark.parametrize(
    ("build", "version", "path"),
    [(v2, "v2", "system.slice/nginx.service"), (hybrid, "hybrid", "web"), (v1, "v1", "web")],
)
def test_every_version_of_the_tree_gives_the_same_reading(tmp_path, build, version, path):
    tree = find_tree(build(tmp_path))
    assert tree.version == version
    reading = read_group(tree, path)
    assert reading.cpu_seconds == pytest.approx(2.5)
    assert (reading.periods, reading.throttled_periods) == (10, 4)
    assert reading.throttled_seconds == pytest.approx(1.5)
    assert reading.cpu_limit_cores == 0.5
    assert reading.memory_anon_bytes == 300
    assert reading.memory_file_bytes == 600
    assert reading.memory_working_set_bytes == 750
    assert reading.memory_peak_bytes == 1500
    assert reading.memory_limit_bytes == 4096
    assert (reading.refaults, reading.oom_kills) == (5, 1)


def test_requests_are_read_back_from_the_weight(tmp_path):
    assert read_group(find_tree(v2(tmp_path / "a")), "system.slice/nginx.service").cpu_request_cores == pytest.approx(
        0.975,
        abs=0.03,  # weight 39 stands for 26 millicores either way
    )
    assert read_group(find_tree(v1(tmp_path / "b")), "web").cpu_request_cores == 0.25


def test_pressure_comes_from_the_v2_tree(tmp_path):
    assert read_group(find_tree(hybrid(tmp_path / "a")), "web").cpu_pressure_seconds == pytest.approx(1.0)
    assert read_group(find_tree(v1(tmp_path / "b")), "web").cpu_pressure_seconds is None


def test_no_limit_is_none_on_both_versions(tmp_path):
    files(v2(tmp_path / "a") / "free", cpu__max="max 100000\n", memory__max="max\n")
    files(v1(tmp_path / "b") / "memory/web", memory__limit_in_bytes="9223372036854771712\n")
    files(tmp_path / "b/cpu,cpuacct/web", cpu__cfs_quota_us="-1\n", cpu__shares="1024\n")
    for root, path in ((tmp_path / "a", "free"), (tmp_path / "b", "web")):
        reading = read_group(find_tree(root), path)
        assert (reading.cpu_limit_cores, reading.cpu_request_cores, reading.memory_limit_bytes) == (None, None, None)


def test_a_missing_file_is_unknown_not_zero(tmp_path):
    (v2(tmp_path) / "bare").mkdir()
    reading = read_group(find_tree(tmp_path), "bare")
    assert reading.memory_working_set_bytes is None
    assert reading.cpu_seconds is None
    assert reading.oom_kills is None


def test_a_group_that_is_gone_has_no_reading(tmp_path):
    assert read_group(find_tree(v2(tmp_path)), "never") is None


def test_a_v1_group_under_another_path_is_found_through_a_member(tmp_path):
    root = hybrid(tmp_path / "cgroup")
    files(root / "unified/app.scope", cgroup__procs="42\n")
    files(tmp_path / "proc/42", cgroup="4:memory:/web\n2:cpu,cpuacct:/web\n0::/app.scope\n")
    files(root / "memory/web", cgroup__procs="42\n")
    tree = find_tree(root, tmp_path / "proc")
    assert read_group(tree, "app.scope").memory_anon_bytes == 300


def test_a_v1_group_that_is_shared_with_others_is_not_its_own(tmp_path):
    root = hybrid(tmp_path / "cgroup")
    files(root / "unified/app.scope", cgroup__procs="42\n")
    files(tmp_path / "proc/42", cgroup="4:memory:/web\n2:cpu,cpuacct:/web\n0::/app.scope\n")
    files(root / "memory/web", cgroup__procs="42\n43\n")
    assert read_group(find_tree(root, tmp_path / "proc"), "app.scope").memory_anon_bytes is None


@pytest.mark.parametrize("given", ["demo/web", "/demo/web/", "./demo//web", "demo/x/../web", "{root}/demo/web"])
def test_a_path_may_be_given_in_every_usual_way(tmp_path, given):
    tree = find_tree(v2(tmp_path))
    assert tree.relative(given.format(root=tmp_path)) == "demo/web"


@pytest.mark.parametrize("given", ["/", ".", "{root}"])
def test_the_root_means_everything(tmp_path, given):
    assert find_tree(v2(tmp_path)).relative(given.format(root=tmp_path)) == ""


def test_no_tree_at_all_is_said(tmp_path):
    with pytest.raises(HeadroomError, match="No cgroup tree"):
        find_tree(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("path", "kind", "workload", "instance"),
    [
        ("system.slice/nginx.service", "SystemdUnit", "nginx", "/system.slice/nginx.service"),
        ("system.slice/nginx.service/worker", "SystemdUnit", "nginx", "/system.slice/nginx.service"),
        ("user.slice/user-0.slice/session-1.scope", "SystemdUnit", "session-1", None),
        (f"docker/{CONTAINER}", "Container", CONTAINER[:12], None),
        (f"system.slice/docker-{CONTAINER}.scope/init.scope", "Container", CONTAINER[:12], None),
        (f"{POD}/cri-containerd-{CONTAINER}.scope", "Pod", "0a1b2c3d-0000-1111-2222-0123456789ab", None),
        (f"kubepods/besteffort/pod0a1b2c3d-0000-1111-2222-0123456789ab/{CONTAINER}", "Pod", None, None),
        ("team/web", "Cgroup", "team.web", "/team/web"),
    ],
)
def test_a_path_tells_the_workload(path, kind, workload, instance):
    identity = identify(path)
    assert identity.kind == kind
    assert workload in (None, identity.workload)
    assert instance in (None, identity.instance)
    assert identity.namespace == "host"


@pytest.mark.parametrize("path", ["system.slice", "user.slice/user-0.slice", POD])
def test_a_slice_is_no_workload(path):
    assert identify(path) is None


def test_a_named_group_is_called_by_its_path_below_the_base():
    assert identify("demo/web", ["demo"]).workload == "web"
    assert identify("demo/web", ["/demo/web/"]).workload == "web"
    assert identify("demo/a/b", ["demo"]).workload == "a.b"


def test_only_groups_below_a_base_are_taken_and_empty_parents_are_not(tmp_path):
    root = v2(tmp_path)
    files(root / "demo", cgroup__procs="")
    files(root / "demo/web", cgroup__procs="5\n")
    files(root / "demonstration", cgroup__procs="6\n")
    tree = find_tree(root)
    found = attribute(tree, tree.walk(), ["demo"])
    assert [identity.workload for identity in found.values()] == ["web"]


def test_walking_gives_ids_on_v2_and_none_on_v1(tmp_path):
    a, b = find_tree(v2(tmp_path / "a")), find_tree(v1(tmp_path / "b"))
    assert all(group.id == (tmp_path / "a" / group.path).stat().st_ino for group in a.walk())
    assert list(b.walk()) == [Cgroup("web", None)]
