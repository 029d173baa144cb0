"""The pages, live: what is asked for is drawn from the store as it is, and nothing can be changed by asking."""
