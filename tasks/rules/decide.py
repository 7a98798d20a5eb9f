"""What a worker's answer means: `Answer -> Completed | Failed | Held | Interrupted`.

Pure. The worker protocol (contract part 2, with its decisions 7 to 9) lives here and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf
from typing import Any

from ..errors import InvalidInputError
from . import graph, retry_after, spelling
from .answer_reader import UNREAD
from .charsets import REPLACED, as_utf8
from .jsonio import JSONError, dump, for_store, read, safe_text
from .outages import Fault
from .spec import TASK_WORDS, TaskSpec, read_child
from .transcript import NOTHING, Transcript

MAX_DELAY = 366 * 86_400.0  # seconds
MAX_ERROR = 4_096  # characters kept of one error
ERROR_DELAY = 60.0  # seconds; what a task has of which nothing is known
CROSSED_WITHIN = 2.0  # seconds; whoever lets a call wait for longer has begun with it
RATE_LIMITED = (429, 503)
FIELDS = ("output", "children", "error", "workgroupDelayInSeconds", "childrenDelayInSeconds")
_BLANK = " \t\r\n\v\f\0"  # some end their texts with NUL
_MARKED = _BLANK + "\ufeff"  # and some begin them with more than one byte order mark
REDIRECTS = (301, 302, 303, 307, 308)
REPEATS = "this worker repeats its credentials"
CANCELLED = "cancelled by the scheduler"  # the error of a call that we ended ourselves


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one delivery, or why nothing did.

    `status` is None when there was no complete HTTP answer; then `error` says why, in a
    sentence for the operator. A failure has its status also when its body could not be read, and
    `error` says why not. `body` is decoded bytes, never longer than the limit; `charset` is what
    its text is said to be written in, "" for UTF-8. `retry_after` is the header as sent.
    `seconds` is the time from the send to the last byte. `transcript` is what is kept of the
    call, for people. `may_run` says that the request went out and its connection ended before the
    answer was complete: the worker may still be at it. `fault` is how the worker failed where
    there is no status; an answer that came too late, or is no use, is none of its worker's.
    `was_kept`: nothing came, on a connection that was used before. `repeats`: our secrets were in
    it, and were taken out; None while nobody has looked.
    """

    status: int | None
    body: bytes = b""
    retry_after: str | None = None
    error: str = ""
    seconds: float = 0.0
    transcript: Transcript = NOTHING
    charset: str = ""
    may_run: bool = False
    fault: Fault = Fault.NONE
    was_kept: bool = False
    repeats: bool | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The sizes an answer must keep to."""

    answer_bytes: int = 1024 * 1024
    input_bytes: int = 1024 * 1024
    children: int = 1_000


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds to hold the whole workgroup, and all children, from now; 0 for none."""

    workgroup: float = 0.0
    children: float = 0.0


NO_DELAYS = Delays()
_DELAYS = ("workgroupDelayInSeconds", "childrenDelayInSeconds")


