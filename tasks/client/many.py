"""The verbs on many tasks of a group at once."""

from collections.abc import Iterable
from typing import Any, Unpack

from .tasks import Tasks
from .values import Group, Task, Which, id_of, to_query


class ManyTasks(Tasks):
    """Each verb is told its tasks by `ids`, by what matches `Which`, or by `everything=True`:
    InvalidInput without any of these. It returns how many tasks it touched; with `dry_run` how
    many are named, and touches none.
    """

    def pause_tasks(
        self,
        group: Group | str,
        ids: Iterable[Task | str] | None = None,
        *,
        everything: bool = False,
        dry_run: bool = False,
        **which: Unpack[Which],
    ) -> int:
        """Start no attempt of these tasks; running ones finish."""
        return self._many("pause", group, ids, {}, _query(which, everything, dry_run))

    def resume_tasks(
        self,
        group: Group | str,
        ids: Iterable[Task | str] | None = None,
        *,
        everything: bool = False,
        dry_run: bool = False,
        **which: Unpack[Which],
    ) -> int:
        return self._many("resume", group, ids, {}, _query(which, everything, dry_run))

    def retry_tasks(
        self,
        group: Group | str,
        ids: Iterable[Task | str] | None = None,
        *,
        remaining_attempts: int = 5,
        everything: bool = False,
        dry_run: bool = False,
        **which: Unpack[Which],
    ) -> int:
        """Give those that are not complete their attempts back."""
        body = {"remainingAttempts": remaining_attempts}
        return self._many("retry", group, ids, body, _query(which, everything, dry_run))

    def reset_tasks(
        self,
        group: Group | str,
        ids: Iterable[Task | str] | None = None,
        *,
        remaining_attempts: int = 5,
        keep_complete: bool = False,
        everything: bool = False,
        dry_run: bool = False,
        **which: Unpack[Which],
    ) -> int:
        """Make these tasks as if they had never run. Raises Conflict if one of them executes.

        What their earlier answers made goes when they answer again and do not name it;
        `keep_complete` keeps what is complete of it.
        """
        body: dict[str, object] = {"remainingAttempts": remaining_attempts}
        if keep_complete:
            body["keepComplete"] = True
        return self._many("reset", group, ids, body, _query(which, everything, dry_run))

    def delete_tasks(
        self,
        group: Group | str,
        ids: Iterable[Task | str] | None = None,
        *,
        children: str = "cascade",
        everything: bool = False,
        dry_run: bool = False,
        **which: Unpack[Which],
    ) -> int:
        """Delete these tasks; `children` as in `delete_task`."""
        query = _query(which, everything, dry_run) | {"children": children}
        return self._many("delete", group, ids, {}, query)

    def _many(
        self,
        verb: str,
        group: Group | str,
        ids: Iterable[Task | str] | None,
        body: dict[str, Any],
        query: dict[str, str],
    ) -> int:
        if ids is not None:
            body = body | {"ids": [id_of(task) for task in ids]}
        parts = ("task_group", id_of(group), "tasks", verb)
        return int(self._post(*parts, body=body, query=query)["count"])


def _query(which: Which, everything: bool, dry_run: bool) -> dict[str, str]:
    flags = {"all": everything, "dryRun": dry_run}
    return to_query(which) | {name: "1" for name, is_set in flags.items() if is_set}
