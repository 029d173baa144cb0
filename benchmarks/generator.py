"""The load generator as a process, so that it has a cgroup: FILE PORT KIND ARGUMENTS..."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

from headroom.demo.load import Call, LoadResult, send, send_back_to_back
from headroom.demo.run import LOADS


def mixed(requests: int, seed: int = 5) -> list[Call]:
    """A tenth of the calls is answered 404 or 503."""
    paths = ["/"] * (requests * 9 // 10) + ["/missing"] * (requests // 20) + ["/maintenance"] * (requests // 20)
    random.Random(seed).shuffle(paths)
    return [Call(0.0, "GET", path) for path in paths]


def routes(number: int, first: int) -> list[Call]:
    """`number` distinct routes: words, ten to a folder, so that nothing folds them together."""
    words = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "ivory", "joker")
    numbers = range(first, first + number)
    return [Call(0.0, "GET", "/" + "/".join(words[int(digit)] for digit in f"{each:04d}")) for each in numbers]


def main() -> None:
    file, port, kind = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if kind == "mixed":
        result = asyncio.run(send_back_to_back(port, mixed(int(sys.argv[4])), 16))
    elif kind == "routes":
        result = asyncio.run(send_back_to_back(port, routes(*map(int, sys.argv[4:6])), 4))
    else:
        load = next(each for each in LOADS if each.workload == kind)
        result = asyncio.run(send(port, load.calls(float(sys.argv[4])), load.connections))
    file.write_text(json.dumps(_plain(result)))


def _plain(result: LoadResult) -> dict[str, object]:
    return {
        "statuses": {str(status): count for status, count in sorted(result.statuses.items())},
        "failed": result.failed,
        "latencies_seconds": [round(each, 7) for each in result.latencies_seconds],
    }


if __name__ == "__main__":
    main()
