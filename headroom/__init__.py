"""The command line: reads options, wires the rooms together, nothing else."""

__version__ = "0.1.0"
