"""The verbs on many tasks of a group at once."""

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from .fields import Fields
from .tasks import Tasks
from .values import Group, Task, Touched, Which, id_of, to_query


class Named(Which, total=False):
    """Which tasks, and how. With `limit`, 1 to 10,000, the call is for so many of them, the
    oldest first, from `after` on, the `next` of an earlier call.
    """

    everything: bool
    dry_run: bool
    limit: int
    after: str | None


class ManyTasks(Tasks):
    """Each verb takes its tasks by `ids`, by what matches `Which`, or by `everything=True`:
    InvalidInput without any of these. It returns how many tasks it touched; with `dry_run` how
    many are named, and touches none. Of a filter that matches nothing, and of no ids, that is 0.
    """

    def pause_tasks(
        self,
        group: Group | str,
        ids: Iterable[Task | str] | None = None,
        **which: Unpack[Named],
    ) -> Touched:
        """Start no attempt of these tasks; running ones finish."""
        return self._many("pause", group, ids, {}, which)

    def resume_tasks(
        self,
        group: Group | str,
        ids: Iterable[Task | str] | None = None,
        **which: Unpack[Named],
    ) -> Touched:
        return self._many("resume", group, ids, {}, which)

    def retry_tasks(
        self,
        group: Group | str,
        ids: Iterable[Task | str] | None = None,
        *,
        remaining_attempts: int = 5,
        **which: Unpack[Named],
    ) -> Touched:
        """Give those that are not complete their attempts back."""
        body = {"remainingAttempts": remaining_attempts}
        return self._many("retry", group, ids, body, which)

    def reset_tasks(
        self,
        group: Group | str,
        ids: Iterable[Task | str] | None = None,
        *,
        remaining_attempts: int = 5,
        keep_complete: bool = False,
        **which: Unpack[Named],
    ) -> Touched:
        """Make these tasks as if they had never run. Raises Conflict if one of them executes.

        What their earlier answers made goes when they answer again and do not name it;
        `keep_complete` keeps what is complete of it.
        """
        body: dict[str, object] = {"remainingAttempts": remaining_attempts}
        if keep_complete:
            body["keepComplete"] = True
        return self._many("reset", group, ids, body, which)

    def delete_tasks(
        self,
        group: Group | str,
        ids: Iterable[Task | str] | None = None,
        *,
        children: str = "cascade",
        **which: Unpack[Named],
    ) -> Touched:
        """Delete these tasks; `children` as in `delete_task`."""
        return self._many("delete", group, ids, {}, which, {"children": children})

    def _many(
        self,
        verb: str,
        group: Group | str,
        ids: Iterable[Task | str] | None,
        body: dict[str, Any],
        named: Named,
        query: Mapping[str, str] = {},
    ) -> Touched:
        which = to_query(named, tuple(Named.__annotations__))
        how = _how(named)
        if which is None:
            return Touched(0)
        if ids is not None:
            body = body | {"ids": [id_of(task) for task in ids]}
        parts = ("task_group", id_of(group), "tasks", verb)
        fields = Fields(self._post(*parts, body=body, query={**which, **how, **query}))
        touched = Touched(fields.count("count"))
        touched.next = fields.maybe_text("next")
        return touched


def _how(named: Named) -> dict[str, str]:
    """Raises TypeError for a flag of another kind: "no" would be a yes."""
    query = {}
    for name, flag in (
        ("all", named.get("everything", False)),
        ("dryRun", named.get("dry_run", False)),
    ):
        if not isinstance(flag, bool):
            raise TypeError("everything and dry_run must be True or False")
        if flag:
            query[name] = "1"
    if "limit" in named:
        query["limit"] = str(named["limit"])
    after = named.get("after")
    return query if after is None else query | {"after": after}
