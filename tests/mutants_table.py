"""The bugs that `mutants.py` plants: each is one that somebody could well make.

The texts are short, on lines that have few reasons to change, and found exactly once in their
file (`test_mutants.py` holds them to it). `tests` are the files that should notice.
"""

from dataclasses import dataclass

PG, LITE = "postgresql", "sqlite"
MACHINE = "tests/properties/test_machine.py"
CLAIM, SETTLE, RESCUE = "tests/test_claim.py", "tests/test_settle.py", "tests/test_rescue.py"
RACES = "tests/test_races.py"
CLOCK = "tests/test_clock.py"
CONTROL, CREATE = "tests/test_control.py", "tests/test_create.py"
SCHEDULER, DELIVER = "tests/test_scheduler.py", "tests/test_deliver.py"


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    database: str = PG


_PG_FENCE = "t.attempt = a.attempt AND t.leased_by IS NOT DISTINCT FROM a.leased_by"
_LITE_FENCE = "t.attempt = a.attempt AND t.leased_by = a.leased_by"
_SQL = "tasks/sql/"

MUTANTS = (
    # --- Claim ---
    Mutant(
        "claim: paused tasks too",
        _SQL + "__init__.py",
        "NOT t.is_complete AND NOT t.is_paused AND",
        "NOT t.is_complete AND",
        (CLAIM,),
        LITE,
    ),
    Mutant(
        "claim: parents ignored",
        _SQL + "__init__.py",
        " AND t.remaining_attempts > 0 AND t.pending_parents = 0",
        " AND t.remaining_attempts > 0",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "claim: followers too",
        _SQL + "__init__.py",
        "t.merged_into IS NULL AND NOT (t.worker = '')",
        "NOT (t.worker = '')",
        (CLAIM,),
    ),
    Mutant(
        "claim: attempt not counted",
        _SQL + "claim.py",
        "SET attempt = t.attempt + 1, leased_by = %(me)s, leased_at = {{now}}\n            FROM",
        "SET attempt = t.attempt, leased_by = %(me)s, leased_at = {{now}}\n            FROM",
        (MACHINE,),
    ),
    Mutant(
        "claim: waits for locked tasks",
        _SQL + "claim.py",
        "ORDER BY t.run_after LIMIT lane.n\n                FOR NO KEY UPDATE SKIP LOCKED",
        "ORDER BY t.run_after LIMIT lane.n\n                FOR NO KEY UPDATE",
        (RACES,),
    ),
    Mutant(
        "claim: hold not read again",
        _SQL + "claim.py",
        "WHERE NOT EXISTS (SELECT FROM crew_workgroup h",
        "WHERE true OR NOT EXISTS (SELECT FROM crew_workgroup h",
        (RACES,),
    ),
    Mutant(
        "claim: clock not read again",
        _SQL + "claim.py",
        "t.run_after <= {{now}} AND {{ready}}\n                ORDER BY t.run_after LIMIT lane.n",
        "{{ready}}\n                ORDER BY t.run_after LIMIT lane.n",
        (RACES,),
    ),
    Mutant(
        "claim: follows across groups",
        _SQL + "claim.py",
        "JOIN crew_task t ON t.group_id = leader.group_id AND t.key = leader.key",
        "JOIN crew_task t ON t.key = leader.key",
        (CLAIM,),
    ),
    Mutant(
        "claim: a second leader of a key",
        _SQL + "claim.py",
        "AND NOT EXISTS (SELECT FROM crew_task l\n",
        "AND NOT EXISTS (SELECT FROM (SELECT * FROM crew_task WHERE false) l\n",
        (CLAIM,),
    ),
    # --- Limits ---
    Mutant(
        "limit: those in flight not counted",
        "tasks/limits.py",
        "max(0, limit - in_flight)",
        "limit",
        (CLAIM,),
        LITE,
    ),
    Mutant(
        "limit: counted without the lock",
        _SQL + "claim.py",
        "ORDER BY w.name FOR NO KEY UPDATE",
        "ORDER BY w.name",
        (RACES,),
    ),
    Mutant(
        "limit: no half for the others",
        "tasks/limits.py",
        "free = slots // 2 if",
        "free = slots if",
        (CLAIM,),
        LITE,
    ),
    # --- Settle ---
    Mutant("settle: no fence", _SQL + "settle.py", _PG_FENCE, "true", (SETTLE,)),
    Mutant(
        "settle: fence by id and state",
        _SQL + "settle.py",
        _PG_FENCE,
        "t.leased_by IS NOT NULL",
        (SETTLE,),
    ),
    Mutant(
        "settle: fence by attempt only",
        _SQL + "settle.py",
        _PG_FENCE,
        "t.attempt = a.attempt",
        (SETTLE,),
    ),
    Mutant(
        "settle: fence by owner only",
        _SQL + "settle.py",
        _LITE_FENCE,
        "t.leased_by = a.leased_by",
        (SETTLE,),
        LITE,
    ),
    Mutant("settle: no fence on SQLite", _SQL + "settle.py", _LITE_FENCE, "true", (MACHINE,), LITE),
    Mutant(
        "settle: children in any lock order",
        _SQL + "settle.py",
        "ORDER BY t.id FOR NO KEY UPDATE OF t\n        ), freed",
        "ORDER BY random() FOR NO KEY UPDATE OF t\n        ), freed",
        (RACES,),
    ),
    Mutant(
        "settle: two parents count once",
        _SQL + "settle.py",
        "SELECT e.child_id AS id, sum(p.done)::int AS done",
        "SELECT e.child_id AS id, max(p.done)::int AS done",
        (SETTLE,),
    ),
    Mutant(
        "settle: a failure frees children",
        "tasks/settle.py",
        '"done": int(isinstance(settlement.outcome, Completed))',
        '"done": 1',
        (SETTLE,),
        LITE,
    ),
    Mutant(
        "settle: success costs no attempt",
        _SQL + "settle.py",
        "ELSE 1 END),\n        held_count",
        "ELSE CASE WHEN a.outcome = 'completed' THEN 0 ELSE 1 END END),\n        held_count",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "settle: rate limits cost attempts",
        _SQL + "settle.py",
        "CASE WHEN t.held_count >= 100 THEN 1 ELSE 0 END",
        "1",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "settle: a late answer kept of any end",
        _SQL + "settle.py",
        "h.number = l.attempt AND h.late_at IS NULL\n"
        "          AND h.outcome IN ('abandoned', 'cancelled')",
        "h.number = l.attempt AND h.late_at IS NULL",
        (MACHINE,),
    ),
    Mutant(
        "settle: maker is no parent",
        "tasks/create.py",
        "return (*spec.parent_ids, created_by) if created_by else spec.parent_ids",
        "return spec.parent_ids",
        (MACHINE,),
        LITE,
    ),
    # --- Holds ---
    Mutant(
        "hold: in a second transaction",
        "tasks/settle.py",
        "    _hold_workgroups(live)\n",
        "    transaction.on_commit(lambda: _hold_workgroups(live))\n",
        (RACES,),
    ),
    Mutant(
        "hold: shortened by an answer",
        _SQL + "settle.py",
        "WHERE h.held_until IS NULL OR h.held_until < excluded.held_until",
        "WHERE true",
        (SETTLE,),
    ),
    Mutant(
        "hold: the first of a batch counts",
        "tasks/settle.py",
        "= max(holds[s.lease.workgroup], wait)",
        "= holds[s.lease.workgroup] if holds[s.lease.workgroup][0] else wait",
        (SETTLE,),
        LITE,
    ),
    # --- Merges ---
    Mutant(
        "merge: across groups",
        _SQL + "settle.py",
        "JOIN crew_task t ON t.group_id = l.group_id AND t.key = l.key",
        "JOIN crew_task t ON t.key = l.key",
        (MACHINE,),
    ),
    Mutant(
        "merge: children of duplicates forgotten",
        "tasks/settle.py",
        "for id_, _, complete in merged if complete]",
        "for id_, _, complete in merged if not complete]",
        (SETTLE,),
        LITE,
    ),
    Mutant(
        "merge: complete ones too",
        _SQL + "settle.py",
        "AND t.key <> '' AND NOT t.is_complete\n            WHERE t.leased_by IS NULL AND t.id",
        "AND t.key <> ''\n            WHERE t.leased_by IS NULL AND t.id",
        (MACHINE,),
    ),
    Mutant(
        "merge: followers of a deleted leader stuck",
        "tasks/edges.py",
        "followers.update(merged_into=None)",
        "followers.count()",
        (CONTROL,),
        LITE,
    ),
    # --- Rescue and sweep ---
    Mutant(
        "rescue: the living too",
        _SQL + "rescue.py",
        "s.beat_at < {now} - make_interval(secs => %(lease)s)",
        "s.beat_at < {now}",
        (RESCUE,),
    ),
    Mutant(
        "rescue: without a lock",
        _SQL + "rescue.py",
        "ORDER BY s.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
        "ORDER BY s.id LIMIT 1",
        (RACES,),
    ),
    Mutant(
        "rescue: without a re-check",
        "tasks/settle.py",
        "_settle([Settlement(lease, Abandoned()) for lease in leases])",
        "__import__('tasks.models').models.Task.objects."
        "filter(pk__in=[x.task_id for x in leases]).update(leased_by=None, leased_at=None)",
        (RACES,),
    ),
    Mutant(
        "rescue: the row goes first",
        "tasks/claim.py",
        "    if not rows:\n        SchedulerProcess",
        "    if True:\n        SchedulerProcess",
        (RESCUE,),
        LITE,
    ),
    Mutant(
        "rescue: poison never ends",
        _SQL + "settle.py",
        "t.rescues >= 2 THEN t.remaining_attempts",
        "t.rescues >= 9 THEN t.remaining_attempts",
        (RESCUE,),
        LITE,
    ),
    Mutant(
        "sweep: one batch only",
        "tasks/heart.py",
        "lease_seconds=conf.CREW_LEASE_SECONDS)) >= 0:\n        count += given",
        "lease_seconds=conf.CREW_LEASE_SECONDS)) >= 0:\n        count += given\n        break",
        (RESCUE,),
        LITE,
    ),
    Mutant(
        "sweep: strangers forgotten",
        "tasks/heart.py",
        "            meet_strangers()\n",
        "",
        (RESCUE,),
        LITE,
    ),
    # --- Heartbeat ---
    Mutant(
        "heartbeat: for everybody",
        "tasks/heart.py",
        "SchedulerProcess.objects.filter(pk=self.me).update(beat_at=Now())",
        "SchedulerProcess.objects.all().update(beat_at=Now())",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "heartbeat: by Python's clock",
        "tasks/heart.py",
        "filter(pk=self.me).update(beat_at=Now())",
        "filter(pk=self.me).update("
        "beat_at=__import__('django.utils.timezone').utils.timezone.now())",
        (CLOCK,),
        LITE,
    ),
    Mutant(
        "heartbeat: the forgotten stay so",
        "tasks/heart.py",
        "        if not beaten:\n",
        "        if not beaten and not self._beat_at:\n",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "heartbeat: trusted for ever",
        "tasks/heart.py",
        "LOST_AT = 0.8",
        "LOST_AT = 800.0",
        (SCHEDULER,),
        LITE,
    ),
    # --- The verbs of people ---
    Mutant(
        "reset: attempts not ended",
        "tasks/control.py",
        'run(sql.CANCEL_ATTEMPTS, {"group": group_id, "ids": None, "why": "the group was reset"})',
        "pass",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "reset: the lease stays",
        "tasks/control.py",
        '    "leased_by": None,\n    "leased_at": None,\n    "merged_into": None,\n    "held',
        '    "merged_into": None,\n    "held',
        (CONTROL,),
        LITE,
    ),
    Mutant(
        "reset: parents not counted anew",
        "tasks/control.py",
        'run(sql.RECOUNT, {"group": group_id, "ids": None})',
        "pass",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "delete: children not counted anew",
        "tasks/control.py",
        'run(sql.RECOUNT, {"group": group_id, "ids": dump(freed)})',
        "pass",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "pause: later tasks of the group run",
        "tasks/control.py",
        "TaskGroup.objects.filter(pk=group_id).update(is_paused=is_paused)",
        "TaskGroup.objects.filter(pk=group_id).count()",
        (CONTROL,),
        LITE,
    ),
    Mutant(
        "edit: while it executes",
        "tasks/control.py",
        'if set(changes) - {"is_paused"}:',
        "if False:",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "verbs: settles not kept out",
        _SQL + "create.py",
        "FROM crew_taskgroup WHERE id = %(group)s FOR UPDATE",
        "FROM crew_taskgroup WHERE id = %(group)s",
        (RACES,),
    ),
    Mutant(
        "cancel: attempts not ended",
        "tasks/control.py",
        'run(sql.CANCEL_ATTEMPTS, params | {"why": "the group was cancelled"})',
        "pass",
        (MACHINE,),
        LITE,
    ),
    # --- Create and edges ---
    Mutant(
        "create: in a paused group unpaused",
        "tasks/create.py",
        "spec.is_paused or family.paused",
        "spec.is_paused",
        (CREATE, SETTLE),
        LITE,
    ),
    Mutant(
        "create: under parents that complete",
        "tasks/create.py",
        "            if outside:\n                _lock_alone(group_id)\n",
        "",
        (RACES,),
    ),
    Mutant(
        "create: complete parents counted",
        "tasks/create.py",
        "sum(parent not in complete for",
        "sum(True for",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "edges: cycles",
        "tasks/edges.py",
        "    _refuse_cycle(task.id, parent_ids)\n",
        "",
        (MACHINE,),
        LITE,
    ),
    Mutant(
        "edges: parents not counted anew",
        "tasks/edges.py",
        'run(sql.RECOUNT, {"group": group_id, "ids": dump([task.id])})',
        "pass",
        (MACHINE,),
        LITE,
    ),
    # --- Deliver ---
    Mutant(
        "deliver: sent twice",
        "tasks/scheduler.py",
        "self._deliverer.send(deliveries)",
        "self._deliverer.send([*deliveries, *deliveries])",
        (SCHEDULER,),
        LITE,
    ),
    Mutant(
        "deliver: tried again by itself",
        "tasks/deliver_aiohttp.py",
        "            answer = await self._post(",
        "            with contextlib.suppress(aiohttp.ServerDisconnectedError):\n"
        "                return await self._post(\n"
        "                    _prepared(self._rules.base, url), delivery, started)\n"
        "            answer = await self._post(",
        (DELIVER,),
        LITE,
    ),
    Mutant(
        "deliver: another id each time",
        "tasks/deliver.py",
        "message_id = _message_id(delivery)",
        "message_id = _message_id(delivery) + str(time.monotonic_ns())",
        (DELIVER,),
        LITE,
    ),
    Mutant(
        "deliver: redirects followed",
        "tasks/deliver_aiohttp.py",
        "allow_redirects=False",
        "allow_redirects=True",
        (DELIVER,),
        LITE,
    ),
    Mutant(
        "deliver: answers lost with the database",
        "tasks/scheduler.py",
        "settle.settle_each(self._unsettled)",
        "settle.settle_each([self._unsettled.pop() for _ in tuple(self._unsettled)])",
        (SCHEDULER,),
        LITE,
    ),
    # --- The stream, and calls that may be repeated ---
    Mutant(
        "stream: by id alone",
        "tasks/tail.py",
        "        if not on_postgres():  # one writer",
        "        if True:  # one writer",
        ("tests/test_tail.py",),
    ),
    Mutant(
        "stream: told before the commit",
        "tasks/publish.py",
        "transaction.on_commit(told, robust=True)",
        "told()",
        (RACES,),
    ),
    Mutant(
        "key: the answer is not kept",
        "tasks/api/repeat.py",
        ".update(status=200, body=done)",
        ".update(status=200)",
        ("tests/test_api_bulk.py",),
        LITE,
    ),
    Mutant(
        "key: any body goes",
        "tasks/api/repeat.py",
        "if before.fingerprint != fingerprint:",
        "if False:",
        ("tests/test_api_bulk.py",),
        LITE,
    ),
    Mutant(
        "key: shared by all callers",
        "tasks/api/repeat.py",
        "objects.filter(caller=view.access.caller[:80], key=key)",
        "objects.filter(key=key)",
        ("tests/test_api_bulk.py", "tests/test_api_access.py"),
        LITE,
    ),
)
