"""The agent: space, history, pools, rankers, workers and the loop that joins them."""
