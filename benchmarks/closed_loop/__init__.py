"""The physical truth: real servers under real CPU limits, against what the curve says they would do."""
