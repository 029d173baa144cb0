"""``headroom top``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import Seconds, output_option, store_option

_OLD_SECONDS = 60.0
_SORTS = {
    "rps": "requests_per_second", "errors": "error_share", "p95": "p95_seconds", "cpu": "cpu_cores",
    "throttled": "throttled_share", "cpu-left": "cpu_headroom_share", "memory": "memory_bytes",
    "memory-left": "memory_headroom_share", "name": "name",
}  # fmt: skip


@click.command("top")
@store_option()
@click.option("--last", type=Seconds(), default="30s", show_default=True, help="Over the last so long.")
@click.option("--every", type=Seconds(), default="2s", show_default=True, help="How often it is drawn.")
@click.option("--sort", type=click.Choice(list(_SORTS)), default="cpu", show_default=True, help="What comes first.")
@click.option("--once", is_flag=True, help="Print it once; so it is in a pipe, too.")
@output_option()
def command(store: Path, last: float, every: float, sort: str, once: bool, output: str) -> None:
    """Show workloads as they are now: requests, errors, P95, CPU, throttling and what is left of their limits.

    \b
    Example:
      headroom top --store host.db
      headroom top --store host.db --sort rps --once
    """
    import time
    from datetime import UTC, datetime

    from headroom.output import is_terminal, uses_color
    from headroom.rows import show_rows
    from profiles.errors import HeadroomError, UsageError
    from recommender.inputs.recording import read_recording
    from reports.live import show_live
    from reports.times import span
    from reports.top import COLUMNS, cells, screen, top_rows

    if store.is_dir():
        raise UsageError(f"{store} is rolled up: it does not tell what is now.", "Give the store of a node, host.db.")
    by = _SORTS[sort]
    if once or output != "table" or not is_terminal():
        rows = top_rows(read_recording(store, last), by)
        show_rows([row.as_record() for row in rows], list(COLUMNS.values()), [cells(row) for row in rows], output)
        return

    def drawn(lines: int, columns: int) -> object:
        try:
            recording = read_recording(store, last)
        except HeadroomError as error:  # it may be there again the next time
            return f"{error.sentence} {error.next_step}"
        until = datetime.fromtimestamp(recording.end_unix_seconds, UTC)
        age = time.time() - recording.end_unix_seconds
        old = f" ({span(age)} ago: does the agent run?)" if age > max(_OLD_SECONDS, 3 * last) else ""
        about = f"headroom  {until:%H:%M:%S} UTC{old}, {recording.seconds:.0f} s, {len(recording.histories)} containers"
        return screen(top_rows(recording, by), by, f"{about}   by {sort}; Ctrl-C ends", lines - 3, columns)

    show_live(drawn, every, color=uses_color())
