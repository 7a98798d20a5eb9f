"""One call of the API: sent, repeated where that is safe, and its errors put into words."""

import random
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase

from ..rules.jsonio import dump
from .answers import cause_of, decoded, seconds, was_never_sent, words_of
from .errors import (
    CrewError,
    InvalidInput,
    NotFound,
    RateLimited,
    ServerError,
    Unreachable,
    Unreadable,
    kind_of,
)
from .interim import Adapter

REPEATED = {429, 502, 503, 504}
REPEATABLE = {"GET", "HEAD", "PUT", "DELETE"}
FIRST_WAIT = 0.2  # seconds; doubled for each further try
MOST_WAIT = 30.0  # seconds; asked to wait longer, a call fails instead
LEAST_WAIT = 0.1  # seconds; what a call has at the end of the time that it shares with others
FILE_WAIT = 300.0  # seconds an answer may take when a large body was sent

_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Request:
    """`patience` is the least of seconds to wait for an answer, if more than usual. `is_read` says
    that the answer holds JSON that is wanted.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | IO[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_key_sent: bool = False
    patience: float = 0.0
    is_read: bool = True

    @property
    def is_repeatable(self) -> bool:
        if self.method == "PUT" and "If-Match" in self.headers:
            return False  # one that was done already would look as if somebody else had done it
        return self.is_key_sent or self.method in REPEATABLE


class Transport:
    """What every call shares. Not for several threads at once: they need a `Crew` each."""

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        timeout: tuple[float, float] = (5, 30),
        session: requests.Session | None = None,
        retries: int = 3,
    ) -> None:
        """`base_url` is where Crew is mounted, the prefix included. `timeout`: seconds to
        connect, and between two bytes of an answer. `retries`: how often a call may be repeated.
        A `session` given is used as it is and not closed. Raises ValueError for an unusable URL
        or token.
        """
        self._base = _checked_base(base_url)
        self._timeout = timeout
        self._retries = retries
        self._session = session or _session()
        self._owns_session = session is None
        self._sleep = time.sleep
        self._clock = time.monotonic
        self._until: float | None = None
        self.token = token

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._owns_session:
            self._session.close()

    @property
    def token(self) -> str | None:
        return self._auth.token

    @token.setter
    def token(self, token: str | None) -> None:
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise ValueError("the token holds what no header can carry")
        self._auth = _Auth(token)

    # --- The kinds of calls ------------------------------------------------------------------

    def _get(self, *parts: str, **query: Any) -> Any:
        return self._send(Request("GET", _path(*parts), query))

    def _get_tagged(self, *parts: str) -> tuple[Any, str]:
        """With its ETag, "" without one."""
        return self._exchange(Request("GET", _path(*parts)))

    def _put(self, *parts: str, body: Mapping[str, Any], if_match: str = "") -> Any:
        headers = _condition(if_match)
        return self._send(Request("PUT", _path(*parts), body=to_bytes(body), headers=headers))

    def _post(
        self, *parts: str, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] = {}
    ) -> Any:
        """A verb. Repeated only if it never reached the server."""
        return self._send(Request("POST", _path(*parts), query, to_bytes(body or {})))

    def _create(
        self,
        *parts: str,
        body: bytes | IO[bytes],
        key: str | None,
        query: Mapping[str, Any] = {},
        content_type: str = "application/json",
    ) -> Any:
        """A POST that creates: its Idempotency-Key makes it safe to repeat.

        A body from a file is a large one: the server may take minutes over it.
        """
        if key is not None and not _KEY.fullmatch(key):
            raise InvalidInput("an idempotency_key is 1 to 200 visible ASCII characters")
        headers = {"Content-Type": content_type, "Idempotency-Key": key or str(uuid.uuid4())}
        patience = 0.0 if isinstance(body, bytes) else FILE_WAIT
        return self._send(Request("POST", _path(*parts), query, body, headers, True, patience))

    def _delete(self, *parts: str, query: Mapping[str, Any] = {}, if_match: str = "") -> None:
        headers = _condition(if_match)
        try:
            self._send(Request("DELETE", _path(*parts), query, headers=headers, is_read=False))
        except NotFound as error:
            if error.tries == 1:
                raise
            # An earlier try has deleted it, and its answer was lost.

    # --- The call ----------------------------------------------------------------------------

    @contextmanager
    def _within(self, until: float | None) -> Iterator[None]:
        """Calls end, or fail, by then, a moment of the clock; None for whenever they do."""
        self._until = until
        try:
            yield
        finally:
            self._until = None

    def _send(self, request: Request) -> Any:
        """The JSON of the answer, which is a success; None if it is not read. Raises CrewError."""
        body, _ = self._exchange(request)
        return body

    def _exchange(self, request: Request) -> tuple[Any, str]:
        """The same, and the ETag that came with it, "" without one."""
        tries = 0
        while True:
            tries += 1
            try:
                response = self._try(request)
                body = decoded(response) if request.is_read else None
                return body, response.headers.get("ETag", "")
            except CrewError as error:
                error.tries = tries
                wait = _wait(error, tries)
                if tries > self._retries or wait > self._most_wait() or not _again(error, request):
                    raise
            self._sleep(wait)

    def _most_wait(self) -> float:
        return MOST_WAIT if self._until is None else min(MOST_WAIT, self._until - self._clock())

    def _try(self, request: Request) -> requests.Response:
        if request.body is not None and not isinstance(request.body, bytes):
            request.body.seek(0)
        try:
            response = self._session.request(
                request.method,
                self._base + request.path,
                params=dict(request.query),
                data=request.body,
                headers=_HEADERS | dict(request.headers),
                auth=self._auth,
                timeout=self._patience(request),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise self._unreachable(request, error) from error
        except UnicodeError as error:
            raise InvalidInput(f"{request.method} {request.path} holds what is no text") from error
        if not 200 <= response.status_code < 300:
            raise self._refused(request, response)
        return response

    def _patience(self, request: Request) -> tuple[float, float]:
        """Seconds to connect, and between two bytes of the answer."""
        connect, read = self._timeout
        read = max(read, request.patience)
        if self._until is None:
            return connect, read
        left = max(self._until - self._clock(), LEAST_WAIT)
        return min(connect, left), min(read, left)

    def _unreachable(self, request: Request, error: requests.RequestException) -> Unreachable:
        why = self._redacted(cause_of(error))
        result = Unreachable(
            f"{request.method} {request.path} got no answer from {self._base}: {why}",
            method=request.method,
            path=request.path,
            text=why,
        )
        result.never_sent = was_never_sent(error)
        return result

    def _refused(self, request: Request, response: requests.Response) -> CrewError:
        status, text = response.status_code, self._redacted(words_of(response))
        error = kind_of(status)(
            f"{request.method} {request.path} was answered with {status}: {text}",
            status=status,
            method=request.method,
            path=request.path,
            text=text,
        )
        if isinstance(error, RateLimited | ServerError):
            error.retry_after = seconds(response.headers.get("Retry-After"))
        return error

    def _redacted(self, text: str) -> str:
        return text.replace(self.token, "***") if self.token else text


class _Auth(AuthBase):
    """Given even without a token: or requests would send what it finds in ~/.netrc."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token is not None:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def _session() -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    return session


