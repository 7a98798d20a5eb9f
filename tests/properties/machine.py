"""The engine and the model, driven by the same moves; after each they must agree on every row.

The moves go through the doors that scheduler and API use, each with its own commits. Time is moved
by moving the rows: a unit is long enough that no test run takes as long as one.
"""

import io
import math
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from unittest import mock
from unittest.mock import patch

from django.apps import apps
from django.db import connection, transaction
from django.db.models import DateTimeField, ExpressionWrapper, F
from django.db.models.functions import Now
from django.test import override_settings
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tasks import control, create, edit, limits_and_holds
from tasks.api.changes import read_changes
from tasks.api.tasks import EDITABLE
from tasks.engine import claim as claiming
from tasks.engine import heartbeat, rescue
from tasks.engine.lease import Lease
from tasks.engine.settle import settle_each
from tasks.engine.settlement import Abandoned, Settlement
from tasks.errors import ConflictError, InvalidInputError, NotFoundError
from tasks.insight.explain import explain
from tasks.models import Attempt, CutCall, ParentEdge, SchedulerProcess, SharedOutput, Workgroup
from tasks.models import Task as Row
from tasks.store.states import STATE
from tasks.store.wire import ZERO_TIME
from tasks.upkeep import expired_rows
from tasks.upkeep.invariants import INVARIANTS
from tasks.upkeep.moves import exported, out
from tasks.upkeep.moves.into import Existing, How
from tasks.upkeep.moves.lines import Lines, Writer

from . import answers
from .model import Model, Task, Ticket

UNIT = 1_000  # seconds
TASKS = 14
GROUPS, SCHEDULERS, WORKERS = ("g1", "g2"), ("s1", "s2"), ("w", "v", "w", "v", "w", "")
WORKGROUPS, KEYS = ("", "shop", "", "bank"), ("", "k", "k", "l")

pick = st.integers(0, 11)
units = st.integers(0, 2)
left = st.integers(0, 3)
puts = st.fixed_dictionaries(
    {},
    optional={
        "worker": st.sampled_from([None, "w", "", None]),
        "key": st.sampled_from([None, "k", ""]),
        "remainingAttempts": st.sampled_from([None, "", 2]),
        "isPaused": st.sampled_from([None, True, False]),
        "runAfter": st.sampled_from([None, "", ZERO_TIME, None]),
        "output": st.sampled_from([None, 7]),
        "errors": st.sampled_from([None, []]),
        "parentIds": st.sampled_from([None, []]),
        "clear": st.sampled_from(
            [None, [], ["output"], ["parentIds", "errors"], ["key", "runAfter"], ["isPaused"]]
        ),
    },
)
schedulers = st.sampled_from(SCHEDULERS)
has_tasks = precondition(lambda self: self.model.tasks)
has_tickets = precondition(lambda self: self.tickets)


