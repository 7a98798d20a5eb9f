"""Rows that have had their time go: changes every browser has seen, answers kept for a day, dead
tokens, old entries of the audit history. Each is one query on an index; a scheduler asks for it
now and then.
"""

from datetime import timedelta

from django.db.models.functions import Now

from . import access, audit, publish
from .models import RepeatableCall

CALLS_KEPT = timedelta(hours=24)


def prune() -> dict[str, int]:
    """Delete them; return how many of each went."""
    calls = RepeatableCall.objects.filter(at__lt=Now() - CALLS_KEPT)
    return {
        "changes": publish.prune(),
        "calls": calls.delete()[0],
        "tokens": access.prune(),
        "audit": audit.prune(),
    }
