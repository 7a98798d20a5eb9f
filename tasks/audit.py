"""The audit history: who did what to what, when and from where.

A face says who acts (`by`); the verbs of `control`, `fleet` and `tokens` record what they do
(`record`), in the transaction of the act itself. So an act and its entry are both there, or
neither: an entry that cannot be written fails the act, aloud. Without an actor nothing is
recorded: code that calls the verbs names one by `with audit.by("nightly job"): ...`.

Creating tasks by the API is not recorded, it has its own times; nor is what workers do.
"""

import getpass
import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.db import DatabaseError, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from .conf import conf
from .models import AuditEntry, AuditSeal, Task
from .redact import one_line

__all__ = ["by"]

logger = logging.getLogger("crew.audit")

Kind = AuditEntry.Kind
UNKNOWN = "unknown"  # who it is; they may still be known by their address
REFUSED = {"denied", "login failed"}

LISTED = 50  # ids kept of an act on several tasks
LONGEST = 255  # characters of a name
DENIED_EVERY = 60.0  # seconds between two stored denials of one caller, in one process


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. `asked` is what they asked for, beside what the verb itself tells."""

    who: str
    user: Any = None
    address: str = ""
    asked: dict[str, Any] = field(default_factory=dict)


_actor: ContextVar[Actor | None] = ContextVar("crew_audit_actor", default=None)
_denied: dict[str, float] = {}
_denied_lock = threading.Lock()


# --- Who acts ----------------------------------------------------------------------------------


@contextmanager
def by(who: str, *, user: Any = None, address: str = "") -> Iterator[None]:
    """What is done within is recorded as theirs."""
    with _acting(Actor(who, user, address)):
        yield


@contextmanager
def nobody() -> Iterator[None]:
    """A call begins. `name` says who makes it, as soon as that is known."""
    with _acting(None):
        yield


def name(who: str, *, user: Any = None, address: str = "") -> None:
    """The call that `nobody` began is theirs."""
    _actor.set(Actor(who, user, address))


@contextmanager
def asking(**asked: Any) -> Iterator[None]:
    """What is done within was asked for like this, as by a filter."""
    actor = _actor.get()
    with _acting(actor and replace(actor, asked=actor.asked | asked)):
        yield


def at_shell() -> Actor:
    """Whoever runs this command, as the machine knows them."""
    try:
        return Actor(f"shell:{getpass.getuser()}")
    except (KeyError, OSError):  # a container's user may have no name
        return Actor("shell")


@contextmanager
def _acting(actor: Actor | None) -> Iterator[None]:
    before = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(before)


# --- What is recorded --------------------------------------------------------------------------


def record(
    verb: str,
    kind: str,
    target: str = "",
    *,
    group_id: str = "",
    count: int = 1,
    ids: Collection[str] = (),
    **detail: Any,
) -> None:
    """Write an entry of the actor's, in the caller's transaction. Raises as any write does."""
    actor = _actor.get()
    if actor is None:
        return
    entry = _entry(actor, verb, kind, target, group_id, detail)
    entry.count = count
    if 1 < len(ids) <= LISTED:
        entry.ids = "\n".join(["", *ids, ""])
    entry.save(force_insert=True)
    transaction.on_commit(partial(_tell, entry), robust=True)


def record_groups(verb: str, counts: Mapping[str, int]) -> None:
    """`record`, for each of these groups, by so many tasks each."""
    actor = _actor.get()
    if actor is None:
        return
    entries = [_entry(actor, verb, Kind.GROUP, id_, id_, {}) for id_ in counts]
    for entry in entries:
        entry.count = counts[entry.target]
    AuditEntry.objects.bulk_create(entries)
    for entry in entries:
        transaction.on_commit(partial(_tell, entry), robust=True)


def record_harmless(
    actor: Actor, verb: str, kind: str = "", target: str = "", **detail: Any
) -> None:
    """Write an entry about what changed nothing, as a failed login: it must fail nobody."""
    entry = _entry(actor, verb, kind, target, "", detail)
    _tell(entry)
    try:
        with transaction.atomic():
            entry.save(force_insert=True)
    except DatabaseError as error:
        logger.error("It could not be stored: %s", error)


def denied(method: str, path: str, why: str) -> None:
    """Somebody was refused. Each time a line in the log; at most one row a minute of a caller.

    A row only for a change that was tried, and of a caller that we know: a flood fills nothing.
    """
    actor = _actor.get()
    asked = {"method": method, "path": path[:LONGEST], "why": why[:LONGEST]}
    if actor is None or method in ("GET", "HEAD") or not _is_first(actor.who):
        _tell(_entry(actor or Actor(UNKNOWN), "denied", "", "", "", asked))
    else:
        record_harmless(actor, "denied", **asked)


def _is_first(who: str) -> bool:
    """Whether none of theirs was stored in the last minute, in this process."""
    now = time.monotonic()
    with _denied_lock:
        for old in [each for each, at in _denied.items() if at < now - DENIED_EVERY]:
            del _denied[old]
        if who in _denied:
            return False
        _denied[who] = now
    return True


def _entry(
    actor: Actor, verb: str, kind: str, target: str, group_id: str, detail: dict[str, Any]
) -> AuditEntry:
    # An embedder's authentication may give a user that is no row of ours.
    user = actor.user if isinstance(actor.user, get_user_model()) else None
    return AuditEntry(
        who=_storable(actor.who),
        user_id=user.pk if user else None,
        address=actor.address,
        verb=verb,
        kind=kind,
        target=_storable(target),
        group_id=group_id,
        detail=actor.asked | detail,
    )


def _storable(text: str) -> str:
    """No name of a failed login may be one that a database refuses."""
    return text.replace("\0", "").encode(errors="replace").decode()[:LONGEST]


def _tell(entry: AuditEntry) -> None:
    what = f"{entry.kind} {entry.target}".strip()
    line = f"{entry.who} from {entry.address or 'here'}: {entry.verb} {what}".rstrip()
    if entry.group_id and entry.kind != Kind.GROUP:
        line += f" in group {entry.group_id}"
    level = logging.WARNING if entry.verb in REFUSED else logging.INFO
    logger.log(level, "%s", one_line(f"{line}, count {entry.count}, {entry.detail}"))


# --- What is read ------------------------------------------------------------------------------


def of_group(group_id: str) -> QuerySet[AuditEntry]:
    """What was done to a group and its tasks, newest first; also of a group that is gone."""
    return AuditEntry.objects.filter(group_id=group_id).order_by("-id")


def of_task(task: Task) -> QuerySet[AuditEntry]:
    """What was done to a task, alone, with others or with its whole group, newest first.

    Of an act on more than `LISTED` tasks of its group nobody knows whether it was one of them.
    """
    alone = Q(kind=Kind.TASK, target=task.pk)
    listed = Q(kind=Kind.TASK, target="") & (Q(ids__contains=f"\n{task.pk}\n") | Q(ids=""))
    return of_group(task.group_id).filter(alone | listed | Q(kind=Kind.GROUP))


def prune(most: int) -> int:
    """Delete entries older than CREW_AUDIT_DAYS, so many at most; return how many.

    What is sealed goes by whole seals, from the beginning of the chain on: so the rest of it can
    still be proved. A seal has a thousand entries at most.
    """
    cutoff = Now() - timedelta(days=conf.CREW_AUDIT_DAYS)
    old = AuditEntry.objects.filter(at__lt=cutoff, seal=None).order_by("at")
    unsealed = AuditEntry.objects.filter(pk__in=old.values("pk")[:most])
    gone: int = unsealed._raw_delete(unsealed.db)
    return gone + (_prune_seals(cutoff, most - gone) if gone < most else 0)


def _prune_seals(cutoff: Any, most: int) -> int:
    young = AuditSeal.objects.filter(newest_at__gte=cutoff, is_pruned=False)
    first = young.order_by("number").values_list("number", flat=True).first()
    old = AuditSeal.objects.filter(is_pruned=False)
    if first is not None:
        old = old.filter(number__lt=first)
    last, count = None, 0
    for number, entries in old.order_by("number").values_list("number", "count")[:most]:
        if last is not None and count + entries > most:
            break
        last, count = number, count + entries
    if last is None:
        return 0
    AuditSeal.objects.filter(number__lt=last).delete()
    AuditSeal.objects.filter(number=last).update(is_pruned=True)
    sealed = AuditEntry.objects.filter(seal__lte=last)
    return sealed._raw_delete(sealed.db)
