"""How many connections each address has with this process, so that one does not take them all."""

from collections import Counter

from ..access.http import network
from ..conf import conf

TOO_MANY = "too many connections from this address"


class Seats:
    """Counts them. Of IPv6 a network counts as one address."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, address: str) -> str | None:
        """Whose seat it is, for `leave`; None when the address has as many as it may."""
        whose = network(address)
        if self._taken[whose] >= conf.CREW_MAX_CONNECTIONS:
            return None
        self._taken[whose] += 1
        return whose

    def leave(self, whose: str) -> None:
        self._taken[whose] -= 1
        if self._taken[whose] <= 0:
            del self._taken[whose]
