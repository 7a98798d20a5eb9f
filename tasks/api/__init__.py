"""The HTTP API: the crew v1 routes to the letter, and ours beside them in the same style."""
