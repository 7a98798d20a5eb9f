"""The client as a whole: what all groups share, and waiting."""

from collections.abc import Callable, Iterator
from typing import Any

from .errors import InvalidInput
from .groups import PAGE
from .many import ManyTasks
from .values import Group, Worker, Workgroup, id_of
from .waiting import Progress, wait


class Crew(ManyTasks):
    """The HTTP API of one Crew server.

    with Crew("https://crew.example/", token) as crew:
        group = crew.create_group(name="nightly", tasks=[{"worker": "worker-a"}])
        crew.wait(group)

    Every method raises `CrewError`: Unreachable, Unauthorized, Forbidden, InvalidInput,
    NotFound, RateLimited or ServerError, and what its own text says. Reads, edits, deletes and
    creates are repeated when the connection breaks and on 429, 502, 503 and 504; other verbs
    only when they never reached the server. The old Crew knows no Idempotency-Key, and might
    create twice: give `retries=0` for it.
    """

    def wait(
        self,
        group: Group | str,
        timeout: float | None = None,
        *,
        poll: float = 0.5,
        progress: Callable[[Progress], object] | None = None,
    ) -> Group:
        """Return the group once every task of it is complete.

        Asks every `poll` seconds at first, then ever more seldom, up to 10 s. `progress` is
        called with the fraction complete (0 to 1) whenever it changed. Raises WaitTimeout after
        `timeout` seconds, and GroupStuck when every task left has no attempts left, no worker, or
        waits for such a one; a paused group is waited for. So is a server that does not answer,
        or answers 429, 502, 503 or 504: the `outage` of what `progress` is called with says why.
        """
        if not poll > 0:
            raise InvalidInput("poll must be above 0 seconds")
        return wait(
            self,
            id_of(group),
            timeout=timeout,
            poll=poll,
            progress=progress,
        )

    # --- Workers and workgroups --------------------------------------------------------------

    def workers(self) -> Iterator[Worker]:
        """All workers that a task ever named, by name."""
        return map(Worker.of, self._rows("workers", ("workers",), {}, PAGE))

    def limit_worker(self, name: str, max_concurrency: int | None) -> Worker:
        """Set how many attempts it may have in flight; None for the default, 0 for none."""
        body: dict[str, Any] = {"maxConcurrency": max_concurrency}
        if max_concurrency is None:
            body = {"clear": ["maxConcurrency"]}
        return Worker.of(self._put("worker", name, body=body))

    def try_worker(self, name: str) -> Worker:
        """End the rest of a worker that failed: one attempt tries it at once."""
        return Worker.of(self._put("worker", name, body={"tryNow": True}))

    def workgroups(self) -> Iterator[Workgroup]:
        """All workgroups that were ever held, by name."""
        return map(Workgroup.of, self._rows("workgroups", ("workgroups",), {}, PAGE))

    def hold_workgroup(self, name: str, seconds: float) -> Workgroup:
        """Start no task of the workgroup for so many seconds from now, in any group."""
        return Workgroup.of(self._post("workgroup", name, "hold", body={"seconds": seconds}))

    def open_workgroup(self, name: str) -> Workgroup:
        """End a hold now."""
        return Workgroup.of(self._post("workgroup", name, "open"))
