"""Names that nobody understands: which of them can only be a mistake, and what was meant. Pure."""

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import NoReturn
from urllib.parse import quote

from ..errors import InvalidInputError

# Whoever writes one of these, in whatever case, names the parents of a task, or means that
# nothing is to be done, or more than one task. To ignore it would do what was not meant.
_PARENTS = {"parentids", "parentid", "parents", "parent"}
_DRY_RUN = {"dryrun"}
_TASKS = {"tasks", "task"}
_HARDLY_ELSE = 0.9  # "parents_ids", but not "patientIds", which is somebody's own
# What is meant by words that do not look alike.
_OTHER_WORDS = {"attempts": "remainingAttempts", "retries": "remainingAttempts"} | dict.fromkeys(
    _PARENTS, "parentIds"
)
LONGEST = 60  # characters of a name that is shown
MOST = 10  # names that are shown at once


def is_only_a_mistake(name: str, value: object = None) -> bool:
    """Of a name that is not known: whether even those must refuse it who ignore others."""
    folded = _folded(name[:LONGEST])
    if folded in _TASKS:
        return isinstance(value, list | dict)
    if folded in _PARENTS | _DRY_RUN:
        return True
    return _meant(folded, ("parentIds", "dryRun"), _HARDLY_ELSE) is not None


def unknown(names: Iterable[str], known: Collection[str]) -> list[str]:
    return [name for name in names if name not in known]


def refuse(kind: str, name: str, known: Collection[str], more: str = "") -> NoReturn:
    """Raise InvalidInputError for this name of a `kind` ("field", "parameter")."""
    raise InvalidInputError(f"unknown {kind} {shown(name)}{_hint('; {}?', name, known)}{more}")


def with_hints(names: Iterable[str], known: Collection[str]) -> str:
    """The names, each once, with what may have been meant, for a log or a note."""
    some = list(dict.fromkeys(names))
    words = [f"{shown(name)}{_hint(' ({}?)', name, known)}" for name in some[:MOST]]
    return ", ".join(words + ["..."] * (len(some) > MOST))


def in_header(names: Iterable[str]) -> str:
    """The names as a header can carry them."""
    some = list(dict.fromkeys(names))
    words = [quote(name[:LONGEST], errors="replace") or '""' for name in some[:MOST]]
    return ", ".join(words + ["..."] * (len(some) > MOST))


def meant(name: str, known: Collection[str], *, alike: float = 0.7) -> str | None:
    """Which of the known names this one may be a slip of; with `alike` 1 only in its case."""
    return _meant(_folded(name[:LONGEST]), tuple(known), alike)


def shown(name: str) -> str:
    return name[:LONGEST] if name.isprintable() and name else repr(name[:LONGEST])


def _hint(words: str, name: str, known: Collection[str]) -> str:
    guess = meant(name, known)
    return words.format(f"did you mean {guess}") if guess else ""


@lru_cache(1024)  # a worker that says something else with each answer does so each time
def _meant(folded: str, known: tuple[str, ...], alike: float) -> str | None:
    other = _OTHER_WORDS.get(folded)
    if other in known:
        return other
    names = {_folded(word): word for word in known}
    found = get_close_matches(folded, names, n=1, cutoff=alike)
    return names[found[0]] if found else None


def _folded(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
