"""The fields of a JSON object as Crew answers it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from ..errors import InvalidInputError
from ..rules.spec import read_time
from .errors import ServerError

Kind = TypeVar("Kind")


class Fields:
    """Reads fields by their wire names; null, which the old Crew sends, counts as left out.

    Each raises ServerError for a value that no Crew sends.
    """

    def __init__(self, raw: Any) -> None:
        if not isinstance(raw, dict):
            raise ServerError(f"the answer is not Crew's: {_short(raw)} is no JSON object")
        self.raw: Mapping[str, Any] = raw

    def text(self, name: str) -> str:
        return self._of(name, str, "")

    def maybe_text(self, name: str) -> str | None:
        return None if self.raw.get(name) is None else self.text(name)

    def needed(self, name: str) -> str:
        """A text that is never left out."""
        if self.raw.get(name) is None:
            raise ServerError(f"the answer is not Crew's: it has no {name}")
        return self.text(name)

    def flag(self, name: str) -> bool:
        return self._of(name, bool, False)

    def whole(self, name: str) -> int:
        return self.maybe_whole(name) or 0

    def maybe_whole(self, name: str) -> int | None:
        value = self.raw.get(name)
        return value if value is None or type(value) is int else self._refuse(name)

    def count(self, name: str) -> int:
        """A number of things, which is never left out."""
        value = self.maybe_whole(name)
        return value if value is not None and value >= 0 else self._refuse(name)

    def fraction(self, name: str) -> float:
        """0 to 1."""
        value: Any = self.raw.get(name)
        if type(value) in (int, float) and 0 <= value <= 1:  # NaN is not
            return float(value)
        self._refuse(name)

    def texts(self, name: str) -> tuple[str, ...]:
        found: list[Any] = self._of(name, list, [])
        return tuple(found) if all(isinstance(one, str) for one in found) else self._refuse(name)

    def rows(self, name: str) -> list[Any]:
        """A list that is never left out."""
        found = self.raw.get(name)
        return found if isinstance(found, list) else self._refuse(name)

    def inner(self, name: str) -> "Fields":
        """An object; empty if it is left out."""
        return Fields(self.raw.get(name) or {})

    def time(self, name: str) -> datetime | None:
        try:
            return read_time(self.raw.get(name), name)
        except InvalidInputError:
            self._refuse(name)

    def value(self, name: str) -> Any:
        return self.raw.get(name)

    def _of(self, name: str, kind: type[Kind], default: Kind) -> Kind:
        value = self.raw.get(name)
        if value is None:
            return default
        return value if isinstance(value, kind) else self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        raise ServerError(f"the answer is not Crew's: {name} is {_short(self.raw.get(name))}")


def _short(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:57]}..."
