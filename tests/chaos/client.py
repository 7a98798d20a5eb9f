"""Those who create groups and do what people do to them, and write down what they were answered."""

import heapq
import queue
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tasks.client import Crew
from tasks.client.errors import CrewError, ServerError, Unreachable

from .journal import DONE, REFUSED, UNKNOWN, Journal
from .plan import Deed, GroupPlan, Json, group_of

CREATORS = 3
GIVES_UP_AFTER = 60.0  # seconds in which a call that must be done is tried again
PAUSE = 0.3  # seconds between two tries
MANY = 20  # tasks that make a call a bulk create


class Clients:
    """Threads that create the groups of a plan, as fast as they are allowed to."""

    def __init__(self, url: str, token: str, *, seed: int, journal: Journal) -> None:
        self._make = lambda: Crew(url, token, timeout=(3, 12), retries=2)
        self._seed = seed
        self._journal = journal
        self._lock = threading.Condition()
        self._next = 0
        self._allowed = 0
        self._stopping = False
        self._deeds: list[tuple[float, int, str, Deed]] = []
        self.created = 0  # tasks in calls that were acknowledged
        self.planned = 0  # and in calls that may still be
        self.bulks = 0  # bulk creates in flight
        self.failures: list[str] = []
        self.plans: list[GroupPlan] = []
        self._creators = [self._thread(self._create_all) for _ in range(CREATORS)]
        self._doer = self._thread(self._do_all)
        self._retries: queue.Queue[tuple[str, list[str]] | None] = queue.Queue()
        self._retrier = self._thread(self._retry_all)

    def start(self) -> None:
        for thread in (*self._creators, self._doer, self._retrier):
            thread.start()

    def allow(self, tasks: int) -> None:
        """Go on with creating while fewer tasks than these were planned."""
        with self._lock:
            self._allowed = tasks
            self._lock.notify_all()

    def finish(self) -> None:
        """Begin no more groups; return when every call is answered and every deed done."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        for thread in (*self._creators, self._doer):
            thread.join()

    def retry(self, group: str, ids: list[str]) -> None:
        """Give tasks that lost their scheduler too often attempts, as a person would; later."""
        self._retries.put((group, ids))

    def end(self) -> None:
        """Return when all asked for by `retry` is done; nothing may be asked for after that."""
        self._retries.put(None)
        self._retrier.join()

    @property
    def retrying(self) -> bool:
        return not self._retries.empty()

    def _thread(self, work: Callable[[Crew], None]) -> threading.Thread:
        def run() -> None:
            try:
                with self._make() as crew:
                    work(crew)
            except Exception as error:  # noqa: BLE001  reported by the run, which then fails
                self.failures.append(f"{work.__name__}: {error!r}")

        return threading.Thread(target=run, daemon=True)

    # --- Creating ---

    def _create_all(self, crew: Crew) -> None:
        while (number := self._take()) is not None:
            plan = group_of(self._seed, number)
            with self._lock:
                self.plans.append(plan)
                self.planned += len(plan.tasks)
            if self._create(crew, plan, Random(f"{self._seed} create {number}")):
                self._schedule(plan)
            else:
                with self._lock:
                    self.planned -= len(plan.tasks)

    def _take(self) -> int | None:
        with self._lock:
            while not self._stopping and self.planned >= self._allowed:
                self._lock.wait()
            if self._stopping:
                return None
            self._next += 1
            return self._next - 1

    def _create(self, crew: Crew, plan: GroupPlan, dice: Random) -> bool:
        """In one call, or the group first and its tasks then; whether all is known to be there."""
        key = str(uuid.UUID(int=dice.getrandbits(128)))
        ids = [task["id"] for task in plan.tasks]
        tasks = [_dated(task) for task in plan.tasks]
        insists = dice.random() < 0.7  # or it never knows, and what is there must be all or nothing
        if dice.random() < 0.5:
            return self._tried(
                lambda: crew.create_group(id=plan.id, tasks=tasks, idempotency_key=key),
                self._journal.sent("create_group", plan.id, ids),
                insists=insists,
                tasks=len(ids),
            )
        number = self._journal.sent("create_group", plan.id)
        made = self._tried(
            lambda: crew.create_group(id=plan.id, idempotency_key=f"{key}-group"),
            number,
            insists=True,
        )
        return made and self._tried(
            lambda: crew.create_tasks(plan.id, tasks, idempotency_key=key),
            self._journal.sent("create_tasks", plan.id, ids),
            insists=insists,
            tasks=len(ids),
        )

    def _tried(
        self, call: Callable[[], Any], number: int, *, insists: bool, tasks: int = 0
    ) -> bool:
        """Make a call that may be repeated; with `insists` until its result is known."""
        gives_up = time.monotonic() + GIVES_UP_AFTER
        with self._lock:
            self.bulks += tasks >= MANY
        try:
            while True:
                result, text = _made(call)
                if result != UNKNOWN or not insists or time.monotonic() > gives_up:
                    break
                time.sleep(PAUSE)
        finally:
            with self._lock:
                self.bulks -= tasks >= MANY
        self._journal.answered(number, result, text)
        if result == DONE:
            with self._lock:
                self.created += tasks
        return result == DONE

    # --- Deeds ---

    def _retry_all(self, crew: Crew) -> None:
        while (asked := self._retries.get()) is not None:
            group, ids = asked
            self._do(crew, group, Deed(0, "retry_tasks", tuple(ids), needed=True))

    def _schedule(self, plan: GroupPlan) -> None:
        now = time.monotonic()
        with self._lock:
            for deed in plan.deeds:
                heapq.heappush(self._deeds, (now + deed.after, id(deed), plan.id, deed))
            self._lock.notify_all()

    def _do_all(self, crew: Crew) -> None:
        while (due := self._due()) is not None:
            self._do(crew, *due)

    def _due(self) -> tuple[str, Deed] | None:
        with self._lock:
            while True:
                creating = any(thread.is_alive() for thread in self._creators)
                if not self._deeds and self._stopping and not creating:
                    return None
                wait = self._deeds[0][0] - time.monotonic() if self._deeds else 0.2
                if self._deeds and wait <= 0:
                    _, _, group, deed = heapq.heappop(self._deeds)
                    return group, deed
                self._lock.wait(min(wait, 0.2))

    def _do(self, crew: Crew, group: str, deed: Deed) -> None:
        verb = getattr(crew, deed.name)
        number = self._journal.sent(deed.name, group, deed.ids, deed.takes)
        arguments = (group, deed.ids) if deed.ids else (group,)
        self._tried(lambda: verb(*arguments), number, insists=deed.needed)


def _dated(task: Json) -> Json:
    """The task with its due time: the worker tells when it is called before it."""
    seconds = task["input"].get("not_before")
    if not seconds:
        return task
    due = datetime.now(UTC) + timedelta(seconds=seconds)
    return task | {"run_after": due, "input": task["input"] | {"not_before": due.timestamp()}}


def _made(call: Callable[[], Any]) -> tuple[str, str]:
    """What became of a call, as far as the client can know."""
    try:
        call()
    except (Unreachable, ServerError) as error:
        return UNKNOWN, str(error)
    except CrewError as error:
        return REFUSED, str(error)
    return DONE, ""
