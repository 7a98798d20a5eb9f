"""What breaks: a seeded list of troubles, and how each is made."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import psycopg

from ..servers import Postgres
from .fleet import Member, tend_all
from .proxy import Door
from .story import Lock

BULK_WITHIN = 1.5  # seconds in which a bulk create may begin that a killed web server is to break
LOCK = """
    SELECT id FROM crew_taskgroup WHERE id IN (
        SELECT group_id FROM crew_task WHERE leased_by IS NOT NULL LIMIT 100)
    ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED
"""
TERMINATE = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = 'crew' AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      AND (NOT %(busy)s OR state <> 'idle')
"""


@dataclass(slots=True)
class Scene:
    """All that can be broken. Without a `server` there is no database server, and no doors."""

    dice: Random
    lease: float
    schedulers: list[Member]
    webs: list[Member]
    doors: list[Door] = field(default_factory=list)
    web_door: Door | None = None
    server: Postgres | None = None
    bulks: Callable[[], int] = lambda: 0  # bulk creates in flight
    invite: Callable[[], None] = lambda: None  # has the clients begin one
    released_at: dict[int, float] = field(default_factory=dict)
    forgotten: list[tuple[float, psycopg.Connection, Lock]] = field(default_factory=list)
    locks: list[Lock] = field(default_factory=list)  # that nothing else disturbed which stops all
    done: Counter[str] = field(default_factory=Counter)

    @property
    def members(self) -> list[Member]:
        return [*self.schedulers, *self.webs]

    def tend(self) -> None:
        """Start what is gone, wake what slept its time, and open what was shut long enough."""
        tend_all(self.members)
        for place, when in list(self.released_at.items()):
            if time.monotonic() > when:
                self._release(place)
        self._unlock(time.monotonic())

    def calm(self) -> None:
        """End all trouble that is still going on."""
        for member in self.members:
            if member.is_stopped:
                member.go_on()
        for place in list(self.released_at):
            self._release(place)
        self._unlock(float("inf"))

    def doubt(self) -> None:
        """A last trouble for every scheduler at once, of which none is killed any more.

        Who does not find out what became of a COMMIT would be saved by the next kill.
        """
        for door in self.doors:
            door.swallow()

    # --- Troubles: each says whether it could be made ---

    def kill(self) -> bool:
        """One scheduler, ready or stopped."""
        return self._kill(1)

    def kill_many(self) -> bool:
        self._disturb()
        return self._kill(len(self.schedulers))

    def stop(self) -> bool:
        """One scheduler until after its lease, while another goes on if there is one."""
        going = [each for each in self._ready() if not each.is_stopped]
        if len(going) < min(2, len(self.schedulers)):
            return False
        self.dice.choice(going).stop(self.lease * self.dice.uniform(1.3, 2.2))
        self.done["stops"] += 1
        return True

    def drain(self) -> bool:
        """A deployment of one scheduler: slow calls outlast it, and are cut."""
        going = [each for each in self._ready() if not each.is_stopped]
        if not going:
            return False
        self.dice.choice(going).drain()
        self.done["drains"] += 1
        return True

    def wake_and_kill(self) -> bool:
        """One that slept past its lease, in the moment in which it goes on."""
        asleep = [each for each in self.schedulers if each.is_stopped]
        if not asleep:
            self.stop()
        late = [each for each in asleep if time.monotonic() > each.stopped_at + self.lease]
        if not late:
            return False
        member = self.dice.choice(late)
        member.go_on()
        time.sleep(self.dice.choice([0.0, 0.002, 0.01, 0.05]))
        member.kill()
        self.done["kills"] += 1
        self.done["kills at waking"] += 1
        return True

    def kill_web(self) -> bool:
        """In the middle of a bulk create, if one comes."""
        ready = [each for each in self.webs if each.is_ready]
        if not ready:
            return False
        until = time.monotonic() + BULK_WITHIN
        self.invite()
        while not self.bulks() and time.monotonic() < until:
            self.tend()
            time.sleep(0.001)
        self.done["web kills in a bulk create"] += bool(self.bulks())
        time.sleep(self.dice.uniform(0, 0.06))
        self.dice.choice(ready).kill()
        self.done["web kills"] += 1
        return True

    def crash(self) -> bool:
        """The database server, as if the power went; it recovers from its log."""
        assert self.server is not None
        self._disturb()
        self.server.restart("immediate")
        self.done["database crashes"] += 1
        return True

    def terminate(self) -> bool:
        """All connections, or all that are in the middle of something."""
        assert self.server is not None
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.server.url) as connection:
            (count,) = connection.execute(
                TERMINATE, {"busy": self.dice.random() < 0.7}
            ).fetchone() or (0,)
            self.done["backends terminated"] += count
            return bool(count)
        return False

    def hold(self) -> bool:
        """A black hole between one scheduler, or the web server, and the database."""
        place = self.dice.randrange(len(self.doors))
        if place in self.released_at:
            return False
        self.doors[place].hold()
        self.released_at[place] = time.monotonic() + self.lease * self.dice.uniform(0.3, 1.8)
        self.done["black holes"] += 1
        return True

    def lock(self) -> bool:
        """The row of a group that has tasks running, as by a transaction that somebody forgot."""
        assert self.server is not None
        with contextlib.suppress(psycopg.Error):
            session = psycopg.connect(self.server.url)
            until = time.monotonic() + self.dice.uniform(1, 5)
            found = session.execute(LOCK).fetchone()
            if found is None:
                session.close()
                return False
            self.forgotten.append((until, session, Lock(found[0], time.time(), 0.0)))
            self.done["groups locked"] += 1
            return True
        return False

    def swallow(self) -> bool:
        """The answer to a COMMIT: it is done, and whoever asked for it cannot know."""
        self.dice.choice(self.doors).swallow()
        return True

    def swallow_web(self) -> bool:
        assert self.web_door is not None
        self.web_door.swallow()
        return True

    def cut(self) -> bool:
        self.dice.choice(self.doors).cut()
        self.done["links cut"] += 1
        return True

    # --- Helpers ---

    def _unlock(self, now: float) -> None:
        for _, session, lock in [each for each in self.forgotten if each[0] < now]:
            self.locks.append(replace(lock, until=time.time()))
            session.close()
        self.forgotten = [each for each in self.forgotten if each[0] >= now]

    def _disturb(self) -> None:
        """What follows stops all groups: that is no lock's fault."""
        for _, session, _ in self.forgotten:
            session.close()
        self.forgotten = []

    def _ready(self) -> list[Member]:
        return [each for each in self.schedulers if each.is_ready]

    def _kill(self, most: int) -> bool:
        ready = self._ready()
        for member in self.dice.sample(ready, min(most, len(ready))):
            self.done["kills of stopped ones"] += member.is_stopped
            member.kill()
            self.done["kills"] += 1
        return bool(ready)

    def _release(self, place: int) -> None:
        """What was held comes through late, or never."""
        del self.released_at[place]
        door = self.doors[place]
        if self.dice.random() < 0.5:
            door.cut()
        door.release()


SHARES = {
    "kill": 52,
    "wake_and_kill": 4,
    "kill_many": 1,
    "stop": 21,
    "kill_web": 6,
    "crash": 3,
    "terminate": 6,
    "hold": 6,
    "lock": 6,
    "swallow": 8,
    "swallow_web": 3,
    "cut": 4,
    "drain": 12,
}
ON_SQLITE = ("kill", "wake_and_kill", "stop", "kill_web", "drain")


def troubles(dice: Random, *, on_postgres: bool) -> list[str]:
    """One round of trouble: about 60 kills, 21 stops and 3 crashes, in a random order."""
    names = SHARES if on_postgres else ON_SQLITE
    listed = [name for name in names for _ in range(SHARES[name])]
    dice.shuffle(listed)
    return listed
