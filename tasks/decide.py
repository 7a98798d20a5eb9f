"""What a worker's answer means: `Answer -> Completed | Failed | Held`.

Pure. The worker protocol (contract part 2, with its decisions 7 to 9) lives here and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from typing import Any

from . import graph
from .errors import InvalidInputError
from .jsonio import JSONError, dump, read, safe_text
from .spec import TaskSpec, read_child
from .transcript import NOTHING, Transcript

MAX_DELAY = 366 * 86_400.0  # seconds
MAX_RETRY_AFTER = 86_400.0  # seconds; a header is easily wrong, and holds a whole workgroup
MAX_ERROR = 4_096  # characters kept of one error
RATE_LIMITED = (429, 503)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one delivery, or why nothing did.

    `status` is None when there was no complete HTTP answer; then `error` says why, in a
    sentence for the operator. `body` is decoded bytes, never longer than the limit.
    `retry_after` is the header as sent. `seconds` is the time from the send to the last byte.
    `transcript` is what is kept of the call, for people.
    """

    status: int | None
    body: bytes = b""
    retry_after: str | None = None
    error: str = ""
    seconds: float = 0.0
    transcript: Transcript = NOTHING


@dataclass(frozen=True, slots=True)
class Limits:
    """The sizes an answer must keep to."""

    answer_bytes: int = 1024 * 1024
    input_bytes: int = 1024 * 1024
    children: int = 1_000


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds to hold the whole workgroup, and all children, from now; 0 for none."""

    workgroup: float = 0.0
    children: float = 0.0


@dataclass(frozen=True, slots=True)
class Completed:
    """The worker did the task. `output` is JSON text, None for null; children in list order."""

    output: str | None = None
    children: tuple[TaskSpec, ...] = ()
    delays: Delays = Delays()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt is used up. `output` is what the answer carried beside its error."""

    error: str
    output: str | None = None
    delays: Delays = Delays()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """The worker is rate limited: wait `seconds` and try again; no attempt is used up."""

    seconds: float
    error: str
    output: str | None = None
    delays: Delays = Delays()
    note: str = ""


@dataclass(slots=True)
class _Reading:
    """An answer half read: its object, and what had to be mended or ignored on the way."""

    fields: Mapping[str, Any]
    notes: list[str]

    def note(self) -> str:
        return "; ".join(self.notes)[:MAX_ERROR]


def decide(
    answer: Answer, *, workgroup: str, limits: Limits = Limits(), now: datetime
) -> Completed | Failed | Held:
    """Say what an answer to a task of `workgroup` means.

    `now` is only compared with a `Retry-After` that names a date.
    """
    if answer.status is None:
        return Failed(safe_text(answer.error or "the delivery failed", MAX_ERROR))
    if answer.status == 200:
        return _decide_success(answer, workgroup, limits)
    return _decide_failure(answer, workgroup, limits, now)


def _decide_success(answer: Answer, workgroup: str, limits: Limits) -> Completed | Failed | Held:
    if not answer.body.strip():
        return Completed()  # decision 9
    try:
        reading = _read(answer.body, limits)
    except JSONError as error:
        return Failed(f"the answer is not JSON: {error}")
    except InvalidInputError as error:
        return Failed(str(error))
    delays = _delays(reading)
    output = _output(reading)
    if reading.fields.get("error") is not None:
        return _failed(_error_text(reading), output, delays, reading, workgroup)
    try:
        children = _children(reading.fields.get("children"), limits)
    except InvalidInputError as error:
        return Failed(str(error)[:MAX_ERROR], None, delays, reading.note())
    return Completed(output, children, delays, reading.note())


def _decide_failure(answer: Answer, workgroup: str, limits: Limits, now: datetime) -> Failed | Held:
    """Not 200: a failure; error and delays are read from the body if it is an object."""
    try:
        reading = _read(answer.body, limits)
    except (JSONError, InvalidInputError):
        reading = _Reading({}, [])
    error = _error_text(reading) if reading.fields.get("error") is not None else ""
    if not error:
        error = _status_text(answer.status or 0) or answer.body[:MAX_ERROR].decode(errors="replace")
    text = safe_text(f"HTTP {answer.status}: {error.strip()}".removesuffix(": "), MAX_ERROR)
    delays = _delays(reading)
    wait = _retry_after(answer, now, reading)
    if wait and workgroup:
        delays = Delays(max(delays.workgroup, wait), delays.children)
    if wait and not workgroup:
        return Held(wait, text, None, delays, reading.note())
    return _failed(text, None, delays, reading, workgroup)


