"""``headroom serve``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import Address, PullOptions, Seconds, policy_option, prices_option, pull_options, store_option


@click.command("serve")
@store_option(required=False)
@pull_options()
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
@click.option(
    "--every", type=Seconds(), default="10m", show_default=True, help="Pull so often, from Prometheus or a depot."
)
def command(
    store: Path | None,
    asked: PullOptions,
    policy_name: str,
    prices: Path | None,
    listen: tuple[str, int],
    token_file: Path | None,
    history: Path | None,
    refresh: float,
    every: float,
) -> None:
    """Show the report, the APIs, the capacity review and the history in a browser, live from the store; read-only.

    With --prometheus or --profiles the store is brought up to date first, and then again and again (headroom pull).

    Metrics of the recommendations are at /metrics, the documents at /report.json and /apis.json.

    \b
    Example:
      headroom serve --store host.db
      headroom serve --prometheus http://127.0.0.1:9090 --every 15m
      headroom serve --store fleet --listen 0.0.0.0:8080 --token-file token
    """
    import signal
    import threading

    from headroom.connection import connection_of, default_store
    from headroom.output import progress
    from headroom.pulling import pull_again, pull_as_asked
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
    pulls = asked.url is not None or asked.profiles is not None
    if store is None and not pulls:
        raise UsageError("There is nothing to serve.", "Give --store, --prometheus URL or --profiles DEPOT.")
    if store is None:
        store = default_store(connection_of(asked) if asked.url is not None else None, asked.profiles)
    sources = Sources(store, policy_name, prices, history or history_beside(store))
    with Server(listen, token) as server:  # an address that cannot be had is told before the work
        if pulls:
            pull_as_asked(asked, store)
        with progress("drawing"):
            server.pages = Pages(sources, refresh)
        host, port = listen[0], server.server_address[1]
        name = f"[{host}]" if ":" in host else host
        click.echo(f"http://{name}:{port}/", err=True)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        threading.Thread(target=server.serve_forever, name="serving", daemon=True).start()
        if pulls:
            threading.Thread(target=pull_again, args=(asked, store, every), name="pulling", daemon=True).start()
        while not stop.wait(0.5):  # a wait without an end may sleep through a signal
            pass
        server.shutdown()
