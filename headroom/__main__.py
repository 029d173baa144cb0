"""``python -m headroom``."""

from headroom.cli import main

main()
