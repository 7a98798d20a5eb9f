"""For how long a host keeps connections that are idle: as it says, or as it shows. Pure.

Who uses one that the host is just closing does not know what became of the call. Common servers
close after 2 s (gunicorn), 5 s (Node, uvicorn) or a minute, and most do not say so.
"""

import re
import time

UNSAID = 1.5  # seconds, of a host that says nothing
MOST = 30.0  # seconds, whatever a host says: what stands between may forget sooner
MARGIN = 1.0  # seconds before the host's time is up
LEAST = 0.1  # seconds: under load connections must be used again
LEARNED_FOR = 300.0  # seconds that counts what a host has shown

_TIMEOUT = re.compile(r"(?:^|[,;\s])timeout\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)


class Idle:
    """What is known of one host. For any thread."""

    def __init__(self) -> None:
        self._header = ""
        self._said = UNSAID
        self._shown = MOST
        self._shown_until = 0.0

    def seconds(self) -> float:
        """For how long its connections may be idle and still be used."""
        if self._shown < self._said and time.monotonic() < self._shown_until:
            return self._shown
        return self._said

    def heard(self, keep_alive: str) -> None:
        """What an answer's header Keep-Alive says; "" for none."""
        if keep_alive != self._header:
            self._header, self._said = keep_alive, _said(keep_alive)

    def closed_after(self, seconds: float) -> None:
        """The host has closed a connection that was idle for so long."""
        now = time.monotonic()
        before = self._shown if now < self._shown_until else MOST
        self._shown = min(before, max(LEAST, seconds / 2))
        self._shown_until = now + LEARNED_FOR


def _said(keep_alive: str) -> float:
    found = _TIMEOUT.search(keep_alive)
    if not found:
        return UNSAID
    seconds = float(found[1])
    return min(MOST, max(seconds - MARGIN, seconds / 2))
