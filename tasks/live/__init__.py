"""Open pages hear of each change: what `store/changes.py` wrote is read here and sent to sockets.

Nothing here decides about tasks, and nobody waits for it: who misses a message reads again.
"""
