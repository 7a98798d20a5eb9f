"""What a query string asks for. The old names are read leniently, as the old Crew read them."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from django.db import transaction
from rest_framework.request import Request

from ..conf import conf
from ..errors import InvalidInputError
from ..insight.cursor import After
from ..insight.find import Page, TaskFilter
from ..insight.find import page as page_of
from ..rules import spelling
from ..rules.names import check_id, check_text

# Longer numbers are none to the old Crew either.
WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
PAGES = ("page", "pageSize")
PAGING = (*PAGES, "after")
FILTERS = ("search", "q", "skipCompleted", "state", "worker", "workgroup", "key", "seeds")
MOST_PAGES = 10**9
LONGEST_PLACE = 300  # characters
KEY = "HTTP_IDEMPOTENCY_KEY"
ALMOST_KEYS = ("HTTP_X_IDEMPOTENCY_KEY", "HTTP_IDEMPOTENCYKEY", "HTTP_IDEMPOTENT_KEY")
IF_MATCH = "HTTP_IF_MATCH"
PRECONDITIONS = (IF_MATCH, "HTTP_IF_UNMODIFIED_SINCE")
DRY_RUN_HEADERS = ("HTTP_DRY_RUN", "HTTP_DRYRUN", "HTTP_X_DRY_RUN", "HTTP_X_DRYRUN")
# Go's words.
TRUE = {"1", "t", "T", "TRUE", "true", "True"}
FALSE = {"0", "f", "F", "FALSE", "false", "False"}


def page(request: Request, *, strict: bool = False) -> Page:
    """`page` and `pageSize`; what is not a whole number counts as not given (contract 1.3).

    `strict`, for routes that are ours: raises InvalidInputError for anything but a page that
    can be.
    """
    number, size = _number(request, "page", 1), _number(request, "pageSize", 20)
    if strict and not (
        _is_within(request, "page", MOST_PAGES)
        and _is_within(request, "pageSize", conf.CREW_MAX_PAGE)
    ):
        raise InvalidInputError(f"page counts from 1, pageSize goes up to {conf.CREW_MAX_PAGE}")
    return page_of(number, size, most=conf.CREW_MAX_PAGE, most_all=conf.CREW_MAX_PAGE_ALL)


def after(request: Request) -> After | None:
    """The part of a list that `after` and `pageSize` ask for; None where pages are counted.

    Raises InvalidInputError for a size that cannot be.
    """
    place = request.query_params.get("after")
    if place is None:
        return None
    if "page" in request.query_params:
        raise InvalidInputError("a list goes on after a place, or at a page, not both")
    if (
        "\0" in place
        or len(place) > LONGEST_PLACE
        or not _is_within(request, "pageSize", MOST_PAGES)
    ):
        raise InvalidInputError("after is the next that was answered, pageSize a number from 1 up")
    return After(place, min(_number(request, "pageSize", 20), conf.CREW_MAX_PAGE))


def search(request: Request) -> str:
    return given(request, "search") or ""


def task_filter(
    request: Request, *, ids: tuple[str, ...] | None = None, strict: bool = False
) -> TaskFilter:
    """The tasks that the query names. Raises InvalidInputError for an unknown state.

    `strict`: also for a `skipCompleted` that is neither true nor false.
    """
    states = given(request, "state")
    skip = sure if strict else flag
    return TaskFilter(
        search=search(request),
        q=given(request, "q") or "",
        skip_completed=skip(request, "skipCompleted"),
        states=() if states is None else tuple(part.strip() for part in states.split(",")),
        worker=given(request, "worker"),
        workgroup=given(request, "workgroup"),
        key=given(request, "key"),
        seeds=skip(request, "seeds"),
        ids=ids,
    )


def flag(request: Request, name: str) -> bool:
    """Go's words for true; everything else is false (contract 1.4)."""
    return request.query_params.get(name) in TRUE


