"""What the body of a PUT asks for: one rule for all fields of all routes.

What is null is left as it is, as what is not there: a typed client sends null for whatever its
caller did not name. What is to be empty is sent empty, or named in `clear`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInputError

NEVER = object()  # there is always something in the field


@dataclass(frozen=True, slots=True)
class Field:
    """How a field is read, and what it holds when it is empty. `nothing` leaves it as it is."""

    name: str
    read: Callable[[Any], Any]
    empty: Any = NEVER
    nothing: tuple[object, ...] = (None,)


def read_changes(sent: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """The fields that are to change by their own names; unknown ones are ignored.

    Raises InvalidInputError naming the first that cannot be.
    """
    cleared = _cleared(sent.get("clear"), fields)
    changes = {}
    for word, field in fields.items():
        is_set = word in sent and sent[word] not in field.nothing
        if is_set and word in cleared:
            raise InvalidInputError(f"clear: {word} is set as well")
        if is_set or word in cleared:
            changes[field.name] = field.read(sent[word]) if is_set else field.empty
    return changes


def _cleared(words: object, fields: Mapping[str, Field]) -> list[str]:
    if words is None:
        return []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidInputError("clear must be a list of names of fields")
    for word in words:
        if word not in fields:
            raise InvalidInputError(f"clear: no field {word[:60]!r} can be changed here")
        if fields[word].empty is NEVER:
            raise InvalidInputError(f"clear: {word} cannot be empty")
    return words
