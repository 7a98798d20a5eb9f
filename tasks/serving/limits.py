"""The one rule for how long a request's body may be, and how slow."""

from ..conf import conf

NDJSON = {"application/x-ndjson", "application/jsonl"}
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


def body_limit(method: str, path: str, content_type: str) -> int:
    """The most bytes of this request's body. The prefix of the path does not matter."""
    if method == "POST" and path.endswith("/tasks/bulk"):
        is_lines = content_type.partition(";")[0].strip().lower() in NDJSON
        return int(conf.CREW_MAX_NDJSON_BYTES if is_lines else conf.CREW_MAX_BULK_BYTES)
    if method == "POST" and path.endswith("/task_groups"):
        return int(conf.CREW_MAX_BULK_BYTES)
    return int(conf.CREW_MAX_BODY_BYTES)


def time_allowed(received: int) -> float:
    """Seconds within which so many bytes of a body must have come."""
    return BODY_WITHIN + received / SLOWEST


def too_large(limit: int) -> str:
    return f"request body larger than {limit} bytes"


TOO_SLOW = "request body too slow"
