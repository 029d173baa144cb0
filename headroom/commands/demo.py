"""``headroom demo``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import Seconds


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="demo",
    show_default=True,
    help="Folder for all it makes.",
)
@click.option("--duration", type=Seconds(), default="60s", show_default=True, help="How long to record.")
@click.option("--replay", is_flag=True, help="Do not record: use the recording that comes with headroom.")
def command(out: Path, duration: float, replay: bool) -> None:
    """Show the whole idea: real servers, real load, the real agent; then sizes, patches, a report.

    Where eBPF or root is not to be had, a recording that comes with headroom is replayed.

    \b
    Example:
      headroom demo --out demo
    """
    from collector.doctor import can_record
    from headroom.demo.run import replay_demo, run_demo

    why = "asked to" if replay else can_record()
    if why is None:
        run_demo(out, duration)
    else:
        replay_demo(out, why)
