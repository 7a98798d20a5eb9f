"""What an attempt keeps of its call: request and answer, as texts that an operator can read.

Cut, and without secrets. For reading only: nothing is decided by it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

HIDDEN = "(set, not shown)"
# As we write them in a request, and in small letters as answers have them here.
SECRET = frozenset({"Authorization", "authorization", "webhook-signature", "set-cookie"})
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


def message(start: str, headers: Headers, body: bytes, *, most: int) -> str:
    """The start line, the headers, an empty line, and at most so many bytes of the body.

    Header names are spelled as in `SECRET`.
    """
    lines = [f"{name}: {HIDDEN if name in SECRET else value}" for name, value in headers]
    head = "\n".join([start, *lines])
    cut = f"\n[the first {most:,} of {len(body):,} bytes]" if len(body) > most else ""
    text = f"{head[:MOST_HEAD]}\n\n{body[:most].decode(errors='replace')}{cut}"
    return text.replace("\0", "\ufffd")  # what no database takes


def shown(headers: Headers) -> list[tuple[str, str]]:
    """The headers as people may see them: of a secret, that it is there."""
    return [(name, HIDDEN if name in SECRET else value) for name, value in headers]
