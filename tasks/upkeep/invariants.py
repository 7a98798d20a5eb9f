"""What must always be true of the rows. Each invariant finds the ids that break it; reads only.

Every search is one statement, so that it sees one state of the store and may run at any time.
What can be repaired is repaired in `engine/repair.py`.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from ..conf import conf
from ..insight.fleet.resting import IS_ILL
from ..models import CutCall, Limit, ParentEdge, SchedulerProcess, Task, Workgroup
from ..models.queries import READY, TaskQuerySet
from ..sql import Statement, on_postgres, read, run, statement
from . import seals

OVERDUE = timedelta(seconds=10)


# All rows are read: never one side once for each row of the other, which is what PostgreSQL plans
# where its statistics are of tables that were empty.
_READ_ONCE = statement(
    postgresql="SELECT set_config('enable_nestloop', 'off', true)", sqlite="SELECT 1"
)


@dataclass(frozen=True, slots=True)
class Invariant:
    """What must be true of all rows. A warning may have a harmless cause."""

    name: str
    sentence: str
    search: Callable[[], Iterable[str]]
    is_warning: bool = False

    def find(self) -> list[str]:
        """The ids that break it."""
        if not on_postgres():
            return list(self.search())
        with transaction.atomic():
            run(_READ_ONCE, {})
            ids = list(self.search())
            transaction.set_rollback(True)  # the setting is for no statement after these
        return ids


def _rows(sql: str) -> Callable[[], list[str]]:
    return _statement_rows(statement(postgresql=sql, sqlite=sql))


def _statement_rows(what: Statement) -> Callable[[], list[str]]:
    return lambda: [row[0] for row in run(what, {})]


def lost_leases() -> Iterable[str]:
    silence = timedelta(seconds=conf.CREW_LEASE_SECONDS + 2 * conf.CREW_SWEEP_SECONDS)
    living = SchedulerProcess.objects.filter(pk=OuterRef("leased_by"), beat_at__gte=Now() - silence)
    lost = Task.objects.claimed().filter(~Exists(living))
    return lost.order_by("id").values_list("id", flat=True)


def stray_cuts() -> Iterable[str]:
    """Calls that were given up, that nobody is going to end, or that were over long ago."""
    silence = timedelta(seconds=conf.CREW_LEASE_SECONDS + 2 * conf.CREW_SWEEP_SECONDS)
    living = SchedulerProcess.objects.filter(pk=OuterRef("scheduler"), beat_at__gte=Now() - silence)
    stray = CutCall.objects.filter(Q(~Exists(living), until=None) | Q(until__lt=Now() - silence))
    return stray.order_by("id").values_list("task_id", flat=True)


def stuck_followers() -> Iterable[str]:
    return stuck().order_by("id").values_list("id", flat=True)


def stuck() -> TaskQuerySet:
    """Tasks that wait for a task of their key which does not run."""
    leader = Task.objects.claimed().filter(
        pk=OuterRef("merged_into"), group=OuterRef("group"), key=OuterRef("key")
    )
    return Task.objects.incomplete().filter(~Exists(leader), merged_into__isnull=False)


def left_over() -> Iterable[str]:
    """Due tasks that nobody takes although a scheduler lives, and no hold or rest keeps them."""
    living = SchedulerProcess.objects.filter(
        beat_at__gte=Now() - timedelta(seconds=conf.CREW_LEASE_SECONDS)
    )
    held = Workgroup.objects.filter(pk=OuterRef("workgroup"), held_until__gt=Now() - OVERDUE)
    ill = Limit.objects.filter(IS_ILL, kind="worker", name=OuterRef("worker"))
    over = Task.objects.filter(
        READY, ~Exists(held), ~Exists(ill), Exists(living), run_after__lt=Now() - OVERDUE
    )
    return over.order_by("id").values_list("id", flat=True)


def cycles() -> Iterable[str]:
    open_edges = ParentEdge.objects.filter(
        Q(child__is_complete=False, parent__is_complete=False)
    ).values_list("parent_id", "child_id")
    return on_cycles(read(open_edges, 10_000))


def on_cycles(edges: Iterable[tuple[str, str]]) -> list[str]:
    """The ids on cycles, or between two cycles: Kahn's algorithm from both ends."""
    left = list(_peeled(edges))
    left = [(child, parent) for parent, child in left]
    left = list(_peeled(left))
    return sorted({id_ for edge in left for id_ in edge})


