"""``python -m headroom``."""

from headroom.cli import main

if __name__ == "__main__":
    main()
