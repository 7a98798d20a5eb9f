"""The forms of an answer: JSON with a newline at its end, plain text, problem details."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.http import HttpResponse
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from ..conf import conf
from ..rules.jsonio import dump
from ..sql.one_look import one_look
from ..store import memory_budget
from ..store.portions import PORTION

JSON = "application/json; charset=UTF-8"
TEXT = "text/plain; charset=UTF-8"
PROBLEM = "application/problem+json"

TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    409: "Conflict",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported media type",
    422: "Key used for another call",
    429: "Too many requests",
    500: "Internal error",
    503: "Try again",
}


class JSONRenderer(BaseRenderer):  # type: ignore[misc]
    """Names the media type for the schema and renders what a view returns as `Response`."""

    media_type = "application/json"
    format = "json"
    charset = "UTF-8"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return f"{dump(data)}\n".encode()


class NoParser(BaseParser):  # type: ignore[misc]
    """Names the media type for the schema; bodies are read by `body.py`.

    The framework looks for a CSRF token in every body: that must neither read nor refuse it.
    """

    media_type = "application/json"

    def parse(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}


def json_answer(
    data: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    return HttpResponse(f"{dump(data)}\n", content_type=JSON, status=status, headers=headers)


def json_text(text: str) -> HttpResponse:
    """What is JSON text already."""
    return HttpResponse(f"{text}\n", content_type=JSON)


class Roomy(HttpResponse):
    """One that has a share of the room, until it has been sent."""

    def __init__(self, share: memory_budget.Share, pieces: Iterable[bytes], **options: Any) -> None:
        super().__init__(pieces, **options)
        share.shrink(len(self.content))
        # Not every server tells of one whose client goes meanwhile.
        self._gone = weakref.finalize(self, share.give_back)

    def close(self) -> None:
        super().close()
        self._gone()

    def let_go(self) -> None:
        """It was sent, or will never be."""
        self.content = b""
        self._gone()


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list: pieces of JSON text, still to be read."""

    pieces: Iterable[bytes]
    is_large: bool


def json_page(look: Callable[[], Page]) -> HttpResponse:
    """The page that `look` finds, by one look at the store: the count and the rows agree.

    A large one has its room before its rows are read. Where it must wait for that, it waits
    without the store, and looks again.
    """
    answer = _looked(look, None)
    if answer is None:
        share = memory_budget.answers.take(_room_of_a_page())
        try:
            answer = _looked(look, share)
        except BaseException:
            share.give_back()
            raise
    assert answer is not None  # noqa: S101  it had its room
    return answer


def _looked(look: Callable[[], Page], share: memory_budget.Share | None) -> HttpResponse | None:
    """The page, in this share or one of its own; None if there is no room for it at once."""
    with one_look():
        page = look()
        if page.is_large:
            share = share or memory_budget.answers.take_now(_room_of_a_page())
            return _roomy(share, page.pieces) if share else None
        if share:
            share.give_back()
        return HttpResponse([*page.pieces, b"\n"], content_type=JSON)


def _roomy(share: memory_budget.Share, pieces: Iterable[bytes]) -> HttpResponse:
    try:
        return Roomy(share, chain(pieces, [b"\n"]), content_type=JSON)
    except BaseException:
        share.give_back()
        raise


def _room_of_a_page() -> int:
    """The pieces, the answer made of them, and rows as they are decoded."""
    return 2 * int(conf.CREW_MAX_PAGE_BYTES) + 3 * PORTION


def text(words: str, status: int = 200) -> HttpResponse:
    return HttpResponse(words, content_type=TEXT, status=status)


def problem(detail: str, status: int) -> HttpResponse:
    """Problem details (RFC 9457); the type is about:blank as the status says it all."""
    title = TITLES.get(status, "Error")
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return HttpResponse(f"{dump(body)}\n", content_type=PROBLEM, status=status)
