"""Debian's kernels, unpacked beside each other and installed nowhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

#: Where each series is kept; "newest" is whatever the backports have.
SUITES = {
    "5.10": ("bullseye", r"5\.10\.0"),
    "6.1": ("bookworm", r"6\.1\.0"),
    "6.12": ("trixie", r"6\.12\.[0-9]+"),
    "newest": ("trixie-backports", r"[0-9.]+"),
}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class NoKernel(Exception):
    """A kernel cannot be had here; the text says why."""


def unpacked(series: str, folder: Path) -> Path:
    """A folder with a series' image and ``lib/modules/*``, fetched unless it is there.

    :raises NoKernel: without Debian's package sources, or when they do not have it
    """
    target = folder / series
    if target.exists():
        return target
    suite, version = SUITES[series]
    apt = _apt(folder / f"apt-{suite}", suite)
    _run([*apt, "update", "-qq"], folder)
    names = _run(["apt-cache", *apt[1:], "search", "--names-only", rf"^linux-image-{version}.*-amd64$"], folder).split(
        "\n"
    )
    found = [line.split()[0] for line in names if line and not re.search(r"cloud|rt-|dbg|unsigned", line.split()[0])]
    if not found:
        raise NoKernel(f"Debian {suite} has no kernel {series}")
    image = max(found, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    downloads = folder / f"debs-{series}"
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir()
    for package in _with_parts(apt, image, folder):
        _run([*apt, "download", "-qq", package], downloads)
    unfinished = folder / f"{series}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    for package in downloads.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(package), str(unfinished)], folder)
    usr = unfinished / "usr/lib/modules"
    if usr.exists() and not (unfinished / "lib").exists():  # where /lib is /usr/lib
        (unfinished / "lib").symlink_to("usr/lib")
    (release,) = [each.name for each in (unfinished / "lib/modules").iterdir()]
    _run(["/sbin/depmod", "--basedir", str(unfinished), release], folder)
    shutil.rmtree(downloads)
    return unfinished.rename(target)


def _with_parts(apt: list[str], image: str, folder: Path) -> list[str]:
    """Newer images are empty and depend on the packages of their parts."""
    depends = _run(["apt-cache", *apt[1:], "depends", image], folder)
    return re.findall(r"Depends: (linux-(?:binary|modules)-\S+)", depends) or [image]


def _apt(folder: Path, suite: str) -> list[str]:
    """apt-get with sources, lists and cache of its own: the machine's stay as they are."""
    if not _KEYRING.exists():
        raise NoKernel("Debian's package sources are needed for other kernels")
    sites = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], Path("/")).split()
    site = next((each for each in sites if re.search(r"/debian/?$", each)), None)
    if site is None:
        raise NoKernel("Debian's package sources are needed for other kernels")
    for part in ("lists/partial", "archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {site} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder,
        "APT::Sandbox::User": "root",
    }
    return ["apt-get", *(f"-o{name}={value}" for name, value in options.items())]


def _run(command: list[str], where: Path) -> str:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoKernel(f"{' '.join(command[:1])} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
