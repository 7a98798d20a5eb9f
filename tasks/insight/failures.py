"""Tasks without attempts left, grouped by worker and kind of error. Reads only.

A kind of error is its `fingerprint`, computed here over the newest `LOOKED_AT` failed tasks: so
its rules may change without a row being rewritten, and a settle writes nothing for it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

from django.db.models import F, FilteredRelation, Func, Q, TextField
from django.db.models.functions import Coalesce, Left

from ..models import Task
from ..rules.jsonio import dump
from ..sql import overview as sql
from ..sql import run
from ..sql.probes import probed
from .find import Page

LOOKED_AT = 10_000  # failed tasks that are read and grouped: the newest
COUNTED = 100_000  # failed tasks are counted so far and no further
IDS_PER_STATEMENT = 10_000  # rows of one look-up
GROUPS = 10  # groups named in one failure
FIRST_PAGE = Page(0, 50)
MAX_LENGTH = 300  # characters of an error that are shown and looked at

_STATUS = re.compile(r"HTTP \d{3}\b")
_ZEROS = str.maketrans("123456789", "0" * 9)
# Each begins with what is rare, so that a long text is passed over fast.
_QUOTED = re.compile(
    r'''"(?P<name>[\w .-]{1,60})"\s{0,9}:\s{0,9}"(?P<value>[^"\n]*)"'''
    r"""|"[^"\n]*"|(?<!\w)'[^'\n]*'(?!\w)|`[^`\n]*`"""
)
_QUERY = re.compile(r"""\?[\w.~-]+=[^\s"'<>)\]]*""")
_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_IS_UUID = re.compile(_UUID)
_TOKEN = re.compile(rf"{_UUID}|(?<![\w.:+-])[\w.:+-]*\d[\w.:+-]*")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:T[\d:.+Z-]+)?|\d\d:\d\d:\d\d[\d.+Z-]*")
_PART = re.compile(r"[^\W_]*\d[^\W_]*")
_SIMPLE = re.compile(r"\d*[^\W\d]*|[^\W\d]*\d*")  # a number and a unit, a name and a number
_HEX = re.compile(r"[0-9a-fA-F]{6,}|0x[0-9a-fA-F]+")
_DIGITS = re.compile(r"\d+")
_NUMBERS = re.compile(r"<n>(?:[.,]<n>)+")


@dataclass(frozen=True, slots=True)
class Failure:
    """Failed tasks of one worker with one kind of error, of those looked at.

    `error`, `status` and `task_id` are of the newest. `group_ids` are some of `group_count`.
    `status` is None when there was no HTTP answer. `error` is empty for tasks that were created
    without attempts, or cancelled before their first.
    """

    key: str
    worker: str
    fingerprint: str
    count: int
    newest_at: datetime
    error: str
    status: int | None
    task_id: str
    group_ids: tuple[str, ...]
    group_count: int


@dataclass(frozen=True, slots=True)
class Failures:
    """A page of `kinds` kinds of failure, newest first.

    There are `total` failed tasks (at least so many, from `COUNTED` on). When `is_capped`, only
    the newest `LOOKED_AT` of them were grouped and counted.
    """

    found: tuple[Failure, ...]
    kinds: int
    total: int
    is_capped: bool


def failures(
    group_id: str | None = None,
    group_ids: Iterable[str] | None = None,
    at: Page = FIRST_PAGE,
) -> Failures:
    """What failed for good: in one group, in the groups a caller may see, or everywhere."""
    with sql.steered():
        ids, total = _newest(_scope(group_id, group_ids), LOOKED_AT)
        looked_at = list(_rows(ids))
    kinds: defaultdict[tuple[str, str], list[_Row]] = defaultdict(list)
    for row in looked_at:
        kinds[row.worker, fingerprint(row.error)].append(row)
    found = sorted(
        (_failure(worker, print_, rows) for (worker, print_), rows in kinds.items()),
        key=lambda failure: (failure.newest_at, failure.key),
        reverse=True,
    )
    page = tuple(at.of(found))
    return Failures(page, len(found), total, total > LOOKED_AT)


