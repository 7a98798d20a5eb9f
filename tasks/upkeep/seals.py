"""Entries of the audit history are sealed: in batches, each with a digest of itself and of the seal
before it, so that none is changed, taken out or put in later without it being seen.

It is done after the commit of an act, by whichever process clears away, so that no act waits for
it: the newest entries are sealed within a minute or so. The digest of the last seal is logged;
who keeps it elsewhere can tell whether the end of the chain was cut off or all of it recreated.
"""

import json
import logging
from collections.abc import Iterable
from datetime import UTC
from hashlib import sha256
from itertools import groupby
from operator import attrgetter

from django.db.models import F, Max

from ..models import AuditEntry, AuditSeal

logger = logging.getLogger("crew.upkeep.seals")

BATCH = 1_000  # entries under one seal


def seal_some() -> int:
    """Seal the oldest that are not, in the caller's transaction and turn; return how many."""
    entries = list(AuditEntry.objects.filter(seal=None).order_by("id")[:BATCH])
    if not entries:
        return 0
    last = AuditSeal.objects.order_by("-number").first()
    number, previous = (last.number + 1, last.digest) if last else (1, "")
    digest = digest_of(number, previous, entries)
    AuditSeal.objects.create(
        number=number,
        previous=previous,
        digest=digest,
        count=len(entries),
        newest_at=max(entry.at for entry in entries),
    )
    AuditEntry.objects.filter(pk__in=[entry.pk for entry in entries]).update(seal=number)
    logger.info("The audit history is sealed up to seal %s: %s", number, digest)
    return len(entries)


def digest_of(number: int, previous: str, entries: Iterable[AuditEntry]) -> str:
    """The digest of a seal: of its number, the digest before, and all that its entries say."""
    digest = sha256(f"{number}\n{previous}\n".encode())
    for entry in entries:
        digest.update(f"{_line(entry)}\n".encode())
    return digest.hexdigest()


def broken() -> list[str]:
    """The seals that do not fit their entries or each other; and those that are missing."""
    seals = {seal.number: seal for seal in AuditSeal.objects.order_by("number").iterator()}
    sealed = AuditEntry.objects.exclude(seal=None).order_by("seal", "id").iterator(BATCH)
    entries = groupby(sealed, key=attrgetter("seal"))
    unfit = _unlinked(seals)
    seen = set()
    for number, group in entries:
        seen.add(number)
        if number not in seals or not _fits(seals[number], group):
            unfit.add(number)
    unfit |= {number for number, seal in seals.items() if not seal.is_pruned} - seen
    return [f"seal {number}" for number in sorted(unfit) if not _is_well(number)]


def _line(entry: AuditEntry) -> str:
    """What an entry says, in one form; without whose row it was: that is lost with the row."""
    said = [
        entry.pk,
        entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        entry.who,
        entry.address,
        entry.verb,
        entry.kind,
        entry.target,
        entry.group_id,
        entry.count,
        entry.ids,
        entry.is_imported,
        entry.detail,
    ]
    return json.dumps(said, sort_keys=True, separators=(",", ":"))


def _fits(seal: AuditSeal, entries: Iterable[AuditEntry]) -> bool:
    rows = list(entries)
    same = digest_of(seal.number, seal.previous, rows) == seal.digest
    return same and len(rows) == seal.count and not seal.is_pruned


def _unlinked(seals: dict[int, AuditSeal]) -> set[int]:
    """Those that do not follow the one before. The first is the very first, or what is left of
    the last that was pruned."""
    found = set()
    before: AuditSeal | None = None
    for number, seal in seals.items():
        if before is None:
            is_linked = seal.is_pruned or (number == 1 and not seal.previous)
        else:
            is_linked = (number, seal.previous) == (before.number + 1, before.digest)
        if not is_linked:
            found.add(number)
        before = seal
    return found


def _is_well(number: int) -> bool:
    """A second look: what was pruned or sealed between the first ones is not broken."""
    rows = AuditEntry.objects.filter(seal=number).order_by("id")
    entries = list(rows)
    seal = AuditSeal.objects.filter(number=number).first()
    if seal is None:
        return not rows.exists() and _was_pruned(number)
    before = AuditSeal.objects.filter(number=number - 1).first()
    if seal.is_pruned:
        return before is None and not entries
    is_linked = before.digest == seal.previous if before else number == 1 and not seal.previous
    return is_linked and _fits(seal, entries)


def _was_pruned(number: int) -> bool:
    pruned = AuditSeal.objects.filter(is_pruned=True).aggregate(last=Max(F("number")))["last"]
    return pruned is not None and number < pruned
