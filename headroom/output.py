"""Printing: data to stdout in the wished form; colour and progress only where they belong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click


def is_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def uses_color() -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR")


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Say on stderr what takes a moment, while it does; nothing in a pipe."""
    shown = sys.stderr.isatty()
    if shown:
        click.echo(f"{text} ...", nl=False, err=True)
    try:
        yield
    finally:
        if shown:
            click.echo(f"\r{' ' * (len(text) + 4)}\r", nl=False, err=True)
