"""The bugs that `mutants.py` plants: each is one that somebody could well make.

The texts are short, on lines that have few reasons to change, and found exactly once in their
file (`test_mutants.py` holds them to it). `tests` are those that should notice: files, or one test
of a file where the whole of it takes long.
"""

from dataclasses import dataclass

PG, LITE = "postgresql", "sqlite"
MACHINE = "tests/properties/test_machine.py"
CLAIM, SETTLE, RESCUE = "tests/test_claim.py", "tests/test_settle.py", "tests/test_rescue.py"
SHARED = "tests/test_shared_outputs.py"
RACES, WINDOWS = "tests/test_races.py", "tests/test_windows.py"
CLOCK = "tests/test_clock.py"
CONTROL, CREATE = "tests/test_control.py", "tests/test_create.py"
EDIT = "tests/test_edit.py"
VERB_PLANS, GIVEN_UP = "tests/test_verb_plans.py", "tests/test_given_up.py"
ANY_SERVER = "tests/test_any_server.py"
LIMITS = "tests/test_limits.py"
ANSWERS, DECIDE = "tests/test_answers.py", "tests/test_decide.py"
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
        (CLAIM + "::test_a_task_that_is_not_ready_is_left_alone",),
        LITE,
    ),
    Mutant(
        "claim: parents ignored",
        _SQL + "__init__.py",
        " AND t.remaining_attempts > 0 AND t.pending_parents = 0",
        " AND t.remaining_attempts > 0",
        (CLAIM + "::test_a_task_that_is_not_ready_is_left_alone",),
        LITE,
    ),
    Mutant(
        "claim: followers too",
        _SQL + "__init__.py",
        "t.merged_into IS NULL AND NOT (t.worker = '')",
        "NOT (t.worker = '')",
        (CLAIM + "::test_a_task_that_is_not_ready_is_left_alone",),
    ),
    Mutant(
        "claim: attempt not counted",
        _SQL + "claim.py",
        "SET attempt = t.attempt + 1, leased_by = %(me)s, leased_at = {{now}}\n            FROM",
        "SET attempt = t.attempt, leased_by = %(me)s, leased_at = {{now}}\n            FROM",
        (CLAIM + "::test_a_ready_task_is_leased",),
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
        "t.run_after <= {{now}} AND {{ready}} {which}\n",
        "{{ready}} {which}\n",
        (RACES,),
    ),
    Mutant(
        "claim: follows across groups",
        _SQL + "claim.py",
        "WHERE s.group_id = k.group_id AND s.key = k.key",
        "WHERE s.key = k.key",
        (CLAIM + "::test_a_task_of_another_group_never_follows",),
    ),
    Mutant(
        "claim: a second leader of a key",
        _SQL + "claim.py",
        "WHERE (SELECT l.id FROM crew_task l\n",
        "WHERE (SELECT l.id FROM (SELECT * FROM crew_task WHERE false) l\n",
        (CLAIM + "::test_a_duplicate_that_comes_later_follows_when_it_is_met",),
    ),
    # --- Limits ---
    Mutant(
        "limit: those in flight not counted",
        "tasks/limits.py",
        "max(0, limit - in_flight)",
        "limit",
        (CLAIM + "::test_a_workers_limit_is_exact",),
        LITE,
    ),
    Mutant(
        "limit: counted without the lock",
        _SQL + "claim.py",
        "{_LIMITED} FOR NO KEY UPDATE SKIP LOCKED",
        "{_LIMITED}",
        (RACES,),
    ),
    Mutant(
        "limit: all slots for those that hold much",
        "tasks/limits.py",
        "max(0, free - kept, (SMALL",
        "max(0, free, (SMALL",
        (
            CLAIM + "::test_a_worker_that_holds_most_slots_leaves_the_last_to_others",
            LIMITS + "::test_workers_that_hang_never_take_all_slots",
        ),
        LITE,
    ),
    Mutant(
        "limit: equal lanes by the alphabet",
        "tasks/limits.py",
        "(chance or random).shuffle(lanes)",
        "lanes.sort(key=lambda lane: (lane.worker, lane.workgroup))",
        (LIMITS + "::test_every_hungry_lane_has_half_its_fair_part_at_least",),
        LITE,
    ),
    Mutant(
        "explain: full schedulers are no gate",
        "tasks/explain.py",
        "    if not free:\n",
        "    if total < 0:\n",
        ("tests/test_explain.py::test_no_free_slot_is_named_and_opens_by_itself",),
        LITE,
    ),
    # --- Settle ---
    Mutant(
        "settle: no fence",
        _SQL + "settle.py",
        _PG_FENCE,
        "true",
        (SETTLE + "::test_a_wrong_fence_changes_nothing",),
    ),
    Mutant(
        "settle: fence by id and state",
        _SQL + "settle.py",
        _PG_FENCE,
        "t.leased_by IS NOT NULL",
        (SETTLE + "::test_a_wrong_fence_changes_nothing",),
    ),
    Mutant(
        "settle: fence by attempt only",
        _SQL + "settle.py",
        _PG_FENCE,
        "t.attempt = a.attempt",
        (SETTLE + "::test_a_wrong_fence_changes_nothing",),
    ),
    Mutant(
        "settle: fence by owner only",
        _SQL + "settle.py",
        _LITE_FENCE,
        "t.leased_by = a.leased_by",
        (SETTLE + "::test_a_wrong_fence_changes_nothing",),
        LITE,
    ),
    Mutant(
        "settle: no fence on SQLite",
        _SQL + "settle.py",
        _LITE_FENCE,
        "true",
        (SETTLE + "::test_a_wrong_fence_changes_nothing",),
        LITE,
    ),
    Mutant(
        "settle: children in any lock order",
        _SQL + "settle.py",
        "(SELECT * FROM child ORDER BY id)",
        "(SELECT * FROM child ORDER BY random())",
        (RACES,),
    ),
    Mutant(
        "settle: two parents count once",
        _SQL + "settle.py",
        "SELECT e.child_id AS id, sum(p.done)::int AS done",
        "SELECT e.child_id AS id, max(p.done)::int AS done",
        (SETTLE + "::test_parents_of_one_child_complete_in_one_batch",),
    ),
    Mutant(
        "settle: a failure frees children",
        "tasks/settle.py",
        '"done": int(isinstance(settlement.outcome, Completed))',
        '"done": 1',
        (SETTLE + "::test_failure_frees_no_child",),
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
        (SETTLE + "::test_a_held_answer_uses_no_attempt_and_adds_no_error",),
        LITE,
    ),
    Mutant(
        "settle: a late answer kept of any end",
        _SQL + "settle.py",
        "AND h.scheduler = l.scheduler\n          AND h.late_at IS NULL"
        " AND h.outcome IN ('abandoned', 'cancelled')",
        "AND h.scheduler = l.scheduler\n          AND h.late_at IS NULL",
        (SETTLE + "::test_a_second_settle_of_a_lease_changes_nothing",),
    ),
    Mutant(
        "settle: maker is no parent",
        "tasks/rows.py",
        "last = (family.created_by,) if family.created_by else ()",
        "last = ()",
        (SETTLE + "::test_children_come_in_any_order_with_their_maker_as_last_parent",),
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
        (SETTLE + "::test_a_hold_is_never_shortened_by_an_answer",),
    ),
    Mutant(
        "hold: the first of a batch counts",
        "tasks/settle.py",
        "= max(holds[s.lease.workgroup], wait)",
        "= holds[s.lease.workgroup] if holds[s.lease.workgroup][0] else wait",
        (SETTLE + "::test_the_longest_hold_of_a_batch_counts",),
        LITE,
    ),
    # --- Merges ---
    Mutant(
        "merge: across groups",
        _SQL + "settle.py",
        "WHERE t.group_id = l.group_id AND t.key = l.key",
        "WHERE t.key = l.key",
        (SETTLE + "::test_duplicates_complete_with_the_same_output_and_free_their_children",),
    ),
    Mutant(
        "merge: children of duplicates forgotten",
        "tasks/settle.py",
        "for id_, _, complete in merged if complete]",
        "for id_, _, complete in merged if not complete]",
        (SETTLE + "::test_duplicates_complete_with_the_same_output_and_free_their_children",),
        LITE,
    ),
    Mutant(
        "merge: complete ones too",
        _SQL + "settle.py",
        '_WAITS = "NOT t.is_complete AND t.leased_by IS NULL"',
        '_WAITS = "t.leased_by IS NULL"',
        (SETTLE + "::test_duplicates_complete_with_the_same_output_and_free_their_children",),
    ),
    Mutant(
        "merge: followers of a deleted leader stuck",
        "tasks/edges.py",
        'Task.objects.filter(probed("id", some)).update(merged_into=None)',
        "pass",
        (CONTROL + "::test_a_deleted_leader_lets_its_followers_go",),
        LITE,
    ),
    # --- What somebody keeps locked ---
    Mutant(
        "locks: a group is waited for",
        _SQL + "settle.py",
        "FOR KEY SHARE SKIP LOCKED",
        "FOR KEY SHARE",
        ("tests/test_locked_rows.py::test_what_somebody_holds_stops_nothing_else",),
    ),
    Mutant(
        "locks: its tasks go on being started",
        "tasks/scheduler.py",
        "beside=self._aside.closed()",
        "beside=[]",
        (
            "tests/test_locked_rows.py::"
            "test_no_more_tasks_of_a_group_are_started_whose_answers_can_not_be_written",
        ),
    ),
    Mutant(
        "locks: what was skipped came late",
        "tasks/settle.py",
        "if _fence(s) in held",
        "if _fence(s) not in held",
        ("tests/test_locked_rows.py::test_what_somebody_holds_stops_nothing_else",),
    ),
    # --- Shared outputs ---
    Mutant(
        "share: each has a copy",
        "tasks/settle.py",
        'len(outcome.output or "") > COPIED',
        "False",
        (SHARED + "::test_a_long_output_is_stored_once_for_all_duplicates",),
        LITE,
    ),
    Mutant(
        "share: Django's queries do not see it",
        "tasks/models/output.py",
        "return _OutputCol(alias, self, output_field)",
        "return super().get_col(alias, output_field)",
        (SHARED + "::test_every_query_of_an_embedder_reads_it",),
        LITE,
    ),
    Mutant(
        "share: who writes an output keeps the other",
        "tasks/models/queries.py",
        'kwargs.setdefault("shared_output", None)',
        "pass",
        (SHARED + "::test_what_becomes_of_one_duplicate_changes_nothing_for_the_others",),
        LITE,
    ),
    Mutant(
        "share: pruned while somebody refers to it",
        "tasks/prune.py",
        "filter(~used, pk__in=ids)",
        "filter(pk__in=ids)",
        (SHARED + "::test_what_becomes_of_the_leader_changes_nothing_for_the_others",),
        LITE,
    ),
    Mutant(
        "share: lost in an export",
        "tasks/moves/out.py",
        'return {"sharedOutput": seen.outputs[id_]}',
        "return {}",
        (SHARED + "::test_it_stands_once_in_an_export_and_once_in_the_store_that_reads_it",),
        LITE,
    ),
    Mutant(
        "parts: only the first duplicates",
        _SQL + "settle.py",
        "FROM found HAVING count(*) >= %(most)s",
        "FROM found HAVING false",
        (SHARED + "::test_many_duplicates_and_children_are_written_some_at_a_time",),
    ),
    Mutant(
        "parts: only the first children",
        _SQL + "settle.py",
        "FROM child HAVING count(*) >= %(most)s",
        "FROM child HAVING false",
        (SHARED + "::test_many_duplicates_and_children_are_written_some_at_a_time",),
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
        "tasks/rescue.py",
        "settled = settle_within(lost, note)",
        "settled = Settled(__import__('tasks.models').models.Task.objects.filter("
        "pk__in=[x.task_id for x in leases]).update(leased_by=None, leased_at=None))",
        (RACES,),
    ),
    Mutant(
        "rescue: the row goes first",
        "tasks/claim.py",
        "    elif not rows:\n        SchedulerProcess",
        "    else:\n        SchedulerProcess",
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
        "sweep=sweep)) >= 0:\n        count += given",
        "sweep=sweep)) >= 0:\n        count += given\n        break",
        (RESCUE,),
        LITE,
    ),
    Mutant(
        "sweep: strangers forgotten",
        "tasks/heart.py",
        "    run(sql.ADOPT, {})\n",
        "",
        (WINDOWS + "::test_f25_leases_of_a_scheduler_without_a_row_are_given_back",),
        LITE,
    ),
    # --- Heartbeat ---
    Mutant(
        "heartbeat: for everybody",
        "tasks/heart.py",
        "SchedulerProcess.objects.filter(pk=self.me).update(beat_at=Now())",
        "SchedulerProcess.objects.all().update(beat_at=Now())",
        (RESCUE + "::test_a_heartbeat_keeps_no_other_scheduler_alive",),
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
        (RESCUE + "::test_who_was_given_up_and_lives_is_known_again_when_it_beats",),
        LITE,
    ),
    Mutant(
        "heartbeat: trusted for ever",
        "tasks/heart.py",
        "LOST_AT = 0.8",
        "LOST_AT = 800.0",
        (WINDOWS + "::test_f5_a_scheduler_that_cannot_beat_cuts_its_calls_and_claims_no_more",),
        LITE,
    ),
    # --- The verbs of people ---
    Mutant(
        "reset: attempts not ended",
        "tasks/control.py",
        '_stop_attempts(group_id, ids, "the group was reset")',
        "edges.lock(group_id, ids)",
        (CONTROL + "::test_a_reset_group_takes_running_attempts_their_lease",),
        LITE,
    ),
    Mutant(
        "reset: the lease stays",
        "tasks/control.py",
        '    "leased_by": None,\n    "leased_at": None,\n    "merged_into": None,\n    "held',
        '    "merged_into": None,\n    "held',
        (CONTROL + "::test_a_reset_group_takes_running_attempts_their_lease",),
        LITE,
    ),
    Mutant(
        "reset: parents not counted anew",
        "tasks/control.py",
        "edges.recount(group_id, kept)",
        "pass",
        (CONTROL + "::test_a_reset_group_is_as_if_it_had_never_run",),
        LITE,
    ),
    Mutant(
        "delete: children not counted anew",
        "tasks/control.py",
        "edges.recount(group_id, freed)",
        "pass",
        (
            CONTROL + "::test_delete_can_detach_the_children",
            CONTROL + "::test_delete_cascades_to_descendants_left_without_a_parent",
        ),
        LITE,
    ),
    Mutant(
        "pause: later tasks of the group run",
        "tasks/control.py",
        "TaskGroup.objects.filter(pk=group_id).update(is_paused=is_paused)",
        "TaskGroup.objects.filter(pk=group_id).count()",
        (
            CONTROL + "::test_a_paused_group_starts_nothing",
            CREATE + "::test_tasks_of_a_paused_group_are_paused",
        ),
        LITE,
    ),
    Mutant(
        "edit: while it executes",
        "tasks/edit.py",
        'if set(changes) - {"is_paused"}:',
        "if False:",
        (EDIT + "::test_a_running_task_takes_nothing_but_the_pause",),
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
        '_stop_attempts(group_id, ids, "the group was cancelled")',
        "edges.lock(group_id, ids)",
        (CONTROL + "::test_a_cancelled_group_is_tried_no_more_and_its_running_attempts_end",),
        LITE,
    ),
    Mutant(
        "verbs: followers found by reading all",
        _SQL + "control.py",
        "WHERE merged_into >= k.id AND merged_into <= k.id\n             AND",
        "WHERE merged_into || '' = k.id\n             AND",
        (VERB_PLANS + "::test_a_verb_on_four_times_the_tasks_takes_four_times_the_work",),
    ),
    Mutant(
        "verbs: the planner chooses",
        _SQL + "probes.py",
        "{name(self.lhs.alias)}.ctid = ANY (ARRAY({found}))",
        "{name(self.lhs.alias)}.ctid IN ({found})",
        (VERB_PLANS + "::test_a_verb_on_four_times_the_tasks_takes_four_times_the_work",),
    ),
    Mutant(
        "verbs: go on for whom is gone",
        "tasks/serving/handler.py",
        "            given_up.set()\n",
        "",
        (GIVEN_UP + "::test_a_verb_ends_when_who_asked_for_it_is_gone",),
    ),
    Mutant(
        "verbs: the server does not look whether we are there",
        _SQL + "patience.py",
        "THEN set_config('client_connection_check_interval', %(gone)s, %(is_local)s)",
        "THEN left(%(gone)s || %(is_local)s, 1)",
        (GIVEN_UP + "::test_a_verb_ends_when_who_asked_for_it_is_gone",),
    ),
    # --- The web processes' connections ---
    Mutant(
        "web: a connection for each thread",
        "tasks/serving/database.py",
        '        database["CONN_MAX_AGE"] = 0\n',
        '        database["CONN_MAX_AGE"] = 60\n        return\n',
        (ANY_SERVER + "::test_clients_that_create_tasks_leave_connections_to_others",),
    ),
    # --- Create and edges ---
    Mutant(
        "create: in a paused group unpaused",
        "tasks/rows.py",
        '"is_paused": spec.is_paused or family.paused',
        '"is_paused": spec.is_paused',
        (CREATE + "::test_tasks_of_a_paused_group_are_paused", MACHINE),
        LITE,
    ),
    Mutant(
        "create: many in a paused group unpaused",
        "tasks/rows.py",
        "spec.is_paused or family.paused,\n            spec.is_complete",
        "spec.is_paused,\n            spec.is_complete",
        (CREATE + "::test_tasks_of_a_paused_group_are_paused",),
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
        "tasks/rows.py",
        "pending -= sum(map(complete.__contains__, spec.parent_ids))",
        "pass",
        (CREATE + "::test_parents_in_the_store_that_are_complete_hold_nobody_up",),
        LITE,
    ),
    Mutant(
        "edges: cycles",
        "tasks/edges.py",
        "    _refuse_cycle(task.id, parent_ids)\n",
        "",
        (EDIT + "::test_parents_that_can_not_be_are_refused_and_nothing_changes",),
        LITE,
    ),
    Mutant(
        "edges: parents not counted anew",
        "tasks/edges.py",
        "recount(group_id, [task.id])",
        "pass",
        (EDIT + "::test_parents_that_are_complete_are_not_pending",),
        LITE,
    ),
    # --- Deliver ---
    Mutant(
        "deliver: sent twice",
        "tasks/scheduler.py",
        "self._deliverer.send(deliveries)",
        "self._deliverer.send([*deliveries, *deliveries])",
        (SCHEDULER + "::test_a_diamond_runs_to_its_end",),
        LITE,
    ),
    Mutant(
        "deliver: tried again by itself",
        "tasks/deliver_asyncio.py",
        "        self._give(call, self._rules.answer(received, call.started, self._sent(call)))",
        "        if received.status is None and call.connection:\n"
        "            call.connection = None\n"
        "            return self._begin(call)\n"
        "        self._give(call, self._rules.answer(received, call.started, self._sent(call)))",
        (DELIVER + "::test_a_kept_connection_that_breaks_is_not_tried_again",),
        LITE,
    ),
    Mutant(
        "deliver: an interim answer is the answer",
        "tasks/reading.py",
        "if status < 200:",
        "if status == 100:",
        (ANSWERS + "::test_twelve_tasks_behind_interim_answers_have_each_its_own_output",),
        LITE,
    ),
    Mutant(
        "deliver: a connection with more to come is used again",
        "tasks/reading.py",
        "return is_over and self._is_kept and not self._is_odd",
        "return self._is_kept",
        (ANSWERS + "::test_an_answer_has_one_meaning",),
        LITE,
    ),
    Mutant(
        "deliver: what came unasked is an answer",
        "tasks/deliver_asyncio.py",
        "self._loop.call_soon(self._begin_all, calls)",
        "self._begin_all(calls)",
        (ANSWERS + "::test_what_comes_between_two_calls_is_no_answer",),
        LITE,
    ),
    Mutant(
        "rate limit: only one that can be read",
        "tasks/decide.py",
        "or answer.retry_after is None:",
        "or not (answer.retry_after or '').strip().isdigit():",
        (DECIDE + "::test_a_retry_after_that_cannot_be_read_holds_for_the_error_delay",),
        LITE,
    ),
    Mutant(
        "rate limit: an error delay of 0 holds for nothing",
        "tasks/decide.py",
        "max(error_delay, 1.0)",
        "error_delay",
        (DECIDE + "::test_a_retry_after_that_cannot_be_read_holds_for_the_error_delay",),
        LITE,
    ),
    Mutant(
        "deliver: another id each time",
        "tasks/deliver.py",
        "message_id = _message_id(delivery)",
        "message_id = _message_id(delivery) + str(time.monotonic_ns())",
        (DELIVER + "::test_the_message_id_is_stable_for_an_attempt_and_holds_no_dot",),
        LITE,
    ),
    Mutant(
        "deliver: answers lost with the database",
        "tasks/scheduler.py",
        "settle.settle_each(self._unsettled)",
        "settle.settle_each([self._unsettled.pop() for _ in tuple(self._unsettled)])",
        (SCHEDULER + "::test_a_settle_that_fails_is_tried_again",),
        LITE,
    ),
    Mutant(
        "deliver: a full disk is the answer's fault",
        "tasks/sql/patience.py",
        "if isinstance(error, OperationalError | InterfaceError):",
        "if isinstance(error, OperationalError | InterfaceError) and 'No space' not in str(error):",
        ("tests/test_full_disk_postgres.py",),
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
        "transaction.on_commit(told.tell, robust=True)",
        "told.tell()",
        (RACES,),
    ),
    Mutant(
        "key: the answer is not kept",
        "tasks/api/repeat.py",
        ".update(status=200, body=done)",
        ".update(status=200)",
        ("tests/test_api_bulk.py::test_a_repeated_create_is_answered_and_not_done_again",),
        LITE,
    ),
    Mutant(
        "key: any body goes",
        "tasks/api/repeat.py",
        "if before.fingerprint != fingerprint:",
        "if False:",
        ("tests/test_api_bulk.py::test_a_key_belongs_to_one_call",),
        LITE,
    ),
    Mutant(
        "key: shared by all callers",
        "tasks/api/repeat.py",
        "objects.filter(caller=view.access.caller[:80], key=key)",
        "objects.filter(key=key)",
        ("tests/test_api_access.py::test_another_callers_key_is_another_call",),
        LITE,
    ),
    Mutant(
        "stream: a cut batch counts as told",
        "tasks/stream.py",
        "before=self._places)",
        "before=dict.fromkeys(each, self._tail.safe))",
        ("tests/test_stream.py::test_who_is_cut_after_each_message_knows_all_in_the_end",),
        LITE,
    ),
    Mutant(
        "stream: what was missed counts as told",
        "tasks/stream.py",
        "before={group_id: since}",
        "before={group_id: tail.safe}",
        ("tests/test_stream.py::test_who_is_cut_after_each_message_knows_all_in_the_end",),
    ),
    Mutant(
        "stream: a hold that passed is forgotten",
        "tasks/wire.py",
        "held_until__isnull=False",
        "held_until__gt=Now()",
        ("tests/test_tell.py",),
        LITE,
    ),
    Mutant(
        "change: null is a value",
        "tasks/api/changes.py",
        "nothing: tuple[object, ...] = (None,)",
        "nothing: tuple[object, ...] = ()",
        ("tests/test_api_changes.py",),
        LITE,
    ),
    Mutant(
        "change: set and cleared",
        "tasks/api/changes.py",
        "if is_set and word in cleared:",
        "if False:",
        ("tests/test_api_changes.py",),
        LITE,
    ),
    Mutant(
        "client: sends what is None",
        "tasks/client/values.py",
        "for word, value in given if value is not None}",
        "for word, value in given}",
        ("tests/test_client.py::test_each_method_makes_its_call",),
        LITE,
    ),
    Mutant(
        "stream: what came and went is not told",
        "tasks/tell.py",
        '            self.gone[last["id"]] = last',
        "            pass",
        ("tests/test_tell.py",),
        LITE,
    ),
    Mutant(
        "stream: pruned to the last",
        "tasks/publish.py",
        "bound = in_order.filter(young).first() or in_order.last()",
        "bound = in_order.last()",
        ("tests/test_tail.py",),
        LITE,
    ),
    Mutant(
        "stream: a gap is no gap",
        "tasks/tail.py",
        "return newest > since and not reaches_back",
        "return False",
        ("tests/test_tail.py",),
        LITE,
    ),
)
