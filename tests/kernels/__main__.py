"""``python -m tests.kernels [SERIES ...]``: what counts exactly here, under other kernels, each in a VM."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.kernels.debian import NoKernel, unpacked
from tests.kernels.vm import VmFailed, run

#: 5.10 takes none of the objects: it has no atomic compare-and-swap.
ALL = ("6.1", "6.12", "newest")
_SECONDS = 900.0  # under emulation; usually a tenth
_TESTS = [
    ".venv/bin/python",
    "-m",
    "pytest",
    "-q",
    "--color=no",
    "-p",
    "no:cacheprovider",
    "tests/kernels/test_conformance.py",
    "tests/collector/test_pods_live.py",
    "tests/collector/test_runtimes.py",
]


def main() -> int:
    folder = Path("build/kernels").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for series in sys.argv[1:] or ALL:
        begin = time.monotonic()
        code, text = _tried(series, folder)
        last = (text.strip().splitlines() or ["no output"])[-1]
        wrong = code != 0 or "skipped" in last  # nothing is left out here
        if wrong:
            print(text)
        print(f"{series}: {'FAILED' if wrong else 'ok'}, {last}, {time.monotonic() - begin:.0f} s in all", flush=True)
        failed += wrong
    return 1 if failed else 0


def _tried(series: str, folder: Path) -> tuple[int, str]:
    """One that died is begun once more, its console shown.

    Two of some eighty did, of the emulator: "Oops: int3" at a static key that one processor had just switched (the
    agent samples what its programs take), when the other's breakpoint was already gone. Real processors are
    synchronised there.
    """
    for is_last_try in (False, True):
        try:
            return run(unpacked(series, folder), _TESTS, _SECONDS)
        except NoKernel as error:
            return 1, str(error)
        except VmFailed as error:
            if is_last_try:
                return 1, str(error)
            print(f"{series}: {error}\n{series}: once more", flush=True)
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
