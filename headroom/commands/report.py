"""``headroom report``."""

from __future__ import annotations

from pathlib import Path

import click

from headroom.options import Seconds, policy_option, prices_option, store_option

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("report")
@store_option()
@policy_option()
@prices_option()
@click.option(
    "--out",
    "outs",
    type=_FILE,
    multiple=True,
    help="File: .html, .md, .csv, .json or .prom; may be repeated.  [default: report.html]",
)
@click.option("--since", metavar="last|FILE", help="Say what came since the last report, or since one kept as JSON.")
@click.option(
    "--history",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where reports are remembered.  [default: beside the store]",
)
@click.option(
    "--to", "targets", multiple=True, metavar="TARGET",
    help="Send it: FOLDER, s3://..., slack:URL, teams:URL, webhook:URL, mailto:NAME@HOST, or @FILE of such lines.",
)  # fmt: skip
@click.option("--smtp", metavar="URL", help="Mail server: smtp://USER@HOST:587 or smtps://HOST.")
@click.option("--smtp-password-file", type=_FILE, help="Password of USER.")
@click.option("--mail-from", metavar="NAME@HOST", help="Sender of mail.")
@click.option("--retry-for", type=Seconds(), default="5m", show_default=True, help="How long a receiver is tried.")
def command(
    store: Path,
    policy_name: str,
    prices: Path | None,
    outs: tuple[Path, ...],
    since: str | None,
    history: Path | None,
    targets: tuple[str, ...],
    smtp: str | None,
    smtp_password_file: Path | None,
    mail_from: str | None,
    retry_for: float,
) -> None:
    """Write the report: traffic, usage, headroom curve, risks, money and patch of each workload.

    One HTML file that needs no network; Markdown for a pull request or a chat, CSV, JSON with every number of the page,
    or metrics for Prometheus. With --to it is sent as well, each report once.

    \b
    Example:
      headroom report --store host.db --out report.html
      headroom report --store fleet --prices prices.yaml --since last --out report.html --out report.md
      headroom report --store fleet --since last --to s3://bucket/reports --to @/etc/headroom/targets
    """
    from headroom import reporting
    from headroom.delivery.targets import server_of, targets_of
    from headroom.output import progress
    from headroom.remembered import remember

    server = server_of(smtp, mail_from, smtp_password_file)
    to = targets_of(targets, server)  # a mistake is told before the work
    outs = outs or (() if to else (Path("report.html"),))
    forms = [reporting.form_of(out) for out in outs]
    folder = history or reporting.history_beside(store)
    with progress("drawing"):
        document = reporting.report_of(store, policy_name, prices)
        if since is not None:
            document = reporting.with_changes(document, since, folder)
        for out, form in zip(outs, forms, strict=True):
            reporting.write(document, out, form)
    for out in outs:
        click.echo(str(out))
    sent = reporting.send(document, to, folder, retry_for) if to else []
    for each in sent:
        click.echo(f"{each.state}: {each.shown}{f': {each.sentence}' if each.sentence else ''}", err=each.failed)
    if since is not None:
        remember(folder, document)
    reporting.check(sent)
