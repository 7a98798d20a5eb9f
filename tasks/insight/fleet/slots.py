"""How the slots of the schedulers that are alive are taken, as the database tells. Reads only.

An answer that waits to be settled counts as in flight here, while its scheduler's slot is free.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count

from ...models import CutCall, SchedulerProcess, Task
from ...rules.fair_share import may_take

Leases = Sequence[tuple[str, str, int]]  # scheduler, worker, how many


@dataclass(frozen=True, slots=True)
class Slots:
    """Of one scheduler: all it has, and how many of them each worker has."""

    total: int
    taken: Counter[str]

    @property
    def free(self) -> int:
        return max(0, self.total - self.taken.total())

    def open_to(self, worker: str) -> int:
        """How many attempts of the worker would start here, if it had them all."""
        taken, free = self.taken[worker], self.free
        return may_take(taken=taken, free=free, total=self.total) or int(free == 1 and not taken)


def leases() -> Leases:
    """And the calls that are being ended: their schedulers still have them in flight."""
    rows = Task.objects.filter(leased_by__isnull=False).order_by()
    cut = CutCall.objects.filter(until=None).order_by()
    return [
        *rows.values_list("leased_by", "worker").annotate(n=Count("*")),
        *cut.values_list("scheduler", "worker").annotate(n=Count("*")),
    ]


def slots(leases: Leases) -> list[Slots]:
    """Of each scheduler that is alive."""
    taken: dict[str, Counter[str]] = {}
    for scheduler, worker, n in leases:
        taken.setdefault(scheduler, Counter())[worker] += n
    alive = SchedulerProcess.objects.alive().values_list("pk", "slots")
    return [Slots(total, taken.get(id_, Counter())) for id_, total in alive]