def clean() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        for model in apps.get_app_config("crew").get_models():
            model._base_manager.all()._raw_delete("default")


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        clean()
        self.model = Model()
        self.tickets: dict[Ticket, Lease] = {}  # every attempt handed out, answered or not
        self.names = 0
        self.settings: override_settings | None = None
        self.hearts = {
            me: heartbeat.Heart(me, slots=9, wake=threading.Event()) for me in SCHEDULERS
        }

    def teardown(self) -> None:
        if self.settings is not None:
            self.settings.disable()
        clean()

    # --- Tasks come in ---

    @initialize(
        shapes=st.lists(answers.shapes, min_size=2, max_size=6), kept=st.sampled_from([0, 1, 0])
    )
    def groups_schedulers_and_tasks(self, shapes: list[answers.Shape], kept: int) -> None:
        self.model.kept = kept
        self.settings = override_settings(CREW_SLOT_KEPT_SECONDS=float(kept * UNIT))
        self.settings.enable()
        for group in GROUPS:
            create.create_group(id=group)
            self.model.groups[group] = False
        for me in SCHEDULERS:
            self.hearts[me]._beat()
            self.model.beats[me] = self.model.now
        self._create(GROUPS[0], shapes, "")

    @precondition(lambda self: len(self.model.tasks) < TASKS)
    @rule(
        group=st.sampled_from(GROUPS),
        shapes=st.lists(answers.shapes, min_size=2, max_size=4),
        bad=st.sampled_from(["", "", "", "twice", "unknown", "foreign", "cycle"]),
        many=st.sampled_from([1, create.MANY]),
    )
    def create_tasks(self, group: str, shapes: list[answers.Shape], bad: str, many: int) -> None:
        """A small graph at once, hung under tasks that exist, in any order of its tasks.

        With one that cannot be, nothing of it is stored.
        """
        with mock.patch.object(create, "MANY", many):
            self._create(group, shapes, bad)

    def _create(self, group: str, shapes: list[answers.Shape], bad: str) -> None:
        tasks: list[Task] = []
        known = [task.id for task in self.model.of(group)]
        for shape in shapes:
            task = self._task(group, shape)
            before = [*known, *(earlier.id for earlier in tasks)]
            task.parents = _some(before, shape.parents)
            tasks.append(task)
        wires = [self._wire(task) for task in reversed(tasks)]
        if bad:
            with _refused():
                create.create_tasks(group, [*wires, self._bad(bad, group, tasks[0])])
        else:
            create.create_tasks(group, wires)
            self.model.create(tasks)

    # --- The schedulers ---

    @rule(me=schedulers, slots=st.integers(1, 4))
    def claim(self, me: str, slots: int) -> None:
        """One that was frozen claims too: it does not know yet that it was silent."""
        assert len(self._claim(me, slots)) <= slots

    @rule(me=schedulers)
    def claim_all(self, me: str) -> None:
        """Until nothing changes any more: then nobody who might start is left."""
        self._explain_all()
        before = -1
        while (after := len(self.tickets) + len(self._followers())) != before:
            before = after
            self._claim(me, 9)
        assert self.model.claimable() == set()
        waiting = [id_ for id_ in self.model.late_twins() if self._would_follow(id_)]
        assert waiting == []

    @rule(me=schedulers, one=pick, answer=answers.answers)
    def answer_in_time(self, me: str, one: int, answer: answers.Answered) -> None:
        current = self._current() or self._claim(me, 9)
        if current:
            self._settle([(current[one % len(current)], answer)])

    @rule(me=schedulers, given=st.lists(answers.answers, min_size=2, max_size=4))
    def answer_many(self, me: str, given: list[answers.Answered]) -> None:
        """In one transaction."""
        self._claim(me, 9)
        self._settle(list(zip(self._current(), given, strict=False)))

    @has_tickets
    @rule(given=st.lists(st.tuples(pick, answers.answers), min_size=1, max_size=3))
    def answer_any(self, given: list[tuple[int, answers.Answered]]) -> None:
        """Late, twice, or in time."""
        self._settle(list({self._ticket(one): answer for one, answer in given}.items()))

    @rule(
        by=st.integers(0, 2),
        silent=st.sampled_from([None, *SCHEDULERS, None]),
        is_swept=st.booleans(),
    )
    def clock(self, by: int, silent: str | None, is_swept: bool) -> None:
        """Time passes; whoever is not silent is heard of at its end, even if it was silent."""
        self._pass(by)
        for me in SCHEDULERS:
            if me != silent:
                self.hearts[me]._beat()
                self.model.beats[me] = self.model.now
        if is_swept:
            # Chance, which no model has: how long those wait that were lost twice in a row.
            with patch.object(rescue, "_apart", lambda _: Abandoned()):
                rescue.sweep_once()
            self.model.sweep()

    # --- People ---

    @rule(
        verb=st.sampled_from(["resume", "retry", "reset", "pause", "cancel", "delete"]),
        group=st.sampled_from(GROUPS),
        n=left,
    )
    def on_a_group(self, verb: str, group: str, n: int) -> None:
        getattr(self, f"_{verb}_group")(group, n)

    @has_tasks
    @rule(
        verb=st.sampled_from(
            ["retry", "reset", "resume", "delete", "complete", "uncomplete", "pause"]
        ),
        one=pick,
        n=left,
    )
    def on_a_task(self, verb: str, one: int, n: int) -> None:
        getattr(self, f"_{verb}_task")(self._one(one), n)

    @has_tasks
    @rule(one=pick, other=pick, n=left, what=st.sampled_from(["parents", "fields"]))
    def edit(self, one: int, other: int, n: int, what: str) -> None:
        task = self._one(one)
        if what == "parents":
            self._hang(task, [other] * min(n, 1) + [one + n] * (n > 1))
        elif self._edit(task, worker=WORKERS[n], key=KEYS[other % 4], run_after=self._moment(n)):
            task.worker, task.key, task.due = WORKERS[n], KEYS[other % 4], self.model.now + n

    @has_tasks
    @rule(one=pick, sent=puts)
    def put(self, one: int, sent: dict[str, Any]) -> None:
        """As typed clients do it, with null for what they do not mean."""
        task = self._one(one)
        if self.model.put(task, sent):
            self._put(task, sent)
        else:
            with _refused():
                self._put(task, sent)

    @rule(what=st.sampled_from(["shop", "bank", "v", "w"]), n=left)
    def steer(self, what: str, n: int) -> None:
        """Hold or open a workgroup; limit a worker, or no more."""
        if what in WORKGROUPS:
            limits_and_holds.hold_workgroup(what, seconds=n * UNIT)
            self.model.holds[what] = self.model.now + n
        else:
            self.model.limits[what] = (None, 1, 2, 0)[n]
            limits_and_holds.limit_worker(what, self.model.limits[what])

    @rule(group=st.sampled_from(GROUPS))
    def export_and_import(self, group: str) -> None:
        """What nobody works on comes back as it was; of what runs a copy is made, and deleted."""
        file = io.BytesIO()
        with out.snapshot():
            out.write(Writer(file), [group])
        file.seek(0)
        runs = any(task.is_executing for task in self.model.of(group))
        how = How("out", suffix=".copy") if runs else How("out", existing=Existing.REPLACE)
        assert [result.is_stored for result in exported.bring_in(Lines(file), how)] == [True]
        if runs:
            self.nothing_breaks_an_invariant()
            control.delete_group(f"{group}.copy")
        else:
            self.model.leave_and_return(group)

    # --- What must hold after every move ---

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        tasks = self.model.tasks.values()
        assert _unlike(_stored_tasks(), {t.id: self._expected(t) for t in tasks}) == {}
        edges = ParentEdge.objects.order_by("child", "position").values_list("child", "parent")
        assert list(edges) == [
            (task.id, parent) for task in sorted(tasks, key=_id) for parent in task.parents
        ]

    @invariant()
    def the_history_is_as_the_model(self) -> None:
        ended = Attempt.objects.values_list("task", "number", "outcome", "late_at")
        result = {(id_, number): outcome for id_, number, outcome, _ in ended}
        assert result == self.model.history
        assert {(id_, n) for id_, n, _, late_at in ended if late_at} == self.model.late

    @invariant()
    def an_output_is_shared_for_as_long_as_somebody_refers_to_it(self) -> None:
        list(expired_rows.prune_outputs())
        referring = Row.objects.filter(shared_output__isnull=False)
        assert set(SharedOutput.objects.values_list("pk", flat=True)) == set(
            referring.values_list("shared_output", flat=True)
        )

    @invariant()
    def slots_and_keys_are_kept_as_in_the_model(self) -> None:
        rows = CutCall.objects.annotate(now=ExpressionWrapper(Now(), output_field=DateTimeField()))
        result = {Ticket(row.task_id, row.attempt, row.scheduler): _left(row) for row in rows}
        now = self.model.now
        meant = {
            ticket: None if cut.until is None else max(0, cut.until - now)
            for ticket, cut in self.model.cuts.items()
        }
        assert result == meant

    @invariant()
    def nothing_breaks_an_invariant(self) -> None:
        broken = {
            i.name: set(i.search())
            for i in INVARIANTS
            if not i.is_warning or i.name == "follows_ancestor"
        }
        lost, strays = broken.pop("lease"), broken.pop("cut_call")
        assert strays == self.model.strays()
        assert {name: ids for name, ids in broken.items() if ids} == {}
        gone = self.model.owner_is_gone
        assert lost == {task.id for task in self.model.tasks.values() if gone(task)}

    # --- The verbs of people ---

    def _pause_group(self, group: str, n: int) -> None:
        control.pause_group(group)
        self.model.groups[group] = True
        self.model.pause(self.model.of(group), True)

    def _resume_group(self, group: str, n: int) -> None:
        control.resume_group(group)
        self.model.groups[group] = False
        self.model.pause(self.model.of(group), False)

    def _reset_group(self, group: str, n: int) -> None:
        control.reset_group(group, remaining_attempts=n)
        self.model.reset_group(group, n)

    def _retry_group(self, group: str, n: int) -> None:
        control.retry_group(group, remaining_attempts=n)
        self.model.retry(self.model.of(group), n)

    def _cancel_group(self, group: str, n: int) -> None:
        control.cancel_group(group)
        self.model.cancel(group)

    def _delete_group(self, group: str, n: int) -> None:
        """Another of the same name comes at once: nothing of the old one may be left."""
        control.delete_group(group)
        self.model.delete({task.id for task in self.model.of(group)})
        create.create_group(id=group)
        self.model.groups[group] = False

    def _pause_task(self, task: Task, n: int) -> None:
        control.pause_tasks(task.group, [task.id])
        self.model.pause([task], True)

    def _resume_task(self, task: Task, n: int) -> None:
        control.resume_tasks(task.group, [task.id])
        self.model.pause([task], False)

    def _reset_task(self, task: Task, n: int) -> None:
        if self._unless_executing(
            task,
            lambda: control.reset_tasks(
                task.group, [task.id], remaining_attempts=n, keep_complete=n == 3
            ),
        ):
            self.model.reset([task], n, keeps=n == 3)

    def _retry_task(self, task: Task, n: int) -> None:
        control.retry_tasks(task.group, [task.id], remaining_attempts=n)
        self.model.retry([task], n)

    def _delete_task(self, task: Task, n: int) -> None:
        children = ("cascade", "detach", "refuse", "cascade")[n]
        if children == "refuse" and self.model.children([task.id]):
            with _refused():
                control.delete_tasks(task.group, [task.id], children=children)
            return
        gone = control.delete_tasks(task.group, [task.id], children=children)
        going = self.model.would_delete([task.id]) if children == "cascade" else {task.id}
        assert set(gone) == going
        self.model.delete(going)

    def _complete_task(self, task: Task, n: int) -> None:
        if self._unless_executing(task, lambda: edit.complete_task(task.group, task.id, output=n)):
            self.model.complete(task, n)

    def _uncomplete_task(self, task: Task, n: int) -> None:
        if self._edit(task, is_complete=False, run_after=None):
            self.model.uncomplete(task)

    def _hang(self, task: Task, parents: list[int]) -> None:
        ids = _some([other.id for other in self.model.of(task.group)], parents)
        if ids != task.parents and (task.is_complete or self.model.makes_a_cycle(task.id, ids)):
            with _refused():
                edit.edit_task(task.group, task.id, {"parent_ids": ids})
        elif self._edit(task, parent_ids=ids):
            task.parents = ids
            self.model.part_from_ancestors()

    # --- How the moves are made ---

    def _bad(self, how: str, group: str, task: Task) -> dict[str, Any]:
        """A task that cannot come in with `task`."""
        foreign = [other.id for other in self.model.tasks.values() if other.group != group]
        parents = {"unknown": ["nobody"], "foreign": foreign or ["nobody"], "cycle": ["bad"]}
        id_ = task.id if how == "twice" else "bad"
        return {"id": id_, "worker": "w", "parentIds": parents.get(how, [])}

    def _claim(self, me: str, slots: int) -> list[Ticket]:
        before, claimable = self._followers(), self.model.claimable()
        claimed = claiming.claim(me, slots=slots, total=slots, busy={})
        tickets = []
        for lease in sorted(claimed.leases, key=lambda lease: lease.task_id):
            assert lease.task_id in claimable and lease.task_id in self.model.claimable()
            ticket = self.model.claim(lease.task_id, me)
            assert ticket == Ticket(lease.task_id, lease.attempt, lease.leased_by)
            assert ticket not in self.tickets
            self._check_payload(lease)
            self.tickets[ticket] = lease
            tickets.append(ticket)
        late = self.model.late_twins()
        for id_ in self._followers() - before:
            if id_ in late:
                self.model.adopt(id_, late[id_])
        return tickets

    def _explain_all(self) -> None:
        """Explain keeps nobody who is claimable, and names what keeps all others."""
        waiting = [t for t in self.model.tasks.values() if not t.is_complete and not t.leased_by]
        free = {task.id for task in waiting if not explain(task.id).gates}
        alive = any(beat == self.model.now for beat in self.model.beats.values())
        assert free == (self.model.claimable() if alive else set())

    def _current(self) -> list[Ticket]:
        return [ticket for ticket in self.tickets if self.model.is_current(ticket)]

    def _check_payload(self, lease: Lease) -> None:
        task = self.model.tasks[lease.task_id]
        above = [self.model.tasks[id_] for id_ in task.parents]
        result = [
            (p.task_id, p.worker, p.output_json and int(p.output_json)) for p in lease.parents
        ]
        assert result == [(p.id, p.worker, p.output) for p in above]
        assert (lease.worker, lease.workgroup, lease.key) == (task.worker, task.workgroup, task.key)

    def _settle(self, given: list[tuple[Ticket, answers.Answered]]) -> None:
        settlements, said = [], []
        for ticket, answer in given:
            lease = self.tickets[ticket]
            real, meaning = answer.read(lease, self._name(), self._children, UNIT)
            settlements.append(Settlement(lease, real, 200, may_run=meaning.may_run))
            said.append((ticket, meaning))
        settled = settle_each(settlements)
        live = self.model.settle(said)
        assert (settled.live, settled.late) == (live, len(given) - live)

    def _children(self, lease: Lease) -> list[Task]:
        """One that is new, before one that an earlier answer made if there is any."""
        task = self.model.tasks.get(lease.task_id)
        twins = self.model.twins(task) if task else []
        known = sorted(self.model.made_by({lease.task_id, *map(_id, twins)}), key=_id)
        new = [f"c{self._name()}", f"c{self._name()}"]
        ids = [known[0].id, new[0]] if known else new
        return [Task(id_, lease.group_id) for id_ in ids]

    def _edit(self, task: Task, **changes: Any) -> bool:
        return self._unless_executing(task, lambda: edit.edit_task(task.group, task.id, changes))

    def _put(self, task: Task, sent: dict[str, Any]) -> None:
        if changes := read_changes(sent, EDITABLE):
            edit.edit_task(task.group, task.id, changes)

    def _unless_executing(self, task: Task, verb: Callable[[], Any]) -> bool:
        """Whether it was done; refused, and nothing else, while the task executes."""
        if not task.is_executing:
            verb()
            return True
        with _refused():
            verb()
        return False

    def _pass(self, by: int) -> None:
        # A little more than the units, so that a time of just now has surely come.
        step = timedelta(seconds=by * UNIT, milliseconds=1)
        with transaction.atomic():
            Row.objects.update(run_after=_earlier("run_after", step))
            Workgroup.objects.filter(held_until__isnull=False).update(
                held_until=_earlier("held_until", step)
            )
            SchedulerProcess.objects.update(beat_at=_earlier("beat_at", step))
            CutCall.objects.update(since=_earlier("since", step), until=_earlier("until", step))
        self.model.now += by

    def _task(self, group: str, shape: answers.Shape) -> Task:
        return Task(
            f"t{self._name()}",
            group,
            worker=WORKERS[shape.worker],
            workgroup=WORKGROUPS[shape.workgroup],
            key=KEYS[shape.key],
            left=shape.left,
            delay=shape.delay,
            due=self.model.now + shape.due,
            is_paused=shape.is_paused,
            is_complete=shape.is_complete,
            is_seed=shape.is_seed,
        )

    def _wire(self, task: Task) -> dict[str, Any]:
        due = self._moment(task.due - self.model.now)
        return {
            "id": task.id,
            "worker": task.worker,
            "workgroup": task.workgroup,
            "key": task.key,
            "remainingAttempts": task.left,
            "errorDelayInSeconds": task.delay * UNIT,
            "runAfter": due and due.isoformat(),
            "isPaused": task.is_paused,
            "isComplete": task.is_complete,
            "isSeed": task.is_seed,
            "parentIds": task.parents,
        }

    def _expected(self, task: Task) -> tuple[Any, ...]:
        model = self.model
        return (
            (task.group, task.worker, task.workgroup, task.key, task.made_by, task.keeps),
            model.state(task),
            (task.is_paused, task.is_complete, task.is_seed),
            None if task.is_complete else max(0, task.due - model.now),
            (task.left, len(model.open_parents(task)), task.held, task.lost),
            (task.attempt, task.leased_by, task.follows),
            (task.output, task.errors),
        )

    def _followers(self) -> set[str]:
        rows = Row.objects.filter(merged_into__isnull=False, is_complete=False)
        return set(rows.values_list("id", flat=True))

    def _would_follow(self, id_: str) -> bool:
        """It might start, if it were not for the one of its key that runs."""
        task = self.model.tasks[id_]
        is_kept = self.model.is_kept_by_a_cut(task)
        return (
            self.model.state(task) == "ready" and self.model.room(task.worker) > 0 and not is_kept
        )

    def _moment(self, due: int) -> Any:
        return timezone.now() + timedelta(seconds=due * UNIT) if due else None

    def _one(self, index: int) -> Task:
        ids = sorted(self.model.tasks)
        return self.model.tasks[ids[index % len(ids)]]

    def _ticket(self, index: int) -> Ticket:
        """The newest come first."""
        return list(self.tickets)[-1 - index % len(self.tickets)]

    def _name(self) -> int:
        self.names += 1
        return 100 + self.names


