"""``headroom serve``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import Address, Seconds, policy_option, prices_option, store_option


@click.command("serve")
@store_option()
@policy_option()
@prices_option()
@click.option(
    "--listen", type=Address(), default="127.0.0.1:8080", show_default=True, help="Port, or address and port."
)
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False), help="What others than this machine have to know."
)
@click.option(
    "--history",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where reports are remembered.  [default: beside the store]",
)
@click.option("--refresh", type=Seconds(), default="30s", show_default=True, help="Least time between two drawings.")
def command(
    store: Path,
    policy_name: str,
    prices: Path | None,
    listen: tuple[str, int],
    token_file: Path | None,
    history: Path | None,
    refresh: float,
) -> None:
    """Show the report, the APIs, the capacity review and the history in a browser, live from the store; read-only.

    Metrics of the recommendations are at /metrics, the documents at /report.json and /apis.json.

    \b
    Example:
      headroom serve --store host.db
      headroom serve --store fleet --listen 0.0.0.0:8080 --token-file token
    """
    import signal
    import threading

    from headroom.output import progress
    from headroom.reporting import history_beside
    from headroom.serving.pages import Pages, Sources
    from headroom.serving.server import Server
    from profiles.errors import UsageError

    token = None
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{token_file} cannot be read.", "Make one: openssl rand -hex 24 > FILE") from error
    sources = Sources(store, policy_name, prices, history or history_beside(store))
    with Server(listen, token) as server:  # an address that cannot be had is told before the work
        with progress("drawing"):
            server.pages = Pages(sources, refresh)
        host, port = listen[0], server.server_address[1]
        name = f"[{host}]" if ":" in host else host
        click.echo(f"http://{name}:{port}/", err=True)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        threading.Thread(target=server.serve_forever, name="serving", daemon=True).start()
        while not stop.wait(0.5):  # a wait without an end may sleep through a signal
            pass
        server.shutdown()
