"""The errors of the client. Each reads as a sentence and never holds the token.

CrewError
├── Unreachable     no answer: no connection, a timeout, a broken connection
├── InvalidInput    400, 422: what was sent cannot be right; also raised before sending
├── Unauthorized    401: no token, or a wrong one
├── Forbidden       403: the token may not do this
├── NotFound        404
├── Conflict        409: it is there, and in the way
├── Changed         412: it is not what it was when it was read
├── TooLarge        413
├── RateLimited     429: too many calls
├── ServerError     500 and up, and answers that are not Crew's
│   └── Unreadable  a success that was cut on its way, or is not JSON
├── WaitTimeout     the group was not complete in time
└── GroupStuck      what is left of the group has no attempts left, or no worker
"""


class CrewError(Exception):
    """What the caller can be told in one sentence.

    `status` is None without an answer; `text` is what the server said. `tries` is how often the
    call was sent.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        method: str = "",
        path: str = "",
        text: str = "",
        tries: int = 1,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.method = method
        self.path = path
        self.text = text
        self.tries = tries


class Unreachable(CrewError):
    """There was no answer. Whether the call had an effect is not known, unless `never_sent`."""

    never_sent = False


class InvalidInput(CrewError, ValueError):
    """What was sent cannot be right."""


class Unauthorized(CrewError):
    """There is no token, or it opens nothing."""


class Forbidden(CrewError):
    """The token may not do this."""


class NotFound(CrewError):
    """What was named is not there, or not for this token."""


class Conflict(CrewError):
    """It is there, and in the way."""


class Changed(CrewError):
    """It is not what it was when it was read; nothing was done."""


class TooLarge(CrewError):
    """More than the server takes in one call."""


class RateLimited(CrewError):
    """Too many calls; `retry_after` is the seconds to wait, None if the server did not say."""

    retry_after: float | None = None


class ServerError(CrewError):
    """The server failed, or what answered is not Crew."""

    retry_after: float | None = None


class Unreadable(ServerError):
    """A success that was cut on its way, or is not JSON. What the call asks for may be done."""


class WaitTimeout(CrewError):
    """The group was not complete in time; `fraction` (0 to 1) of it was."""

    def __init__(self, message: str, fraction: float) -> None:
        super().__init__(message)
        self.fraction = fraction


class GroupStuck(CrewError):
    """Nothing of the group can go on without a person.

    `failed` are ids of tasks that have no attempts left or no worker (at most 10).
    """

    def __init__(self, message: str, failed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.failed = failed


BY_STATUS: dict[int, type[CrewError]] = {
    400: InvalidInput,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Changed,
    413: TooLarge,
    422: InvalidInput,
    429: RateLimited,
}


def kind_of(status: int) -> type[CrewError]:
    return BY_STATUS.get(status, ServerError if status >= 500 else CrewError)
