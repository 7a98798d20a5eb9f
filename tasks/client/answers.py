"""What came back, or why nothing did, in words. Pure but for the clock."""

from datetime import UTC, datetime
from typing import Any

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

from ..rules import retry_after
from .errors import Unreadable

MOST_TEXT = 500  # characters of a server's text in an error


def decoded(response: requests.Response) -> Any:
    """The JSON of a success. Raises Unreadable."""
    try:
        return response.json()
    except (ValueError, RecursionError):  # also of bytes that are no text, and of endless digits
        request = response.request
        raise Unreadable(
            f"{request.method} {request.path_url} was answered with {response.status_code}, but"
            " not with JSON: the answer was cut, or this is no Crew server. What the call asks"
            " for may be done.",
            status=response.status_code,
            method=request.method or "",
            path=request.path_url,
        ) from None


def seconds(asked: str | None) -> float | None:
    """What a Retry-After asks to wait; None without one, and for what cannot be read."""
    return None if asked is None else retry_after.read(asked, datetime.now(UTC)).seconds


def words_of(response: requests.Response) -> str:
    """What the server says: of problem details the detail, of a page nothing."""
    kind = response.headers.get("Content-Type", "")
    if 300 <= response.status_code < 400:
        return "redirects are not followed; correct base_url"
    if "json" in kind:
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict):
            words = body.get("detail") or body.get("message") or body.get("error")
            return str(words or body)[:MOST_TEXT]
    text = "" if "html" in kind else response.text.strip()
    return text[:MOST_TEXT] or response.reason or "no reason given"


def was_never_sent(error: requests.RequestException) -> bool:
    if isinstance(error, requests.ConnectTimeout):
        return True
    inner = error.args[0] if error.args else None
    return isinstance(inner, MaxRetryError) and isinstance(inner.reason, NewConnectionError)


def cause_of(error: BaseException) -> str:
    """The innermost words: requests and urllib3 put addresses and class names around them."""
    if isinstance(error, requests.Timeout):
        return "it took too long"
    root: BaseException = error
    while inner := root.__cause__ or root.__context__:
        root = inner
    return (getattr(root, "strerror", None) or str(root) or type(root).__name__)[:MOST_TEXT]
