"""What an attempt keeps of its call: request and answer, as texts that an operator can read.

Cut, and without secrets. For reading only: nothing is decided by it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .jsonio import safe_text

HIDDEN = "(set, not shown)"
SECRET = frozenset({"authorization", "webhook-signature", "set-cookie"})
MOST_HEAD = 2_048  # characters kept of the lines before a body
MOST_KEPT = 1024 * 1024  # bytes: the most that a setting may ask to keep of a body
LONGEST = MOST_HEAD + MOST_KEPT + 100  # characters of a text of ours

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Transcript:
    """None for what was not sent, did not come, or is not to be kept."""

    request: str | None = None
    answer: str | None = None


NOTHING = Transcript()


def message(start: str, headers: Headers, body: bytes, *, most: int, hide: str = "") -> str:
    """The start line, the headers, an empty line, and at most so many bytes of the body.

    `hide` is a secret that is not to be told wherever it stands; "" for none.
    """
    head = "\n".join([start, *(f"{name}: {shown(name, value)}" for name, value in headers)])
    if hide:
        head = head.replace(hide, HIDDEN)
        body = body.replace(hide.encode(), HIDDEN.encode())
    cut = f"\n[the first {most:,} of {len(body):,} bytes]" if len(body) > most else ""
    text = f"{head[:MOST_HEAD]}\n\n{body[:most].decode(errors='replace')}{cut}"
    return safe_text(text, len(text))


def shown(name: str, value: str) -> str:
    """The value of a header, unless it is a secret."""
    return HIDDEN if name.lower() in SECRET else value
