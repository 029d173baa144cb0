"""A screen that is drawn again and again, on a terminal's second page; what was there before comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live


def show_live(drawn: Callable[[int, int], Any], every_seconds: float, *, color: bool) -> None:
    """Until somebody interrupts it.

    :param drawn: what to show, from the numbers of lines and columns there are
    """
    console = Console(no_color=not color, highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(drawn(console.size.height, console.size.width), refresh=True)
            time.sleep(every_seconds)