def _checked_base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url must be http(s)://host[:port]/[path]")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("base_url must hold no user name, no password, no query and no fragment")
    return url.rstrip("/")


def _path(*parts: str) -> str:
    """A path of the API, each part quoted as one segment. InvalidInput for one that can be none."""
    if unusable := [part for part in parts if part in ("", ".", "..")]:
        raise InvalidInput(f"{unusable[0]!r} cannot be an id or a name")
    try:
        return "/api/v1/" + "/".join(quote(part, safe="") for part in parts)
    except UnicodeError as error:
        raise InvalidInput("an id or a name holds what is no text") from error


def to_bytes(value: Any) -> bytes:
    """A body. Raises InvalidInput for what JSON cannot say."""
    try:
        return dump(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"it cannot be sent as JSON: {error}") from error


def _again(error: CrewError, request: Request) -> bool:
    if isinstance(error, Unreachable) and error.never_sent:
        return True
    return may_pass(error) and request.is_repeatable


def may_pass(error: CrewError) -> bool:
    """Whether the same call may succeed a little later."""
    return isinstance(error, Unreachable | Unreadable) or error.status in REPEATED


def _condition(if_match: str) -> dict[str, str]:
    return {"If-Match": if_match} if if_match else {}


def _wait(error: CrewError, tries: int) -> float:
    """Seconds until the next try: what the server asks for, or a growing, random time."""
    asked: float | None = getattr(error, "retry_after", None)
    if asked is not None:
        return asked
    return FIRST_WAIT * float(2 ** (tries - 1)) * random.uniform(0.5, 1.5)  # noqa: S311