def _failed(
    error: str, output: str | None, delays: Delays, reading: _Reading, workgroup: str
) -> Failed | Held:
    """A failure that holds the task's workgroup is a rate limit (decision 8)."""
    if delays.workgroup and workgroup:
        return Held(delays.workgroup, error, output, delays, reading.note())
    return Failed(error, output, delays, reading.note())


def _read(body: bytes, limits: Limits) -> _Reading:
    """The answer's object; an unusable character is replaced, because the work is done."""
    document = read(
        body, max_bytes=limits.answer_bytes, duplicates_refused=False, replace_unsafe=True
    )
    notes = ["unusable characters were replaced by U+FFFD"] if document.replaced else []
    if document.value is None:
        return _Reading({}, notes)
    if not isinstance(document.value, dict):
        kind = type(document.value).__name__
        raise InvalidInputError(f"the answer must be a JSON object, not a {kind}")
    return _Reading(document.value, notes)


def _output(reading: _Reading) -> str | None:
    output = reading.fields.get("output")
    return None if output is None else dump(output)


def _error_text(reading: _Reading) -> str:
    error = reading.fields["error"]
    text = error if isinstance(error, str) else dump(error)
    return safe_text(text, MAX_ERROR) or "the worker answered with an empty error"


def _status_text(status: int) -> str:
    if 300 <= status < 400:
        return "redirects are not followed"
    if status == 202:
        return "answers that come later are not supported"
    return ""


def _delays(reading: _Reading) -> Delays:
    return Delays(
        _delay(reading, "workgroupDelayInSeconds"), _delay(reading, "childrenDelayInSeconds")
    )


def _delay(reading: _Reading, field: str) -> float:
    """Seconds, with a fraction if given; junk is ignored with a note, a year is the most."""
    value = reading.fields.get(field)
    if value is None:
        return 0.0
    try:
        seconds = float(value) if not isinstance(value, bool | list | dict) else -1.0
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds < inf:  # also catches NaN
        reading.notes.append(f"{field} was ignored: {repr(value)[:60]}")
        return 0.0
    if seconds > MAX_DELAY:
        reading.notes.append(f"{field} was cut to 366 days")
    return min(seconds, MAX_DELAY)


def _retry_after(answer: Answer, now: datetime, reading: _Reading) -> float:
    """Seconds that a 429 or 503 asks to wait (RFC 9110, 10.2.3); at most a day."""
    value = (answer.retry_after or "").strip()
    if answer.status not in RATE_LIMITED or not value:
        return 0.0
    try:
        seconds = float(value) if value.isascii() and value.isdigit() else _until(value, now)
    except (ValueError, TypeError, OverflowError):
        reading.notes.append(f"Retry-After was ignored: {value[:60]!r}")
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _until(date: str, now: datetime) -> float:
    moment = parsedate_to_datetime(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()


def _children(raw: object, limits: Limits) -> tuple[TaskSpec, ...]:
    """Read and check the children of an answer: all of them, or none (contract 2.3)."""
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise InvalidInputError(f"children must be a list, not {repr(raw)[:60]}")
    if len(raw) > limits.children:
        raise InvalidInputError(f"more than {limits.children} children in one answer")
    children = []
    for index, item in enumerate(raw):
        try:
            children.append(read_child(item, max_input=limits.input_bytes))
        except InvalidInputError as error:
            raise InvalidInputError(f"child {index}: {error}") from error
    graph.check_new(children, max_parents=limits.children)
    _check_siblings(children)
    return tuple(children)


def _check_siblings(children: list[TaskSpec]) -> None:
    ids = {child.id for child in children}
    for index, child in enumerate(children):
        for parent in child.parent_ids:
            if parent not in ids:
                raise InvalidInputError(
                    f"child {index}: parent {parent[:60]!r} is not a child of this answer"
                )
