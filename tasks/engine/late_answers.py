"""Answers that came after their lease was lost are kept, and never applied.

Beside the attempt they answer; where that went with its task, as an entry of the audit history.
"""

import logging
from collections.abc import Sequence
from typing import Any

from .. import audit
from ..models import Attempt, AuditEntry, Task
from ..redact import one_line
from ..rules.decide import Interrupted
from ..rules.jsonio import dump
from ..sql import late_answers as sql
from ..sql import run
from ..sql.probes import among, probed
from .lease import Lease
from .settlement import Abandoned, Returned, Settlement

logger = logging.getLogger("crew.engine.late_answers")


def record(late: Sequence[Settlement]) -> None:
    """Keep those that are answers, in the running transaction; what is on record stays as it is.

    No answer is what a rescue finds settled, what was never sent, and what we cut.
    """
    answers = [s for s in late if not isinstance(s.outcome, Abandoned | Returned | Interrupted)]
    if not answers:
        return
    rows = [
        {
            "id": each.lease.task_id,
            "attempt": each.lease.attempt,
            "scheduler": each.lease.leased_by,
            "outcome": each.kind,
            "status": each.status,
            "error": each.error,
            "request": each.transcript.request,
            "answer": each.transcript.answer,
        }
        for each in answers
    ]
    kept = set(run(sql.LATE, {"rows": dump(rows)}))
    left = [each for each in answers if each.key not in kept]
    known = _ended(left) if left else set()
    for each in answers:
        if each.fence in known:
            # Written before: the commit's answer was lost, and the batch was tried again.
            logger.info("Task %s: attempt %s is settled already", *each.key)
        else:
            _tell(each)
    _record_gone([each for each in left if each.fence not in known])


def _ended(answers: Sequence[Settlement]) -> set[tuple[str, int, str]]:
    """The fences of those whose attempt is on record."""
    ids = [each.lease.task_id for each in answers]
    ended = Attempt.objects.filter(probed("task_id", ids))
    return set(ended.values_list("task_id", "number", "scheduler"))


def _record_gone(answers: Sequence[Settlement]) -> None:
    """The task was deleted, and perhaps recreated: its history outlives it."""
    if not answers:
        return
    ids = [each.lease.task_id for each in answers]
    entries = AuditEntry.objects.filter(among("target", ids), verb="late")
    before = {(id_, detail["attempt"]) for id_, detail in entries.values_list("target", "detail")}
    for each in answers:
        lease = each.lease
        if each.key in before:
            continue
        detail: dict[str, Any] = {
            "attempt": lease.attempt,
            "outcome": each.kind,
            "status": each.status,
        }
        with audit.by(f"worker:{lease.worker}"):
            audit.record("late", audit.Kind.TASK, lease.task_id, group_id=lease.group_id, **detail)


def _tell(each: Settlement) -> None:
    text = "Task %s: the answer to attempt %s (%s) came late and was dropped"
    logger.warning(text, one_line(each.lease.task_id), each.lease.attempt, each.kind)


def is_late(lease: Lease) -> bool:
    fence = {"pk": lease.task_id, "attempt": lease.attempt, "leased_by": lease.leased_by}
    return not Task.objects.filter(**fence).exists()
