"""The rules for names that people and workers give, and the URL a worker's name leads to. Pure."""

import os
import re
import reprlib
import secrets
import threading
import time
from urllib.parse import SplitResult, quote, urlsplit

MAX_LENGTH = 200

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_WORKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*(?:/[A-Za-z0-9][A-Za-z0-9._~-]*)*")
# Narrower than RFC 3986 on purpose: what is left means the same to every URL parser.
_BASE = re.compile(
    r"https?://(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?",
    re.IGNORECASE,
)
# What a terminal obeys (C0, DEL, C1), and what is no letter of any text.
NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_PORTS = {"http": 80, "https": 443}
_RANDOM_BITS = 74
_RANDOM_BYTES = 10


def check_id(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(
            f"id must be 1 to {MAX_LENGTH} letters, digits, '.', '_', ':' or '-' and begin with "
            f"a letter or digit, not {_shown(value)}"
        )
    return value


def check_worker(value: object) -> str:
    """A worker's name; the empty one is allowed and means that the task has no worker yet."""
    if value == "":
        return ""
    if not isinstance(value, str) or len(value) > MAX_LENGTH or not _WORKER.fullmatch(value):
        raise ValueError(
            f"worker must be at most {MAX_LENGTH} characters: segments of letters, digits, '.', "
            "'_', '~' or '-' that begin with a letter or digit, with '/' between them, "
            f"not {_shown(value)}"
        )
    return value


def check_text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field} must be text, not {_shown(value)}")
    if len(value) > MAX_LENGTH:
        raise ValueError(f"{field} is longer than {MAX_LENGTH} characters: {_shown(value)}")
    if NO_NAME.search(value):
        raise ValueError(
            f"{field} holds a control character (such as NUL) or a lone surrogate: {_shown(value)}"
        )
    return value


def check_base(base: object) -> str:
    """The base URL in its plain form: scheme and host in lower case, "/" at the end.

    The error never repeats the URL, which may hold a password.
    """
    if not isinstance(base, str) or not base:
        raise ValueError("the workers' base URL is not set")
    if "?" in base or "#" in base:
        raise ValueError("the workers' base URL must have no query and no fragment")
    if "@" in base.partition("://")[2].partition("/")[0]:
        raise ValueError("the workers' base URL must hold no user name and no password")
    if not _BASE.fullmatch(base):
        raise ValueError("the workers' base URL must be http(s)://host[:port]/[path/] in ASCII")
    parts = _split(base)
    if {".", ".."} & set(parts.path.replace("%2e", ".").replace("%2E", ".").split("/")):
        raise ValueError("the workers' base URL must have no '.' or '..' in its path")
    path = parts.path if parts.path.endswith("/") else parts.path + "/"
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def camel(name: str) -> str:
    """The wire's word for a name of ours: run_after is runAfter."""
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def worker_url(base: str, worker: str) -> str:
    base = check_base(base)
    if not check_worker(worker):
        raise ValueError("the task has no worker")
    url = base + "/".join(quote(segment, safe="") for segment in worker.split("/"))
    check_within(url, base)
    return url


def check_within(url: str, base: str) -> None:
    """Raise ValueError unless `url`, as prepared for sending, still lies under `base`."""
    ours, theirs = _split(base), _split(url)
    if _origin(ours) != _origin(theirs) or not theirs.path.startswith(ours.path):
        raise ValueError("the worker's URL leaves the workers' base URL")
    if "@" in theirs.netloc or theirs.query or theirs.fragment:
        raise ValueError("the worker's URL has more than a path")


_last = 0
_random = b""
_last_lock = threading.Lock()


def new_id() -> str:
    """A UUIDv7 (RFC 9562), greater than every one this process gave before."""
    global _last
    with _last_lock:
        fresh = (time.time_ns() // 1_000_000 << _RANDOM_BITS) | _random_bits()
        if fresh <= _last:
            # Same millisecond, or the clock went back: step on by a random, unguessable bit.
            fresh = _last + 1 + secrets.randbits(32)
        _last = fresh
    version_and_a = 0x7000 | (fresh >> 62 & 0xFFF)
    variant_and_b = 0x8000_0000_0000_0000 | (fresh & 0x3FFF_FFFF_FFFF_FFFF)
    text = f"{fresh >> _RANDOM_BITS:012x}{version_and_a:04x}{variant_and_b:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _random_bits() -> int:
    """Of the system's own randomness, fetched for many ids at once: a call costs more than an id.

    Whoever calls holds the lock. A fork must not give the ids of its parent: it fetches again.
    """
    global _random
    if len(_random) < _RANDOM_BYTES:
        _random = os.urandom(256 * _RANDOM_BYTES)
    taken, _random = _random[-_RANDOM_BYTES:], _random[:-_RANDOM_BYTES]
    return int.from_bytes(taken) >> (8 * _RANDOM_BYTES - _RANDOM_BITS)


def _forget_random() -> None:
    global _random
    _random = b""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_random)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError("the workers' base URL has a bad host or port") from None
    return parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _shown(value: object) -> str:
    return (repr(value[:60]) if isinstance(value, str) else reprlib.repr(value))[:60]
