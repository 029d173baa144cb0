"""Where recorded rows come from; the only part of the recommender that touches the outside."""