def tasks_of(
    key: str, group_id: str | None = None, group_ids: Iterable[str] | None = None
) -> dict[str, list[str]]:
    """The ids of the failed tasks of a `Failure.key`, by group: for `control.retry_tasks`.

    Not only of those that `failures` counted: of the newest `COUNTED`.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    with sql.steered():
        ids, _ = _newest(_scope(group_id, group_ids), COUNTED)
        for row in _rows(ids):
            if _key(row.worker, fingerprint(row.error)) == key:
                found[row.group_id].append(row.id)
    return dict(found)


def fingerprint(error: str) -> str:
    """The error with what differs from one task to the next replaced; the same for the same kind.

    Numbers, ids, times, addresses, quoted values and the queries of URLs are replaced; the HTTP
    status is not, and neither are the words of a JSON body.
    """
    error = error[:MAX_LENGTH]
    found = _STATUS.match(error)
    status = found[0] if found else ""
    return status + _kind(error[len(status) :].translate(_ZEROS))


# Which digits there are makes no difference, so a thousand errors are often one text here.
@lru_cache(maxsize=4_096)
def _kind(text: str) -> str:
    text = _QUOTED.sub(_unquoted, text)
    text = _TOKEN.sub(_plain, _QUERY.sub("?<query>", text))
    return " ".join(_NUMBERS.sub("<n>", text).split())


def _unquoted(match: re.Match[str]) -> str:
    """In JSON the words are quoted too: of its values only what looks like an id is replaced."""
    if match["name"] is None:
        return "<text>"
    value = match["value"]
    is_id = " " not in value and any(map(str.isdigit, value))
    return f"{match['name']}: {'<text>' if is_id else value}"


def _plain(match: re.Match[str]) -> str:
    """A word that holds a digit; what it ends with does not belong to it."""
    word = match[0].rstrip(".:+-")
    end = match[0][len(word) :]
    if word.count("-") == 4 and _IS_UUID.fullmatch(word):
        return f"<id>{end}"
    if _TIME.fullmatch(word):
        return f"<time>{end}"
    return _PART.sub(_part, word) + end


def _part(match: re.Match[str]) -> str:
    part = match[0]
    if part.isdigit():
        return "<n>"
    if len(part) >= 12 or _HEX.fullmatch(part) or not _SIMPLE.fullmatch(part):
        return "<id>"
    return _DIGITS.sub("<n>", part)


# --- The rows --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    group_id: str
    worker: str
    error: str
    status: int | None
    failed_at: datetime


class _LastError(Func):
    """The last of a task's `errors`."""

    output_field = TextField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s ->> -1)", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "(%(expressions)s ->> '$[#-1]')"
        return self.as_sql(compiler, connection, template=template, **context)


def _scope(group_id: str | None, group_ids: Iterable[str] | None) -> list[str] | None:
    """The groups that are meant; None = all."""
    if group_id is None:
        return None if group_ids is None else sorted(group_ids)
    return [group_id] if group_ids is None or group_id in set(group_ids) else []


def _newest(groups: list[str] | None, most: int) -> tuple[list[str], int]:
    """The ids of the newest failed tasks, and how many there are."""
    params: dict[str, Any] = {} if groups is None else {"groups": dump(groups)}
    what, how_many = (sql.FAILED, sql.COUNT_FAILED)
    if groups is not None:
        what, how_many = (sql.FAILED_OF, sql.COUNT_FAILED_OF)
    ids = [id_ for (id_,) in run(what, params | {"most": most})]
    if len(ids) < most:
        return ids, len(ids)
    ((total,),) = run(how_many, params | {"most": COUNTED})
    return ids, total


def _rows(ids: list[str]) -> Iterator[_Row]:
    """These tasks, each with the error of its last attempt.

    A task that followed another of its key has no attempt, and the other's error in its `errors`.
    """
    tasks = Task.objects.annotate(
        last=FilteredRelation("attempts", condition=Q(attempts__number=F("attempt"))),
        text=Left(Coalesce("last__error", _LastError("errors")), MAX_LENGTH),
    ).values_list(
        "id",
        "group_id",
        "worker",
        "text",
        "last__status",
        "last__finished_at",
        "run_after",
        "error_delay_in_seconds",
    )
    for start in range(0, len(ids), IDS_PER_STATEMENT):
        some = tasks.filter(probed("id", ids[start : start + IDS_PER_STATEMENT]))
        for id_, group, worker, text, status, ended, due, delay in some:
            failed_at = ended or (due - timedelta(seconds=delay) if text else due)
            yield _Row(id_, group, worker, text or "", status, failed_at)


def _failure(worker: str, print_: str, rows: list[_Row]) -> Failure:
    by_age = sorted(rows, key=lambda row: row.failed_at, reverse=True)
    newest = by_age[0]
    groups = dict.fromkeys(row.group_id for row in by_age)
    return Failure(
        key=_key(worker, print_),
        worker=worker,
        fingerprint=print_,
        count=len(rows),
        newest_at=newest.failed_at,
        error=newest.error,
        status=newest.status,
        task_id=newest.id,
        group_ids=tuple(groups)[:GROUPS],
        group_count=len(groups),
    )


def _key(worker: str, print_: str) -> str:
    return sha256(f"{worker}\0{print_}".encode(errors="surrogatepass")).hexdigest()[:20]
