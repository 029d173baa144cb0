"""``python -m benchmarks.closed_loop record --minutes N`` and ``... evaluate``."""

from __future__ import annotations

import argparse
import signal
import sys

from benchmarks.closed_loop.evaluate import LEAST_CYCLES, evaluate
from benchmarks.closed_loop.record import record


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closed_loop")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("--minutes", type=float, default=110.0)
    commands.add_parser("evaluate").add_argument("--least-cycles", type=int, default=LEAST_CYCLES)
    chosen = parser.parse_args()
    if chosen.command == "record":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended too
        record(chosen.minutes)
    else:
        evaluate(chosen.least_cycles)


if __name__ == "__main__":
    main()
