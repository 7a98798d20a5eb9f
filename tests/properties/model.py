"""The life of tasks as the contract tells it, in plain Python: what the store is held to.

Written from the contract (what a task is, when it runs, what each answer and each verb makes of
it), not from the code: no SQL, no counters, nothing derived is kept. Time is a whole number of
units. Whatever the contract leaves open, the store decides, and `Model.adopt` takes it over.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

LOSSES = 3  # leases lost in a row that end a task
PUT = {
    "worker": "worker",
    "key": "key",
    "remainingAttempts": "left",
    "isPaused": "is_paused",
    "runAfter": "due",
    "output": "output",
    "errors": "errors",
    "parentIds": "parents",
}
EMPTY = {"worker": "", "key": "", "runAfter": "", "output": None, "errors": [], "parentIds": []}


@dataclass
class Task:
    id: str
    group: str
    worker: str = "w"
    workgroup: str = ""
    key: str = ""
    left: int = 5
    delay: int = 0
    due: int = 0
    is_paused: bool = False
    is_complete: bool = False
    is_seed: bool = False
    parents: list[str] = field(default_factory=list)
    made_by: str = ""
    output: int | None = None
    errors: list[str] = field(default_factory=list)
    attempt: int = 0
    leased_by: str | None = None
    follows: str | None = None
    held: int = 0
    lost: int = 0
    keeps: bool = False  # of what its answers made, what is complete

    @property
    def is_executing(self) -> bool:
        return self.leased_by is not None or (self.follows is not None and not self.is_complete)


@dataclass(frozen=True)
class Said:
    """What an answer means. `kind` is completed, failed, held, abandoned, returned, interrupted.

    `may_run`: its connection is gone, and the worker may still be at it.
    """

    kind: str
    output: int | None = None
    error: str = ""
    wait: int = 0
    hold: int = 0  # of the workgroup
    put_off: int = 0  # of the children
    children: tuple[Task, ...] = ()
    may_run: bool = False


@dataclass(frozen=True)
class Cut:
    """A call without a lease, that still takes slot and key; `until` None: until it has ended."""

    group: str
    worker: str
    key: str
    until: int | None = None


@dataclass(frozen=True)
class Ticket:
    """One attempt that was handed out."""

    id: str
    attempt: int
    by: str


class Model:
    def __init__(self) -> None:
        self.now = 0
        self.groups: dict[str, bool] = {}  # whether it is paused
        self.tasks: dict[str, Task] = {}
        self.holds: dict[str, int] = {}  # until when
        self.limits: dict[str, int | None] = {}
        self.beats: dict[str, int] = {}  # of the schedulers that are known
        self.history: dict[tuple[str, int], str] = {}  # how attempts ended
        self.late: set[tuple[str, int]] = set()  # those that were answered after their end
        self.handed_out: dict[Ticket, Cut] = {}  # what the call of each takes
        self.cuts: dict[Ticket, Cut] = {}  # those without a lease, that may still run
        self.answers_again: set[Ticket] = set()  # attempts of tasks that had made children before
        self.kept = 0  # for how long a call whose connection is gone keeps slot and key

    # --- What can be seen ---

    def of(self, group: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.group == group]

    def open_parents(self, task: Task) -> list[str]:
        return [id_ for id_ in task.parents if not self.tasks[id_].is_complete]

    def children(self, ids: Iterable[str]) -> list[Task]:
        ids = set(ids)
        return [task for task in self.tasks.values() if ids & set(task.parents)]

    def is_held(self, task: Task) -> bool:
        return bool(task.workgroup) and self.holds.get(task.workgroup, 0) > self.now

    def state(self, task: Task) -> str:
        later = task.due > self.now or self.is_held(task)
        said = (
            ("complete", task.is_complete),
            ("executing", task.leased_by is not None),
            ("following", task.follows is not None),
            ("failed", task.left == 0),
            ("paused", task.is_paused),
            ("blocked", bool(self.open_parents(task))),
            ("unassigned", not task.worker),
            ("scheduled", later),
        )
        return next((name for name, holds in said if holds), "ready")

    def room(self, worker: str) -> int:
        limit = self.limits.get(worker)
        running = sum(t.worker == worker and t.leased_by is not None for t in self.tasks.values())
        running += sum(cut.worker == worker for _, cut in self.taking())
        return 99 if limit is None else max(0, limit - running)

    def leader(self, task: Task) -> Task | None:
        """The running task of the same key, if there is one."""
        return next((twin for twin in self.of_key(task) if twin.leased_by is not None), None)

    def of_key(self, task: Task) -> list[Task]:
        """The other incomplete tasks of its key in its group."""
        others = [t for t in self.of(task.group) if task.key and t.key == task.key]
        return [t for t in others if t is not task and not t.is_complete]

    def twins(self, task: Task) -> list[Task]:
        """Those of them that go with it, if it runs: not those it is an ancestor of."""
        return [twin for twin in self.of_key(task) if task.id not in self.above(twin.id)]

    def claimable(self) -> set[str]:
        """Who may start right now. Of several with one key only one will."""
        free = [task for task in self.tasks.values() if self.state(task) == "ready"]
        free = [task for task in free if not self.is_kept_by_a_cut(task)]
        return {t.id for t in free if self.room(t.worker) and not self.leader(t)}

    def taking(self) -> list[tuple[Ticket, Cut]]:
        """The calls without a lease that take a slot now."""
        cuts = self.cuts.items()
        return [(t, cut) for t, cut in cuts if cut.until is None or cut.until > self.now]

    def is_kept_by_a_cut(self, task: Task) -> bool:
        """A call of it, or of its key, may still run."""
        return any(
            ticket.id == task.id or (task.key and (cut.group, cut.key) == (task.group, task.key))
            for ticket, cut in self.taking()
        )

    def strays(self) -> set[str]:
        """Tasks of calls that nobody ends, or that were over long ago: the next sweep's."""
        return {
            ticket.id
            for ticket, cut in self.cuts.items()
            if (self.beats.get(ticket.by, -1) if cut.until is None else cut.until) < self.now
        }

    def late_twins(self) -> dict[str, str]:
        """Tasks that may already follow the running task of their key, and which one that is."""
        found = ((task, self.leader(task)) for task in self.tasks.values() if not task.is_complete)
        return {
            t.id: lead.id
            for t, lead in found
            if lead and t is not lead and not t.follows and t in self.twins(lead)
        }

    def lost_schedulers(self) -> set[str]:
        """Those that fell silent, and those that hold leases and are not known any more."""
        silent = {by for by, beat in self.beats.items() if beat < self.now}
        owners = {task.leased_by for task in self.tasks.values() if task.leased_by}
        return silent | (owners - self.beats.keys())

    def owner_is_gone(self, task: Task) -> bool:
        return task.leased_by is not None and self.beats.get(task.leased_by, -1) < self.now

    def is_current(self, ticket: Ticket) -> bool:
        task = self.tasks.get(ticket.id)
        return bool(task and (task.attempt, task.leased_by) == (ticket.attempt, ticket.by))

    # --- The machine ---

    def create(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.is_paused |= self.groups[task.group]
            self.tasks[task.id] = task

    def claim(self, id_: str, by: str) -> Ticket:
        task = self.tasks[id_]
        task.attempt += 1
        task.leased_by = by
        for twin in self.twins(task):
            twin.follows = twin.follows or id_
        ticket = Ticket(id_, task.attempt, by)
        self.handed_out[ticket] = Cut(task.group, task.worker, task.key)
        if task.attempt > 1 and self.made_by({id_}):
            self.answers_again.add(ticket)
        return ticket

    def adopt(self, id_: str, leader: str) -> None:
        """A duplicate that came after its leader had started follows it from now on."""
        self.tasks[id_].follows = leader

    def settle(self, answers: Sequence[tuple[Ticket, Said]]) -> int:
        """All answers at once, and each of a task that ran before behind them; how many counted."""
        alone = [
            (t, said) for t, said in answers if said.kind == "completed" and t in self.answers_again
        ]
        rest = [answer for answer in answers if answer not in alone]
        company = [(t, said) for t, said in rest if self._takes_children(t, said)]
        first = [(t, s) for t, s in company if not self._names_theirs(t, s)]
        last = [answer for answer in company if answer not in first]
        rest = [answer for answer in rest if answer not in company]
        return self._settle(rest) + sum(self._settle([one]) for one in [*first, *last, *alone])

    def _takes_children(self, ticket: Ticket, said: Said) -> bool:
        """It completes another of its key, which made children before."""
        if said.kind != "completed" or not self.is_current(ticket):
            return False
        task = self.tasks[ticket.id]
        return not self._clash(task, said) and any(self.ran_before(t) for t in self.twins(task))

    def _names_theirs(self, ticket: Ticket, said: Said) -> bool:
        return any(child.id in self.tasks for child in said.children)

    def _clash(self, task: Task, said: Said) -> bool:
        """Whether it names a child that is somebody else's."""
        in_use = [child.id for child in said.children if child.id in self.tasks]
        return any(not self.is_its_own(task, self.tasks[id_]) for id_ in in_use)

    def is_its_own(self, task: Task, child: Task) -> bool:
        """An answer to it, or to one of its key that it completes too, made the child."""
        makers = {task.id, *(twin.id for twin in self.twins(task) if twin.leased_by is None)}
        is_made = child.made_by in makers and child.group == task.group
        return is_made and child.id not in self.above(task.id)

    def ran_before(self, task: Task) -> bool:
        return task.attempt > 0 and bool(self.made_by({task.id}))

    def made_by(self, ids: Iterable[str]) -> list[Task]:
        ids = set(ids)
        return [task for task in self.tasks.values() if task.made_by in ids]

    def above(self, id_: str) -> set[str]:
        """The task and all it waits for."""
        found, queue = set(), [id_]
        while queue:
            found.add(one := queue.pop())
            queue += [parent for parent in self.tasks[one].parents if parent not in found]
        return found

    def _settle(self, answers: Sequence[tuple[Ticket, Said]]) -> int:
        answers = [(ticket, self._as_written(ticket, said)) for ticket, said in answers]
        live = [(ticket, said) for ticket, said in answers if self.is_current(ticket)]
        # What was never sent is no answer, nor is what we cut ourselves.
        unsaid = ("returned", "interrupted")
        late = [t for t, said in answers if not self.is_current(t) and said.kind not in unsaid]
        for ticket, said in answers:
            self._end_call(ticket, said, is_late=(ticket, said) not in live)
        for ticket, said in live:
            self._end(self.tasks[ticket.id], said)
        shared = {ticket: self.twins(self.tasks[ticket.id]) for ticket, _ in live}
        for ticket, said in live:
            for twin in shared[ticket]:
                self._share(twin, self.tasks[ticket.id], said)
        for ticket, said in live:
            self._after(
                self.tasks[ticket.id], said, [t for t in shared[ticket] if self.ran_before(t)]
            )
        for ticket in late:
            if self.history.get((ticket.id, ticket.attempt)) in ("abandoned", "cancelled"):
                self.late.add((ticket.id, ticket.attempt))
        return len(live)

    def _as_written(self, ticket: Ticket, said: Said) -> Said:
        """An answer that names others' children fails."""
        if not self.is_current(ticket) or not self._clash(self.tasks[ticket.id], said):
            return said
        return replace(said, kind="failed", output=None, error="taken", children=())

    def _end_call(self, ticket: Ticket, said: Said, *, is_late: bool) -> None:
        if said.may_run and self.kept:
            cut = self.cuts.get(ticket) or self.handed_out[ticket]
            self.cuts[ticket] = replace(cut, until=self.now + self.kept)
        elif is_late:
            self.cuts.pop(ticket, None)

    def _end(self, task: Task, said: Said) -> None:
        if said.kind != "returned":
            self.history[task.id, task.attempt] = said.kind
        task.leased_by = None
        unsaid = said.kind in ("returned", "interrupted")
        task.held = task.held if unsaid else task.held + 1 if said.kind == "held" else 0
        task.lost = task.lost if unsaid else task.lost + 1 if said.kind == "abandoned" else 0
        if said.kind in ("completed", "failed", "abandoned"):
            task.left = max(0, task.left - 1)
        if task.lost == LOSSES:
            task.left = 0
        if said.kind in ("completed", "failed"):
            task.output = said.output
        if said.kind in ("failed", "abandoned"):
            task.errors.append(said.error)
        if said.kind in ("held", "returned"):
            # What its workgroup's hold stopped is free when that is opened.
            is_of_hold = said.kind == "held" and self._holds(task, said)
            task.due = self.now + (0 if is_of_hold else said.wait)
        if said.kind == "failed":
            task.due = self.now + task.delay
        task.is_complete = said.kind == "completed"

    def _share(self, twin: Task, leader: Task, said: Said) -> None:
        twin.follows = None
        if said.kind == "completed":
            twin.is_complete, twin.output, twin.follows = True, leader.output, leader.id
        if said.kind == "failed":
            twin.errors.append(said.error)
            twin.left = max(0, twin.left - 1)
            twin.due = self.now + twin.delay
        is_of_hold = self._holds(leader, said) and twin.workgroup == leader.workgroup
        if said.kind == "held" and not is_of_hold:
            twin.due = max(twin.due, self.now + said.wait)

    def _holds(self, task: Task, said: Said) -> bool:
        return bool(said.hold and task.workgroup)

    def _after(self, task: Task, said: Said, twins: Sequence[Task]) -> None:
        if said.put_off:
            for child in self.children([task.id]):
                child.due = max(child.due, self.now + said.put_off)
        if said.kind == "completed":
            for child in said.children:
                child.due = self.now + said.put_off
                child.parents.append(task.id)
                child.made_by = task.id
            self._renew(task, said.children, {twin.id for twin in twins})
        if self._holds(task, said):
            until = max(self.holds.get(task.workgroup, 0), self.now + said.hold)
            self.holds[task.workgroup] = until

    def _renew(self, task: Task, children: Sequence[Task], twins: set[str]) -> None:
        """What earlier answers made comes back, goes or stays; what is new comes in."""
        above = self.above(task.id)
        earlier = {t.id: t for t in self.made_by({task.id, *twins}) if t.id not in above}
        keeps = any(self.tasks[t.made_by].keeps for t in earlier.values())
        kept = {id_ for id_, t in earlier.items() if t.is_complete and self.tasks[t.made_by].keeps}
        stays = {t.id for t in self.tasks.values() if t.is_seed or (keeps and t.is_complete)}
        staying = {child.id for child in children} | kept | twins
        unnamed = earlier.keys() - stays - staying
        self.delete(self.would_delete(unnamed, staying | stays))
        self.create([child for child in children if child.id not in earlier])
        for child in children:
            if child.id in earlier and child.id not in kept:
                self._adopt(earlier[child.id], child)

    def _adopt(self, old: Task, new: Task) -> None:
        self.reset([old], new.left)
        self.let_go({old.id})
        old.worker, old.workgroup, old.key, old.delay = (
            new.worker,
            new.workgroup,
            new.key,
            new.delay,
        )
        old.parents, old.made_by, old.due = new.parents, new.made_by, new.due
        old.is_paused |= new.is_paused or self.groups[old.group]
        self.part_from_ancestors()

    def sweep(self) -> None:
        """Schedulers that fell silent lose their leases, and are forgotten."""
        lost = self.lost_schedulers()
        for task in list(self.tasks.values()):
            if task.leased_by in lost:
                ticket = Ticket(task.id, task.attempt, task.leased_by)
                self.settle([(ticket, Said("abandoned", error="abandoned", may_run=True))])
        for by in lost:
            self.beats.pop(by, None)
        for ticket, cut in list(self.cuts.items()):
            if cut.until is None and ticket.by not in self.beats:
                cut = self.cuts[ticket] = replace(cut, until=self.now + self.kept)
            if cut.until is not None and cut.until <= self.now:
                del self.cuts[ticket]

    # --- The people ---

    def pause(self, tasks: Iterable[Task], is_paused: bool) -> None:
        for task in tasks:
            task.is_paused = is_paused

    def reset(self, tasks: Iterable[Task], left: int, *, keeps: bool = False) -> None:
        """As if it had never run. An attempt in flight is given up."""
        for task in tasks:
            self._give_up(task)
            task.left, task.due, task.output, task.errors = left, self.now, None, []
            task.is_complete, task.held, task.lost, task.keeps = False, 0, 0, keeps

    def reset_group(self, group: str, left: int) -> None:
        tasks = self.of(group)
        if any(task.is_seed for task in tasks):
            self.delete({task.id for task in tasks if not task.is_seed})
        self.reset(self.of(group), left)

    def retry(self, tasks: Iterable[Task], left: int) -> None:
        for task in tasks:
            if task.is_complete:
                continue
            task.left, task.held, task.lost = left, 0, 0
            has_failed = task.errors not in ([], ["cancelled"]) or task.attempt
            if task.leased_by is None and has_failed:
                task.due = min(task.due, self.now)

    def cancel(self, group: str) -> None:
        for task in self.of(group):
            if not task.is_complete:
                task.due = task.due if task.leased_by is None else self.now
                self._give_up(task)
                if task.left and task.errors[-1:] != ["cancelled"]:
                    task.errors.append("cancelled")
                task.left = 0

    def complete(self, task: Task, output: int | None) -> None:
        if not task.is_complete:
            task.is_complete, task.follows = True, None
        task.output = output

    def uncomplete(self, task: Task) -> None:
        if task.is_complete:
            task.is_complete, task.follows = False, None
        task.due = self.now

    def put(self, task: Task, sent: dict[str, Any]) -> bool:
        """Null leaves, `clear` empties; whether it can be: else nothing changes at all."""
        cleared = sent.get("clear") or []
        fields = {word: sent[word] for word in PUT if sent.get(word) is not None}
        if fields.get("remainingAttempts") == "":
            del fields["remainingAttempts"]
        if any(word not in EMPTY or word in fields for word in cleared):
            return False
        fields |= {word: EMPTY[word] for word in cleared}
        if task.is_executing and fields.keys() - {"isPaused"}:
            return False
        if task.is_complete and task.parents and "parentIds" in fields:
            return False  # they are history
        for word, value in fields.items():
            new = self.now if word == "runAfter" else copy(value)
            setattr(task, PUT[word], new)
        return True

    def would_delete(self, ids: Iterable[str], staying: Iterable[str] = ()) -> set[str]:
        """These, and the descendants that are left without any parent, but for those `staying`."""
        going = set(ids)
        while (
            orphans := {t.id for t in self.tasks.values() if t.parents and set(t.parents) <= going}
            - going
            - set(staying)
        ):
            going |= orphans
        return going

    def delete(self, ids: set[str]) -> None:
        for id_ in ids:
            self._cut(self.tasks.pop(id_))
        for task in self.tasks.values():
            task.parents = [id_ for id_ in task.parents if id_ not in ids]
            if task.made_by in ids:
                task.made_by = ""
        self.let_go(ids)
        self.history = {at: how for at, how in self.history.items() if at[0] not in ids}
        self.late = {at for at in self.late if at[0] not in ids}

    def part_from_ancestors(self) -> None:
        """A task never follows its own ancestor, whatever edges came between."""
        for task in self.tasks.values():
            if task.follows in self.above(task.id) and not task.is_complete:
                task.follows = None

    def let_go(self, ids: set[str]) -> None:
        """Who waits for one of these, as it ran for them."""
        for task in self.tasks.values():
            if task.follows in ids and not task.is_complete:
                task.follows = None

    def leave_and_return(self, group: str) -> None:
        """As an export and its import have it: a leader that is gone is named no more."""
        for task in self.of(group):
            if task.follows not in self.tasks:
                task.follows = None

    def makes_a_cycle(self, id_: str, parents: Iterable[str]) -> bool:
        return any(id_ in self.above(parent) for parent in parents)

    def _give_up(self, task: Task) -> None:
        self._cut(task)
        if task.leased_by is not None:
            self.history[task.id, task.attempt] = "cancelled"
        task.leased_by = task.follows = None

    def _cut(self, task: Task) -> None:
        """Its call loses the lease, and takes slot and key until it has ended."""
        if task.leased_by is not None:
            ticket = Ticket(task.id, task.attempt, task.leased_by)
            self.cuts.setdefault(ticket, self.handed_out[ticket])
