"""From recorded rows to sizes: pure functions but for ``inputs``. Same input, same bytes out."""
