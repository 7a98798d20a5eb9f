"""Who sends tokens that open nothing, again and again, is answered 429 for the rest of a minute.

In one process and per address (of IPv6, per network). A token is looked up first: a right one is
never slowed, whoever else sends wrong ones from the same address.
"""

import threading
import time
from collections import Counter

from ..conf import conf

EVERY = 60.0  # seconds that wrong tokens are counted together
MOST_ADDRESSES = 10_000  # remembered; with more it counts again

_lock = threading.Lock()
_counts: Counter[str] = Counter()
_since = 0.0


def seconds_to_wait(address: str) -> float:
    """Count one more from this address; how long it has to wait, 0 for not at all."""
    global _since
    now = time.monotonic()
    with _lock:
        if now - _since >= EVERY or len(_counts) >= MOST_ADDRESSES:
            _counts.clear()
            _since = now
        _counts[address] += 1
        return _since + EVERY - now if _counts[address] > conf.CREW_MAX_WRONG_TOKENS else 0.0


def forget() -> None:
    """As if none had come."""
    global _since
    with _lock:
        _counts.clear()
        _since = 0.0
