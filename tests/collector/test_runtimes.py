"""What executes a program: real processes in cgroups of their own, as the kernel shows them."""

import ctypes
import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager

import pytest

from bpf.layout import Mapped, MappedFile
from collector.cgroups import find_tree
from collector.runtimes import Runtimes, runtimes_in
from headroom.demo.host import Group
from profiles.schema import Runtime


def mapped(*files):
    """As the kernel writes them: cgroup, process, what, and the file's name."""
    return b"".join(bytes(MappedFile(cgroup, process, what, name.encode())) for cgroup, process, what, name in files)


def program(name, *more, process=10, cgroup=7):
    return mapped((cgroup, process, Mapped.PROGRAM, name), *((cgroup, process, *each) for each in more))


@pytest.mark.parametrize(
    ("name", "more", "runtime"),
    [
        ("java", [(Mapped.LIBRARY, "libstdc++.so.6"), (Mapped.LIBRARY, "libjvm.so")], Runtime.JVM),
        ("launcher", [(Mapped.LIBRARY, "libstdc++.so.6"), (Mapped.LIBRARY, "libjvm.so")], Runtime.JVM),
        ("node", [(Mapped.LIBRARY, "libstdc++.so.6")], Runtime.NODE),
        ("python3.11", [], Runtime.PYTHON),
        ("uwsgi", [(Mapped.LIBRARY, "libpython3.11.so.1.0")], Runtime.PYTHON),
        ("ruby3.1", [], Runtime.RUBY),
        ("dotnet", [(Mapped.LIBRARY, "libcoreclr.so"), (Mapped.LIBRARY, "libstdc++.so.6")], Runtime.DOTNET),
        ("shop", [(Mapped.LIBRARY, "libcoreclr.so"), (Mapped.LIBRARY, "libstdc++.so.6")], Runtime.DOTNET),
        ("php-fpm8.2", [], Runtime.PHP),
        ("beam.smp", [(Mapped.LIBRARY, "libstdc++.so.6")], Runtime.BEAM),
        ("envoy", [(Mapped.LIBRARY, "libstdc++.so.6.0.30")], Runtime.CPP),
        ("server", [(Mapped.GO_HEAP, "")], Runtime.GO),
        ("nginx", [], Runtime.NATIVE),
        ("javascript", [], Runtime.NATIVE),
        ("node_exporter", [(Mapped.GO_HEAP, "")], Runtime.GO),
    ],
)
def test_program_heap_and_libraries_tell_a_runtime(name, more, runtime):
    assert runtimes_in(program(name, *more)) == {7: runtime}


def test_what_starts_the_main_process_is_not_it():
    started = program("tini", process=10) + program("sh", process=11) + program("node", process=12)
    assert runtimes_in(started + program("python3", process=13)) == {7: Runtime.NODE}
    assert runtimes_in(program("bash")) == {7: Runtime.NATIVE}


def test_what_is_cut_off_is_left_out():
    assert runtimes_in(program("node")[: ctypes.sizeof(MappedFile) - 1]) == {}


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


@pytest.mark.parametrize("name", COMMANDS)
def test_a_real_process_is_told_by_what_it_has_mapped(runtimes, name, tmp_path, monkeypatch):
    runtime, command = COMMANDS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on PATH")
    monkeypatch.chdir(tmp_path)  # Prometheus makes a folder
    with running(name, *command) as cgroup:
        found, end = None, time.monotonic() + 15
        while found != runtime and time.monotonic() < end:
            time.sleep(0.1)
            found = runtimes_in(runtimes._read()).get(cgroup)
    assert found == runtime


def test_it_is_asked_again_when_a_cgroup_is_new_but_not_all_the_time(runtimes, monkeypatch):
    now, asked = [1000.0], []
    monkeypatch.setattr("collector.runtimes.time.monotonic", lambda: now[0])
    looked = Runtimes(None, lambda: asked.append(now[0]) or program("node"))
    assert looked.of([7]) == {7: Runtime.NODE}
    now[0] += 10
    looked.of([7, 8])
    assert len(asked) == 1, "a container's main process may come some seconds after its cgroup"
    now[0] += 25
    looked.of([7])
    assert len(asked) == 1, "nothing is new"
    looked.of([7, 8])
    assert len(asked) == 2
    now[0] += 300
    looked.of([7])
    assert len(asked) == 3