def _peeled(edges: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The edges that are left when whoever has nothing before it goes, again and again."""
    following: defaultdict[str, list[str]] = defaultdict(list)
    before: defaultdict[str, int] = defaultdict(int)
    for first, second in edges:
        following[first].append(second)
        before[second] += 1
    free = deque(id_ for id_ in following if not before[id_])
    while free:
        for second in following.pop(free.popleft(), ()):
            before[second] -= 1
            if not before[second]:
                free.append(second)
    return ((first, second) for first, seconds in following.items() for second in seconds)


INVARIANTS = (
    Invariant(
        "pending_parents",
        "A task's pending_parents is the number of its parents that are not complete.",
        _rows("""
            SELECT t.id FROM crew_task t LEFT JOIN (
                SELECT e.child_id, count(*) AS n
                FROM crew_parentedge e JOIN crew_task p ON p.id = e.parent_id
                WHERE NOT p.is_complete GROUP BY e.child_id
            ) counted ON counted.child_id = t.id
            WHERE t.pending_parents <> coalesce(counted.n, 0) ORDER BY t.id
        """),
    ),
    Invariant(
        "edge_ends",
        "Both ends of an edge exist.",
        _rows("""
            SELECT e.parent_id || ' -> ' || e.child_id FROM crew_parentedge e
            LEFT JOIN crew_task p ON p.id = e.parent_id
            LEFT JOIN crew_task c ON c.id = e.child_id
            WHERE p.id IS NULL OR c.id IS NULL ORDER BY 1
        """),
    ),
    Invariant(
        "edge_group",
        "An edge stays inside one group and joins two different tasks.",
        _rows("""
            SELECT e.parent_id || ' -> ' || e.child_id FROM crew_parentedge e
            JOIN crew_task p ON p.id = e.parent_id JOIN crew_task c ON c.id = e.child_id
            WHERE p.group_id <> c.group_id OR p.id = c.id ORDER BY 1
        """),
    ),
    Invariant("no_cycle", "No task waits for itself through its parents.", cycles),
    Invariant(
        "lease",
        "A leased task belongs to a scheduler that was heard of within a lease and two sweeps.",
        lost_leases,
    ),
    Invariant(
        "open_attempt",
        "The attempt that a lease is for has not ended.",
        _rows("""
            SELECT t.id FROM crew_task t
            JOIN crew_attempt a ON a.task_id = t.id AND a.number = t.attempt
            WHERE t.leased_by IS NOT NULL ORDER BY t.id
        """),
    ),
    Invariant(
        "key_runs_once",
        "No two tasks of one key run at once in a group.",
        _rows("""
            SELECT min(t.id) FROM crew_task t WHERE t.leased_by IS NOT NULL AND t.key <> ''
            GROUP BY t.group_id, t.key HAVING count(*) > 1 ORDER BY 1
        """),
    ),
    Invariant(
        "cut_call",
        "A call that was given up is its scheduler's to end, or takes its slot for a while only.",
        stray_cuts,
    ),
    Invariant(
        "cut_lease",
        "A call that was given up holds no lease.",
        _rows("""
            SELECT c.task_id FROM crew_cutcall c JOIN crew_task t ON t.id = c.task_id
            WHERE t.attempt = c.attempt AND t.leased_by = c.scheduler AND c.until IS NULL
             AND t.created_at < c.since ORDER BY 1
        """),
    ),
    Invariant(
        "follower",
        "A task that follows another of its key follows one that runs.",
        stuck_followers,
    ),
    Invariant(
        # Behind the reach of the walk that the claim makes, one may.
        "follows_ancestor",
        "No task follows its own ancestor.",
        _rows("""
            WITH RECURSIVE below(leader, id) AS (
                SELECT DISTINCT f.merged_into, f.merged_into FROM crew_task f
                JOIN crew_parentedge e ON e.child_id = f.id
                WHERE f.merged_into IS NOT NULL AND NOT f.is_complete
                UNION
                SELECT b.leader, e.child_id FROM below b
                JOIN crew_parentedge e ON e.parent_id = b.id
            )
            SELECT f.id FROM crew_task f JOIN below b ON b.leader = f.merged_into AND b.id = f.id
            WHERE NOT f.is_complete ORDER BY f.id
        """),
        is_warning=True,
    ),
    Invariant(
        # A leader may have been reset or deleted since, and another made under its id; that it
        # never completed is wrong.
        "merged",
        "A task completed by another follows one of its group that has completed.",
        _rows("""
            SELECT t.id FROM crew_task t JOIN crew_task l ON l.id = t.merged_into
            WHERE t.is_complete AND l.created_at <= t.completed_at
             AND (l.group_id <> t.group_id OR (
                NOT l.is_complete AND NOT EXISTS (
                    SELECT 1 FROM crew_attempt a
                    WHERE a.task_id = l.id AND a.outcome = 'completed')))
            ORDER BY t.id
        """),
    ),
    Invariant(
        "merged_key",
        "A task completed by another has its key, unless one of the keys was edited since.",
        _rows("""
            SELECT t.id FROM crew_task t JOIN crew_task l ON l.id = t.merged_into
            WHERE t.is_complete AND l.created_at <= t.completed_at AND l.key <> t.key ORDER BY t.id
        """),
        is_warning=True,
    ),
    Invariant(
        "task_count",
        "A group's task_count is the number of its tasks.",
        _rows("""
            SELECT g.id FROM crew_taskgroup g LEFT JOIN (
                SELECT group_id, count(*) AS n FROM crew_task GROUP BY group_id
            ) counted ON counted.group_id = g.id
            WHERE g.task_count <> coalesce(counted.n, 0) ORDER BY g.id
        """),
    ),
    Invariant(
        "attempt_number",
        "No attempt has a number that was not handed out, or that was handed out twice.",
        _rows("""
            SELECT DISTINCT t.id FROM crew_task t JOIN crew_attempt a ON a.task_id = t.id
            WHERE a.number > t.attempt OR a.number < 1
            UNION SELECT a.task_id FROM crew_attempt a
            GROUP BY a.task_id, a.number HAVING count(*) > 1 ORDER BY 1
        """),
    ),
    Invariant(
        "attempt_task",
        "An attempt's task exists.",
        _rows("""
            SELECT DISTINCT a.task_id FROM crew_attempt a
            WHERE NOT EXISTS (SELECT 1 FROM crew_task t WHERE t.id = a.task_id) ORDER BY 1
        """),
    ),
    Invariant(
        "complete",
        "A complete task, and no other, has a completion time, and nobody runs it.",
        _rows("""
            SELECT t.id FROM crew_task t
            WHERE t.is_complete <> (t.completed_at IS NOT NULL)
               OR (t.is_complete AND t.leased_by IS NOT NULL) ORDER BY t.id
        """),
    ),
    Invariant(
        "shared_output",
        "The shared output that a task refers to exists.",
        _rows("""
            SELECT t.id FROM crew_task t LEFT JOIN crew_sharedoutput o ON o.id = t.shared_output_id
            WHERE t.shared_output_id IS NOT NULL AND o.id IS NULL ORDER BY t.id
        """),
    ),
    Invariant(
        "one_output",
        "A task with an output of its own refers to no shared one.",
        _rows("""
            SELECT t.id FROM crew_task t
            WHERE t.shared_output_id IS NOT NULL AND t.output IS NOT NULL ORDER BY t.id
        """),
    ),
    Invariant(
        # For a minute or so after the last of its tasks has gone, none does.
        "output_used",
        "Some task refers to each shared output.",
        _rows("""
            SELECT CAST(o.id AS text) FROM crew_sharedoutput o
            WHERE NOT EXISTS (SELECT 1 FROM crew_task t WHERE t.shared_output_id = o.id)
            ORDER BY o.id
        """),
        is_warning=True,
    ),
    Invariant(
        "audit_seal",
        "Each seal of the audit history fits its entries and the seal before it.",
        seals.broken,
    ),
    Invariant(
        "errors",
        "A task keeps at most 50 errors.",
        _statement_rows(
            statement(
                postgresql="""
                    SELECT t.id FROM crew_task t WHERE jsonb_typeof(t.errors) <> 'array'
                        OR jsonb_array_length(CASE jsonb_typeof(t.errors) WHEN 'array'
                                              THEN t.errors ELSE '[]' END) > 50
                    ORDER BY t.id
                """,
                sqlite="""
                    SELECT t.id FROM crew_task t WHERE json_type(t.errors) <> 'array'
                        OR json_array_length(t.errors) > 50 ORDER BY t.id
                """,
            )
        ),
    ),
)

# Only meaningful when nothing else should be going on.
QUIET = Invariant(
    "left_over",
    "No task has been ready for more than 10 seconds while a scheduler lives.",
    left_over,
    is_warning=True,
)
