"""What each recommender would have said, and what would have come of it.

workloads -> replay (each midnight: a rule sees the past, the next day judges it) -> days
days -> scores per rule, frontier over its margin, pairs against ours
"""
