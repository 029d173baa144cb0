"""Measurements on this machine: ``make bench`` writes a table and ``benchmarks/results.json``."""
