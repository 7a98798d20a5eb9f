"""How slow a request's body may be, and what is said to one that is refused."""

from ..conf import conf

BODY_WITHIN = 30.0  # seconds that any body may take
SLOWEST = 64 * 1024  # bytes a second that a longer one must bring, on the average

# Of answers that no view gave: words for people and programs, and for nothing else.
PLAIN = (
    (b"content-type", b"text/plain; charset=UTF-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"connection", b"close"),  # what is left of the request is not read
)


def time_allowed(received: int) -> float:
    """Seconds within which so many bytes of a body must have come."""
    return BODY_WITHIN + received / SLOWEST


def too_large(limit: int) -> str:
    return f"request body larger than {limit} bytes"


TOO_SLOW = "request body too slow"


def stranger() -> int:
    """The most bytes of a body until `admission` has judged its head."""
    return int(conf.CREW_MAX_STRANGER_BYTES)
