"""Python's collector of garbage, at rest while a large graph is read, or looked at whole."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_resting = threading.Lock()


@contextmanager
def uncollected() -> Iterator[None]:
    """Have no thread look for garbage meanwhile; of several at once only the first does that.

    100,000 tasks are a million objects and no garbage: to walk them again and again, as they get
    more, takes longer than to read them, and everybody else waits for each walk. What is not
    found meanwhile is what other requests leave behind in cycles; so nobody waits in here, for a
    lock or for a client.
    """
    if not _resting.acquire(blocking=False):
        yield
        return
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        _resting.release()
