"""What executes a program: real processes in cgroups of their own, as the kernel shows them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from bpf.layout import Sign
from bpf.loader import load
from collector.cgroups import find_tree
from collector.runtimes import Process, Runtimes, runtimes_of
from headroom.demo.host import Group
from profiles.schema import Runtime

OF_ALL_NAMESPACES = tuple(int(each) for each in os.uname().release.split(".")[:2]) >= (6, 7)


def told(*processes):
    """The runtime of a cgroup with these processes: number, program, signs."""
    return runtimes_of({7: [Process(number, program, signs) for number, program, signs in processes]}).get(7)


@pytest.mark.parametrize(
    ("name", "signs", "runtime"),
    [
        ("java", Sign.CPP | Sign.JVM, Runtime.JVM),
        ("launcher", Sign.CPP | Sign.JVM | Sign.GO, Runtime.JVM),
        ("node", Sign.CPP, Runtime.NODE),
        ("memfd:node", Sign.CPP, Runtime.NODE),
        ("python3.11", Sign(0), Runtime.PYTHON),
        ("python3.13t", Sign(0), Runtime.PYTHON),
        ("uwsgi", Sign.PYTHON, Runtime.PYTHON),
        ("ruby3.1", Sign(0), Runtime.RUBY),
        ("dotnet", Sign.DOTNET | Sign.CPP, Runtime.DOTNET),
        ("shop", Sign.DOTNET | Sign.CPP, Runtime.DOTNET),
        ("php-fpm8.2", Sign(0), Runtime.PHP),
        ("apache2", Sign.PHP, Runtime.PHP),
        ("beam.smp", Sign.CPP, Runtime.BEAM),
        ("envoy", Sign.CPP, Runtime.CPP),
        ("server", Sign.GO, Runtime.GO),
        ("node_exporter", Sign.GO, Runtime.GO),
        ("nginx", Sign(0), Runtime.NATIVE),
        ("javascript", Sign(0), Runtime.NATIVE),
        ("server", Sign.UNSEEN, None),
        ("node", Sign.UNSEEN, Runtime.NODE),
    ],
)
def test_program_heap_and_libraries_tell_a_runtime(name, signs, runtime):
    assert told((10, name, signs)) is runtime


def test_what_starts_the_main_process_is_not_it():
    processes = [(13, "python3", Sign(0)), (12, "node", Sign(0)), (11, "sh", Sign(0)), (10, "tini", Sign(0))]
    assert told(*processes) is Runtime.NODE
    assert told((10, "docker-init", Sign(0)), (11, "java", Sign(0))) is Runtime.JVM


@pytest.mark.parametrize("name", ["bash", "runc:[2:INIT]", "memfd:runc_cloned:/proc/self/exe", "pause"])
def test_of_a_cgroup_in_which_only_such_run_nothing_is_told(name):
    assert told((10, name, Sign.GO)) is None


@contextmanager
def running(name, *command):
    """The id of a cgroup in which the command runs."""
    group = Group(name, parent="headroom-runtimes")
    try:
        group.start(command)
        folder = find_tree().unified / group.parent / group.name
        yield folder.stat().st_ino
        for process in (folder / "cgroup.procs").read_text().split():  # what a shell started, too
            os.kill(int(process), signal.SIGKILL)
    finally:
        group.close()


COMMANDS = {
    "python": (Runtime.PYTHON, [sys.executable, "-c", "import time; time.sleep(30)"]),
    "node": (Runtime.NODE, ["node", "-e", "setTimeout(() => {}, 30000)"]),
    "go": (Runtime.GO, ["prometheus", "--config.file=/dev/null", "--web.listen-address=127.0.0.1:0"]),
    "native": (Runtime.NATIVE, ["sleep", "30"]),
    "wrapped": (Runtime.NODE, ["sh", "-c", "node -e 'setTimeout(() => {}, 30000)'; true"]),
}


@pytest.fixture(scope="module")
def runtimes():
    found = Runtimes.attach()
    yield found
    found.kernel.close()


def found_in(cgroup, look, wanted):
    """What is told of the cgroup, when that is what is wanted or for long enough."""
    found, end = None, time.monotonic() + 15
    while found != wanted and time.monotonic() < end:
        time.sleep(0.1)
        found = look().get(cgroup)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_real_process_is_told_by_what_it_has_mapped(runtimes, name, tmp_path, monkeypatch):
    runtime, command = COMMANDS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on PATH")
    monkeypatch.chdir(tmp_path)  # Prometheus makes a folder
    with running(name, *command) as cgroup:
        assert found_in(cgroup, lambda: runtimes_of(runtimes.processes()), runtime) == runtime


def test_the_iterator_of_older_kernels_tells_the_same(tmp_path):
    runtime, command = COMMANDS["python"]
    with load("runtimes") as kernel, running("older", *command) as cgroup:
        older = Runtimes(kernel, kernel.attach_iterator("look_at_mapping"))
        assert found_in(cgroup, lambda: runtimes_of(older.processes()), runtime) == runtime


def test_in_a_pid_namespace_of_its_own_as_in_a_pod_it_sees_other_pods_processes():
    runtime, command = COMMANDS["python"]
    look = (
        "import sys\nfrom collector.runtimes import *\nfound = runtimes_of(Runtimes.attach().processes())\n"
        "print(found.get(int(sys.argv[1])))"
    )
    with running("other", *command) as cgroup:
        time.sleep(1)
        inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", look, str(cgroup)]
        done = subprocess.run(inside, capture_output=True, text=True, check=False)
    if OF_ALL_NAMESPACES:
        assert done.stdout.strip() == str(runtime), done.stderr
    else:
        assert "before Linux 6.7 it needs hostPID" in done.stderr


def test_a_young_cgroup_is_looked_at_again_and_others_from_time_to_time(monkeypatch):
    now, looks, program = [1000.0], [], ["sh"]
    monkeypatch.setattr("collector.runtimes.time.monotonic", lambda: now[0])
    looked = Runtimes(None, lambda: looks.append(now[0]))
    monkeypatch.setattr(Runtimes, "processes", lambda self: self._look() or {7: [Process(1, program[0], Sign(0))]})
    assert looked.of([7]) == {}, "a shell is about to start something"
    program[0] = "node"
    now[0] += 10
    assert looked.of([7]) == {}
    now[0] += 25
    assert looked.of([7]) == {7: Runtime.NODE}
    now[0] += 30
    looked.of([7, 8])
    assert looks == [1000.0, 1035.0, 1065.0], "one is new"
    now[0] += 10
    looked.of([7, 8])
    assert len(looks) == 3
    now[0] += 200
    looked.of([7, 8])
    looked.of([7, 8])
    assert len(looks) == 4
    now[0] += 301
    looked.of([7, 8])
    assert len(looks) == 5
