"""The exact bytes that a call says of its task: contract part 2. Never the database."""

from collections.abc import Sequence
from dataclasses import dataclass

from .jsonio import MANY_ZEROS, dump, from_store

_MANY_ZEROS = MANY_ZEROS.encode()


@dataclass(frozen=True, slots=True)
class Parent:
    """What a worker gets of a parent. JSON texts; None is null."""

    task_id: str
    worker: str
    input_json: str | None
    output_json: str | None


@dataclass(frozen=True, slots=True)
class Brought:
    """What goes into the call of a task. `too_large` says why there will be none."""

    input_json: str | None
    parents: tuple[Parent, ...] = ()
    too_large: str = ""


def payload(
    task_id: str,
    worker: str,
    input_json: str | None,
    parents: Sequence[Parent],
    pieces: dict[str, bytes] | None = None,
) -> bytes:
    """The body of contract 2.1. Stored JSON is spliced in as text, not decoded.

    `pieces` keeps what was made of each parent, for the other calls that it goes into.
    """
    head = f'{{"input":{_or_null(input_json)},"worker":{dump(worker)},"parents":['
    tail = f'],"taskId":{dump(task_id)}}}'
    if not parents:
        return _as_read(f"{head}{tail}".encode())
    pieces = {} if pieces is None else pieces
    for parent in parents:
        if parent.task_id not in pieces:
            pieces[parent.task_id] = _piece(parent)
    joined = b",".join(pieces[parent.task_id] for parent in parents)
    return _as_read(b"".join((head.encode(), joined, tail.encode())))


def _as_read(body: bytes) -> bytes:
    # Not `in`, which first tries to take what is looked for as the number of a byte.
    return from_store(body.decode()).encode() if body.find(_MANY_ZEROS) >= 0 else body


def _piece(parent: Parent) -> bytes:
    return (
        f'{{"taskId":{dump(parent.task_id)},"worker":{dump(parent.worker)},'
        f'"input":{_or_null(parent.input_json)},"output":{_or_null(parent.output_json)}}}'
    ).encode()


def _or_null(text: str | None) -> str:
    return "null" if text is None else text
