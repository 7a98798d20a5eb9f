"""Answers that came after their lease was lost are kept, and never applied.

Beside the attempt they answer; where that went with its task, as an entry of the audit history.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import audit
from ..models import Attempt, AuditEntry
from ..redact import one_line
from ..rules.jsonio import dump
from ..rules.transcript import Transcript
from ..sql import late_answers as sql
from ..sql import run
from ..sql.probes import among, probed
from .claim import Lease

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LateAnswer:
    """`outcome` is a word of `models.Outcome`."""

    lease: Lease
    outcome: str
    status: int | None
    error: str
    transcript: Transcript


def record(answers: Sequence[LateAnswer]) -> None:
    """Keep them, in the running transaction; what is on record already stays as it is."""
    if not answers:
        return
    rows = [
        {
            "id": each.lease.task_id,
            "attempt": each.lease.attempt,
            "scheduler": each.lease.leased_by,
            "outcome": each.outcome,
            "status": each.status,
            "error": each.error,
            "request": each.transcript.request,
            "answer": each.transcript.answer,
        }
        for each in answers
    ]
    kept = set(run(sql.LATE, {"rows": dump(rows)}))
    left = [each for each in answers if _key(each.lease) not in kept]
    known = _ended(left) if left else set()
    for each in answers:
        if _fence(each.lease) in known:
            # Written before: the commit's answer was lost, and the batch was tried again.
            logger.info("Task %s: attempt %s is settled already", *_key(each.lease))
        else:
            _tell(each)
    _record_gone([each for each in left if _fence(each.lease) not in known])


def _ended(answers: Sequence[LateAnswer]) -> set[tuple[str, int, str]]:
    """The fences of those whose attempt is on record."""
    ids = [each.lease.task_id for each in answers]
    ended = Attempt.objects.filter(probed("task_id", ids))
    return set(ended.values_list("task_id", "number", "scheduler"))


def _record_gone(answers: Sequence[LateAnswer]) -> None:
    """The task was deleted, and perhaps recreated: its history outlives it."""
    if not answers:
        return
    ids = [each.lease.task_id for each in answers]
    entries = AuditEntry.objects.filter(among("target", ids), verb="late")
    before = {(id_, detail["attempt"]) for id_, detail in entries.values_list("target", "detail")}
    for each in answers:
        lease = each.lease
        if _key(lease) in before:
            continue
        detail: dict[str, Any] = {
            "attempt": lease.attempt,
            "outcome": each.outcome,
            "status": each.status,
        }
        with audit.by(f"worker:{lease.worker}"):
            audit.record("late", audit.Kind.TASK, lease.task_id, group_id=lease.group_id, **detail)


def _tell(each: LateAnswer) -> None:
    text = "Task %s: the answer to attempt %s (%s) came late and was dropped"
    logger.warning(text, one_line(each.lease.task_id), each.lease.attempt, each.outcome)


def _key(lease: Lease) -> tuple[str, int]:
    return lease.task_id, lease.attempt


def _fence(lease: Lease) -> tuple[str, int, str]:
    return lease.task_id, lease.attempt, lease.leased_by
