"""One module per command. They import what they need when they run: ``--help`` stays fast."""