@dataclass(frozen=True, slots=True)
class Completed:
    """The worker did the task. `output` is JSON text, None for null; children in list order."""

    output: str | None = None
    children: tuple[TaskSpec, ...] = ()
    delays: Delays = Delays()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt is used up. `output` is what the answer carried beside its error.

    The task waits its own delay, and no less than `seconds`; if `is_soon`, a second at most.
    """

    error: str
    output: str | None = None
    delays: Delays = Delays()
    note: str = ""
    seconds: float = 0.0
    is_soon: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """The worker is rate limited: wait `seconds` and try again; no attempt is used up.

    `is_spared`: however often. Else those that are held on and on use up attempts (decision 8).
    """

    seconds: float
    error: str
    output: str | None = None
    delays: Delays = Delays()
    note: str = ""
    is_spared: bool = False


@dataclass(frozen=True, slots=True)
class Interrupted:
    """We ended the call ourselves, or nobody has read it.

    No attempt is used up, and the task runs again at once.
    """

    error: str = "interrupted: its scheduler stopped, or lost its heartbeat"


Decided = Completed | Failed | Held | Interrupted


@dataclass(slots=True)
class _Reading:
    """An answer half read: its object, and what had to be repaired or ignored on the way."""

    fields: Mapping[str, Any]
    notes: list[str]

    def note(self) -> str:
        return "; ".join(self.notes)[:MAX_ERROR]


def decide(
    answer: Answer,
    *,
    workgroup: str,
    bounds: Bounds = Bounds(),
    now: datetime,
    error_delay: float = ERROR_DELAY,
) -> Decided:
    """Say what an answer to a task of `workgroup` means.

    `now` is only compared with a `Retry-After` that names a time; `error_delay` is the task's, and
    counts for one that cannot be read.
    """
    decided = _decide(answer, workgroup, bounds, now, error_delay)
    if not answer.repeats or isinstance(decided, Interrupted):
        return decided
    return replace(decided, note="; ".join(filter(None, (REPEATS, decided.note)))[:MAX_ERROR])


def _decide(
    answer: Answer, workgroup: str, bounds: Bounds, now: datetime, error_delay: float
) -> Decided:
    if answer.status is None and answer.error == CANCELLED:
        return Interrupted()
    if answer.status is None and answer.error == UNREAD:
        return Interrupted(UNREAD)
    if answer.status is None:
        # A worker may close a connection that it kept just as a call comes.
        is_soon = answer.was_kept and answer.seconds < CROSSED_WITHIN
        return Failed(safe_text(answer.error or "the delivery failed", MAX_ERROR), is_soon=is_soon)
    if answer.status == 200:
        return _decide_success(answer, workgroup, bounds)
    wait = _asked_to_wait(answer, now, error_delay)
    return _decide_failure(answer, workgroup, bounds, wait)


def _decide_success(answer: Answer, workgroup: str, bounds: Bounds) -> Completed | Failed | Held:
    try:
        reading = _read(answer, bounds)
    except JSONError as error:
        return Failed(f"the answer is not JSON: {error}")
    except InvalidInputError as error:
        return Failed(str(error))
    _note_slips(reading)
    delays = _delays(reading)
    output = _output(reading)
    if reading.fields.get("error") is not None:
        return _failed(_error_text(reading), output, delays, reading, workgroup)
    try:
        children = _children(reading, bounds)
    except InvalidInputError as error:
        return Failed(str(error)[:MAX_ERROR], None, delays, reading.note())
    return Completed(output, children, delays, reading.note())


def _decide_failure(
    answer: Answer, workgroup: str, bounds: Bounds, wait: retry_after.Wait | None
) -> Failed | Held:
    """Not 200: a failure; error and delays are read from the body if it is an object."""
    try:
        reading = _read(answer, bounds)
    except (JSONError, InvalidInputError):
        reading = _Reading({}, [])
    text = safe_text(f"HTTP {answer.status}: {_failure_text(answer, reading)}", MAX_ERROR)
    text = text.removesuffix(": ")
    delays = _delays(reading)
    if wait is None or not wait.seconds:
        return _failed(text, None, delays, reading, workgroup)
    if wait.note:
        reading.notes.append(wait.note)
    if not workgroup:
        return Held(wait.seconds, text, None, delays, reading.note())
    held = max(delays.workgroup, wait.seconds)
    return Held(held, text, None, Delays(held, delays.children), reading.note())


def _failure_text(answer: Answer, reading: _Reading) -> str:
    if reading.fields.get("error") is not None:
        return _error_text(reading)
    body, _ = as_utf8(answer.body[: 4 * MAX_ERROR], answer.charset)
    text = _status_text(answer.status or 0) or answer.error or body.decode(errors="replace")
    return text.strip()


def _failed(
    error: str, output: str | None, delays: Delays, reading: _Reading, workgroup: str
) -> Failed | Held:
    """A failure that holds the task's workgroup is a rate limit (decision 8)."""
    if delays.workgroup and workgroup:
        return Held(delays.workgroup, error, output, delays, reading.note())
    return Failed(error, output, delays, reading.note())


