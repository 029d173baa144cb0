"""The agent is started and stopped again and again under load: is what falls between counted exactly, and once?

A client never stops asking. While an agent counts, the client asks for a path of that turn, ``/turn/ab``; before it is
stopped, and until the next one counts, for ``/between``. Both sides of every turn must be what the client says.
"""

from __future__ import annotations

import http.client
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from benchmarks.stand import Agent, group, routes
from headroom.demo.host import free_port, start_nginx
from profiles.sqlite import StoreReader

TURNS, SECONDS, CONNECTIONS = 50, 5.0, 4


def measure(turns: int = TURNS, seconds: float = SECONDS) -> dict[str, object]:
    """All turns go into one store."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name, group("nginx-turns") as server, group("client") as client:
        folder = Path(name)
        folder.chmod(0o755)
        start_nginx(server, folder / "nginx", port)
        asking = client.start([sys.executable, "-m", "benchmarks.restarts", str(port)], piped=True)
        answered: dict[str, int] = {}
        for turn in range(turns):
            running = Agent(folder / "profiles.db")
            path = f"/turn/{_word(turn)}"
            _ask_for(asking, path)
            time.sleep(seconds)
            answered[path] = _ask_for(asking, "/between")
            running.stop()
        asking.stdin.close()
        asking.wait()
        counted = {role: routes(folder / "profiles.db", name, role) for role, name in _SIDES.items()}
        lost = _lost(folder / "profiles.db")
    return {
        "lost": lost,
        "turns": turns,
        "seconds": seconds,
        "requests": sum(answered.values()),
        "exact_turns": sum(all(each[path] == answered[path] for each in counted.values()) for path in answered),
        "differences": {
            role: {path: each[path] - answered[path] for path in answered if each[path] != answered[path]}
            for role, each in counted.items()
        },
    }


_SIDES = {"server": "nginx-turns", "client": "client"}


def _word(turn: int) -> str:
    return "abcdefghij"[turn // 10] + "abcdefghij"[turn % 10]


def _ask_for(asking, path: str) -> int:
    """From now on; returns how many requests for the path before were answered."""
    asking.stdin.write(f"{path}\n".encode())
    asking.stdin.flush()
    return int(asking.stdout.readline())


def _lost(store: Path) -> dict[str, int]:
    lost: Counter[str] = Counter()
    with StoreReader(store) as reader:
        for _, window in reader.windows():
            lost.update(window.lost)
    return dict(lost)


class Client:
    """Connections that ask for the path of the moment, one request after the other."""

    def __init__(self, port: int) -> None:
        self.path, self.answered = "/between", Counter[str]()
        self._lock, self._at = threading.Lock(), [""] * CONNECTIONS
        self._threads = [threading.Thread(target=self._ask, args=(port, n), daemon=True) for n in range(CONNECTIONS)]
        for each in self._threads:
            each.start()

    def switch(self, path: str) -> int:
        """Returns how many were answered of the path before, once none is under way."""
        before, self.path = self.path, path
        while any(at == before for at in self._at):
            time.sleep(0.001)
        return self.answered.pop(before, 0)

    def _ask(self, port: int, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while True:
            path = self._at[number] = self.path
            if path != self.path:
                continue  # it was switched between the two
            connection.request("GET", path)
            connection.getresponse().read()
            with self._lock:
                self.answered[path] += 1
            self._at[number] = ""


if __name__ == "__main__":
    client = Client(int(sys.argv[1]))
    for line in sys.stdin:
        print(client.switch(line.strip()), flush=True)
