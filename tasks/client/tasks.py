"""The calls on tasks, one by one and many at once."""

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import IO, Any, Unpack

from .errors import InvalidInput
from .fields import Fields
from .groups import PAGE, Groups
from .transport import to_bytes
from .values import (
    Attempt,
    Created,
    Group,
    Task,
    TaskFields,
    Which,
    id_of,
    tag_of,
    to_json,
    to_query,
    to_words,
)

# A bulk create above these goes out as NDJSON from a temporary file, not from memory.
MANY_TASKS = 1_000
MANY_BYTES = 1024 * 1024


class Tasks(Groups):
    # --- Creating ----------------------------------------------------------------------------

    def create_task(
        self,
        group: Group | str,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[TaskFields],
    ) -> Task:
        """Create a task; its parents must be there. Raises Conflict if its id is taken."""
        body = to_bytes(to_json(fields))
        parts = ("task_group", id_of(group), "tasks")
        return Task.of(self._create(*parts, body=body, key=idempotency_key))

    def create_tasks(
        self,
        group: Group | str,
        tasks: Iterable[Mapping[str, Any]],
        *,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> Created:
        """Create many tasks in one call, in any order: all are stored, or none.

        `tasks` is gone through once; 100,000 at most, never all in memory: many are written to a
        temporary file, which is also what is sent again after a broken connection. `dry_run`
        only checks them. See `create_group` for their fields.
        """
        lines = (to_bytes(to_json(task)) for task in tasks)
        head, size = [], 0
        for line in lines:
            head.append(line)
            size += len(line)
            if len(head) > MANY_TASKS or size > MANY_BYTES:
                break
        else:
            body = b'{"tasks":[' + b",".join(head) + b"]}"
            return self._bulk_create(group, body, "application/json", dry_run, idempotency_key)
        with tempfile.TemporaryFile() as file:
            file.writelines(line + b"\n" for line in itertools.chain(head, lines))
            return self._bulk_create(group, file, "application/x-ndjson", dry_run, idempotency_key)

    def _bulk_create(
        self,
        group: Group | str,
        body: bytes | IO[bytes],
        content_type: str,
        dry_run: bool,
        key: str | None,
    ) -> Created:
        made = self._create(
            "task_group",
            id_of(group),
            "tasks",
            "bulk",
            body=body,
            key=key,
            query={"dryRun": "1"} if dry_run else {},
            content_type=content_type,
        )
        fields = Fields(made)
        return Created(fields.count("count"), fields.texts("ids"))

    # --- Reading -----------------------------------------------------------------------------

    def task(self, task: Task | str) -> Task:
        fields, etag = self._get_tagged("task", id_of(task))
        return replace(Task.of(fields), etag=etag)

    def tasks(
        self, group: Group | str, *, page_size: int = PAGE, **which: Unpack[Which]
    ) -> Iterator[Task]:
        """The tasks of a group that match, oldest first, read part by part.

        What is done to tasks meanwhile shifts nothing. Raises InvalidInput for a `page_size`
        below 1.
        """
        parts, query = ("task_group", id_of(group), "tasks"), to_query(which)
        if query is None:
            return iter(())
        return map(Task.of, self._rows("tasks", parts, query, page_size))

    def count_tasks(self, group: Group | str, **which: Unpack[Which]) -> int:
        """How many tasks of a group match; 0 for an unknown group."""
        parts, query = ("task_group", id_of(group), "tasks"), to_query(which)
        if query is None:
            return 0
        return Fields(self._get(*parts, **query, page=1, pageSize=1)).count("count")

    def attempts(self, task: Task | str) -> Iterator[Attempt]:
        """The attempts at a task that ended, the newest first."""
        rows = self._rows("attempts", ("task", id_of(task), "attempts"), {}, PAGE)
        return map(Attempt.of, rows)

    def attempt(self, task: Task | str, number: int) -> Attempt:
        """One attempt, with its request and answer; NotFound while it runs."""
        return Attempt.of(self._get("task", id_of(task), "attempts", str(number)))

    def children(self, task: Task | str) -> Iterator[Task]:
        """The tasks that wait, or waited, for this one."""
        return map(Task.of, self._rows("tasks", ("task", id_of(task), "children"), {}, PAGE))

    def parents(self, task: Task | str) -> Iterator[Task]:
        """The tasks that this one waits, or waited, for."""
        return map(Task.of, self._rows("tasks", ("task", id_of(task), "parents"), {}, PAGE))

    # --- One task ----------------------------------------------------------------------------

    def edit_task(
        self,
        group: Group | str,
        task: Task | str,
        *,
        clear: Iterable[str] = (),
        if_match: Task | str | None = None,
        **fields: Unpack[TaskFields],
    ) -> Task:
        """Change the fields given; what is None stays as it is, and `clear` names what is to be
        empty, as `clear=["input"]`. Raises Conflict for more than `is_paused` while it executes.
        With `if_match`, a task that was read or its etag, Changed is raised if it is another by
        now. Such an edit is not repeated when its answer is lost.
        """
        if fields.get("id") is not None:
            raise InvalidInput("a task keeps its id")
        parts = ("task_group", id_of(group), "task", id_of(task))
        cleared = to_words([clear] if isinstance(clear, str) else clear)
        body = to_json(fields) | ({"clear": cleared} if cleared else {})
        return Task.of(self._put(*parts, body=body, if_match=tag_of(if_match)))

    def delete_task(
        self,
        group: Group | str,
        task: Task | str,
        *,
        children: str = "cascade",
        if_match: Task | str | None = None,
    ) -> None:
        """Delete a task. `children`: "cascade" takes descendants left without any parent along,
        "detach" cuts them off, "refuse" raises Conflict if there are any.
        """
        parts = ("task_group", id_of(group), "task", id_of(task))
        self._delete(*parts, query={"children": children}, if_match=tag_of(if_match))

    def reset_task(
        self, group: Group | str, task: Task | str, *, remaining_attempts: int = 5
    ) -> Task:
        """Make a task as if it had never run. Raises Conflict while it executes."""
        return self._task_verb(group, task, "reset", remaining_attempts)

    def retry_task(
        self, group: Group | str, task: Task | str, *, remaining_attempts: int = 5
    ) -> Task:
        """Give a task its attempts back; a complete one stays as it is."""
        return self._task_verb(group, task, "retry", remaining_attempts)

    def _task_verb(
        self, group: Group | str, task: Task | str, verb: str, remaining_attempts: int
    ) -> Task:
        parts = ("task_group", id_of(group), "task", id_of(task), verb)
        return Task.of(self._post(*parts, body={"remainingAttempts": remaining_attempts}))