def _read(answer: Answer, bounds: Bounds) -> _Reading:
    """The answer's object, which may be left out (decision 9).

    An unusable character is replaced, because the work is done.
    """
    if len(answer.body) > bounds.answer_bytes:
        raise JSONError(f"larger than {bounds.answer_bytes} bytes")
    body, repaired = as_utf8(answer.body, answer.charset)
    body = _bare(body)
    if not body:
        return _Reading({}, list(repaired))
    # As UTF-8 it may be longer than it came; what a worker sends is what has a limit.
    document = read(body, max_bytes=len(body), duplicates_refused=False, replace_unsafe=True)
    notes = list(repaired)
    if document.replaced and REPLACED not in notes:
        notes.append(REPLACED)
    if document.value is None:
        return _Reading({}, notes)
    if not isinstance(document.value, dict):
        kind = type(document.value).__name__
        raise InvalidInputError(f"the answer must be a JSON object, not a {kind}")
    return _Reading(document.value, notes)


def _bare(body: bytes) -> bytes:
    """Without what stands around the JSON and is none of it, bytes that are no letters too."""
    body = body.strip(_BLANK.encode())
    if body[:1] < b"\x80" and body[-1:] < b"\x80":
        return body
    text = body.decode().strip(_MARKED)
    return (text.strip(_MARKED + "\ufffd") or text).encode()


def _output(reading: _Reading) -> str | None:
    output = reading.fields.get("output")
    return None if output is None else for_store(dump(output))


def _error_text(reading: _Reading) -> str:
    error = reading.fields["error"]
    text = error if isinstance(error, str) else dump(error)
    return safe_text(text, MAX_ERROR) or "the worker answered with an empty error"


def _status_text(status: int) -> str:
    if status in REDIRECTS:
        return "redirects are not followed"
    if status == 304:
        return "not modified, which says nothing of the task"
    if status == 202:
        return "answers that come later are not supported"
    return ""


def _delays(reading: _Reading) -> Delays:
    if reading.fields.keys().isdisjoint(_DELAYS):
        return NO_DELAYS
    return Delays(*(_delay(reading, field) for field in _DELAYS))


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


def _asked_to_wait(answer: Answer, now: datetime, error_delay: float) -> retry_after.Wait | None:
    """What a 429 or 503 with a `Retry-After` asks for, which is a rate limit whatever it says."""
    if answer.status not in RATE_LIMITED or answer.retry_after is None:
        return None
    asked = retry_after.read(answer.retry_after, now)
    if asked.seconds is not None:
        return asked
    return retry_after.Wait(min(max(error_delay, 1.0), retry_after.MOST), asked.note)


def _note_slips(reading: _Reading) -> None:
    """A worker may answer with more than is read, but not by a slip of what is."""
    unread = spelling.unknown(reading.fields, FIELDS)[: spelling.MOST]
    slips = [name for name in unread if spelling.meant(name, FIELDS)]
    if slips:
        reading.notes.append(f"ignored: {spelling.with_hints(slips, FIELDS)}")


def _children(reading: _Reading, bounds: Bounds) -> tuple[TaskSpec, ...]:
    """Read and check the children of an answer: all of them, or none (contract 2.3)."""
    raw = reading.fields.get("children")
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise InvalidInputError(f"children must be a list, not {repr(raw)[:60]}")
    if len(raw) > bounds.children:
        raise InvalidInputError(f"more than {bounds.children} children in one answer")
    children, ignored = [], list[str]()
    for index, item in enumerate(raw):
        try:
            children.append(read_child(item, max_input=bounds.input_bytes, ignored=ignored))
        except InvalidInputError as error:
            raise InvalidInputError(f"child {index}: {error}") from error
    if ignored:
        reading.notes.append(f"ignored of children: {spelling.with_hints(ignored, TASK_WORDS)}")
    graph.check_new(children, max_parents=bounds.children)
    _check_siblings(children)
    reading.notes += graph.keys_of_several_workers(children)
    return tuple(children)


def _check_siblings(children: list[TaskSpec]) -> None:
    ids = {child.id for child in children}
    for index, child in enumerate(children):
        for parent in child.parent_ids:
            if parent not in ids:
                raise InvalidInputError(
                    f"child {index}: parent {parent[:60]!r} is not a child of this answer"
                )