def _stored_tasks() -> dict[str, tuple[Any, ...]]:
    rows = Row.objects.annotate(
        state=STATE, now=ExpressionWrapper(Now(), output_field=DateTimeField())
    )
    return {row.id: _stored(row) for row in rows}


def _unlike(stored: dict[str, Any], meant: dict[str, Any]) -> dict[str, Any]:
    """Only what differs: two whole states say little when they are printed."""
    pairs = {id_: (stored.get(id_), meant.get(id_)) for id_ in stored.keys() | meant.keys()}
    return {id_: pair for id_, pair in pairs.items() if pair[0] != pair[1]}


def _stored(row: Any) -> tuple[Any, ...]:
    due = max(0, math.ceil(((row.run_after - row.now).total_seconds() - 1) / UNIT))
    return (
        (
            row.group_id,
            row.worker,
            row.workgroup,
            row.key,
            row.created_by,
            bool(row.keeps_complete),
        ),
        row.state,
        (row.is_paused, row.is_complete, row.is_seed),
        None if row.is_complete else due,
        (row.remaining_attempts, row.pending_parents, row.held_count, row.rescues),
        (row.attempt, row.leased_by, row.merged_into),
        (row.output, [answers.gist(error) for error in row.errors]),
    )


def _left(row: Any) -> int | None:
    """For how many units a call without a lease keeps what it takes; None: until it has ended."""
    if row.until is None:
        return None
    return max(0, math.ceil(((row.until - row.now).total_seconds() - 1) / UNIT))


def _earlier(field: str, step: timedelta) -> Any:
    return ExpressionWrapper(F(field) - step, output_field=DateTimeField())


def _some(ids: Iterable[str], indexes: Iterable[int]) -> list[str]:
    """Each once; none when there is none."""
    ids = sorted(ids)
    return list(dict.fromkeys(ids[index % len(ids)] for index in indexes)) if ids else []


def _id(task: Task) -> str:
    return task.id


class _refused(suppress):
    """The call inside must be refused."""

    def __init__(self) -> None:
        super().__init__(ConflictError, InvalidInputError, NotFoundError)

    def __exit__(self, kind: Any, *error: Any) -> bool:
        assert kind is not None, "it was not refused"
        return bool(super().__exit__(kind, *error))
