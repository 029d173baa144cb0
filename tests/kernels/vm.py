"""One command in a throw-away VM: this machine's files, another kernel.

The root of this machine is the read-only lower layer of the guest's; what the guest writes is in its
memory and gone afterwards. There is no network card. The processor is emulated, since a KVM that can be
opened may still not run: ten times slower and more, so nothing in a guest may assert a time.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_EXIT = re.compile(r"^guest-exit=(\d+)\r?$", re.MULTILINE)

_INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc; busybox mount -t sysfs sys /sys; busybox mount -t devtmpfs dev /dev
for module in $(busybox cat /modules/order); do busybox insmod /modules/$module; done
busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /host &&
busybox mount -t tmpfs -o size=75% memory /memory && busybox mkdir /memory/changes /memory/work &&
busybox mount -t overlay -o lowerdir=/host,upperdir=/memory/changes,workdir=/memory/work root /root ||
    echo "no root: $(busybox dmesg | busybox tail -n 5)" > /dev/ttyS1
busybox cp /script /root/guest-command
for folder in proc sys dev; do busybox mount --move /$folder /root/$folder; done
busybox chroot /root /bin/bash /guest-command > /root/dev/ttyS1 2>&1 < /root/dev/null
echo "guest-exit=$?" > /root/dev/ttyS1
busybox sync; busybox poweroff -f
"""

_COMMAND = """export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export PYTHONDONTWRITEBYTECODE=1
mount -t tmpfs run /run; mkdir -p /dev/pts /dev/shm; mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup; mount -t bpf bpf /sys/fs/bpf; mount -t tracefs tracing /sys/kernel/tracing
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo +$controller > /sys/fs/cgroup/cgroup.subtree_control
done 2> /dev/null
ip link set lo up 2> /dev/null || ifconfig lo up; ulimit -l unlimited
cd {folder}
{command}
"""


class VmFailed(Exception):
    """The guest did not come to the end of its command; the text is what it, and its kernel, said last."""


def run(kernel: Path, command: list[str], seconds: float, memory_mib: int = 2048) -> tuple[int, str]:
    """Exit code and output of `command` under `kernel` (a folder of :func:`tests.kernels.debian.unpacked`).

    :raises VmFailed: when it does not end within `seconds`, or the guest dies
    """
    (release,) = [each.name for each in (kernel / "lib/modules").iterdir()]
    image = next(
        each
        for each in (kernel / f"boot/vmlinuz-{release}", kernel / f"lib/modules/{release}/vmlinuz")
        if each.exists()
    )
    with tempfile.TemporaryDirectory(prefix="headroom-vm-") as temporary:
        work = Path(temporary)
        first = _initramfs(work, kernel, release, command)
        output, console = work / "output", work / "console"
        machine = [
            "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2",
            "-m", str(memory_mib), "-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none",
            "-serial", f"file:{console}", "-serial", f"file:{output}",
            "-kernel", str(image), "-initrd", str(first),
            "-append", "console=ttyS0 panic=-1 oops=panic mitigations=off cgroup_no_v1=all nokaslr",
            "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                machine, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
            )
            why = f"the guest died. {done.stderr.strip()}"
        except subprocess.TimeoutExpired:
            why = f"it did not end within {seconds:.0f} s"
        text = output.read_text(errors="replace") if output.exists() else ""
        ended = _EXIT.search(text)
        if ended is None:
            raise VmFailed("\n".join([f"{release}: {why}", *_last_lines(output), *_last_lines(console, 80)]))
        return int(ended[1]), text[: ended.start()].replace("\r\n", "\n")


def _last_lines(path: Path, lines: int = 20) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else []


def _initramfs(work: Path, kernel: Path, release: str, command: list[str]) -> Path:
    """The guest's first files: busybox, the modules for its root, and what to do."""
    root = work / "first"
    for folder in ("bin", "modules", "proc", "sys", "dev", "host", "memory", "root"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    order: list[str] = []
    for module in _MODULES:  # one that is not found is built in
        shown = subprocess.run(
            ["/sbin/modprobe", "--dirname", kernel, "--set-version", release, "--show-depends", module],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        for line in shown.stdout.splitlines():
            path = Path(line.split()[1]) if line.startswith("insmod") else None
            if path and path.name.partition(".ko")[0] + ".ko" not in order:
                order.append(_plain(path, root / "modules"))
    (root / "modules/order").write_text("\n".join(order) + "\n")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    script = _COMMAND.format(folder=shlex.quote(str(Path.cwd())), command=shlex.join(command))
    (root / "script").write_text(script)
    first = work / "first.cpio"
    listing = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*"))) + "\n"
    with first.open("wb") as archive:
        subprocess.run(
            ["/bin/busybox", "cpio", "-o", "-H", "newc"],
            cwd=root, input=listing.encode(), stdout=archive, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    return first


def _plain(module: Path, folder: Path) -> str:
    """Copy a module, unpacked; busybox cannot."""
    unpack = {".xz": ["xz", "-dc"], ".zst": ["zstd", "-dqc"]}.get(module.suffix, ["cat"])
    name = module.name.partition(".ko")[0] + ".ko"
    with (folder / name).open("wb") as target:
        subprocess.run([*unpack, str(module)], stdout=target, check=True)
    return name
