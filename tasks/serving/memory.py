"""How the C library of this process keeps memory."""

import ctypes
from contextlib import suppress

ARENA_MAX = -8  # of mallopt


def share_what_is_free() -> None:
    """One arena for all threads: glibc gives each its own, and each keeps what it has freed.

    Each request has a thread, and each call may have one. Before the first; other libraries than
    glibc know nothing of it.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(ARENA_MAX, 1)