def sure(request: Request, name: str) -> bool:
    """A flag of ours, where a slip must not mean "no". Raises InvalidInputError."""
    value = request.query_params.get(name)
    if value is not None and value not in TRUE | FALSE:
        raise InvalidInputError(f"{name} must be true or false")
    return value in TRUE


@contextmanager
def dry_run(request: Request) -> Iterator[None]:
    """With `?dryRun=1` everything is done and checked, and then taken back."""
    if not sure(request, "dryRun"):
        yield
        return
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def children(request: Request) -> str:
    """What becomes of the children of deleted tasks."""
    value = request.query_params.get("children", "cascade")
    if value not in ("cascade", "detach", "refuse"):
        raise InvalidInputError("children must be cascade, detach or refuse")
    return str(value)


def only(request: Request, names: Collection[str]) -> None:
    """Raise InvalidInputError for a parameter that is unknown or comes twice: it may be a slip."""
    for name, values in request.query_params.lists():
        if name not in names:
            _refuse(name, names)
        if len(values) > 1:
            raise InvalidInputError(f"{name} comes twice")


def ignored(request: Request, names: Collection[str]) -> list[str]:
    """The parameters that the old Crew would have ignored. Raises InvalidInputError for those
    that can only be a mistake, of a call that does something.
    """
    unknown = spelling.unknown(request.query_params, names)
    if request.method != "GET":
        for name in filter(spelling.is_only_a_mistake, unknown):
            _refuse(name, names)
        if len(request.query_params.getlist("dryRun")) > 1:
            raise InvalidInputError("dryRun comes twice")
    return unknown


def refuse_headers(request: Request, *, is_guarded: bool) -> None:
    """Raise InvalidInputError for what a header asks of a call that nobody would look at."""
    for name in (*DRY_RUN_HEADERS, *PRECONDITIONS):
        if name in request.META and not (is_guarded and name == IF_MATCH):
            how = "dryRun is a parameter of the query, where there is one"
            why = "none is looked at here" if name in PRECONDITIONS else how
            raise InvalidInputError(f"{_header(name)} is no header of this call; {why}")


def ignored_headers(request: Request, *, is_repeatable: bool) -> list[str]:
    """What was sent for a call to be done once, and is not looked at."""
    if not is_repeatable:
        return [_header(KEY)] if KEY in request.META else []
    return [_header(name) for name in ALMOST_KEYS if name in request.META]


def _header(name: str) -> str:
    return name.removeprefix("HTTP_").replace("_", "-").title()


def _refuse(name: str, names: Collection[str]) -> None:
    spelling.refuse("parameter", name, names, f"; known here: {', '.join(names) or 'none'}")


def whole(request: Request, name: str, default: int) -> int:
    """A whole number from 0 up. Raises InvalidInputError for anything else."""
    value = request.query_params.get(name, str(default))
    if not WHOLE.fullmatch(value) or int(value) < 0:
        raise InvalidInputError(f"{name} must be a whole number")
    return int(value)


def ids(request: Request, name: str, *, most: int) -> list[str]:
    """Ids with commas between them. Raises InvalidInputError for what can be none, or too many."""
    found = [part for part in request.query_params.get(name, "").split(",") if part]
    if len(found) > most:
        raise InvalidInputError(f"{name} holds more than {most} ids")
    try:
        return [check_id(part) for part in found]
    except ValueError as error:
        raise InvalidInputError(str(error)) from error


def _is_within(request: Request, name: str, most: int) -> bool:
    value = request.query_params.get(name)
    return value is None or (WHOLE.fullmatch(value) is not None and 0 < int(value) <= most)


def _number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, "")
    return int(value) if WHOLE.fullmatch(value) else default


def sent(request: Request, names: Collection[str]) -> dict[str, str]:
    """Those of the parameters that were sent, as they were."""
    return {name: request.query_params[name] for name in names if name in request.query_params}


def given(request: Request, name: str) -> str | None:
    """A text of the query, None without. Raises InvalidInputError for a NUL, or too long."""
    value = request.query_params.get(name)
    if value is None:
        return None
    try:
        return check_text(value, name)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
