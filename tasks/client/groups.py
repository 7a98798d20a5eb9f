"""The calls on groups."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .errors import Unauthorized
from .fields import Fields
from .transport import Call, Transport, to_bytes
from .values import Group, Json, id_of, to_json

PAGE = 100  # rows asked for at once


class Groups(Transport):
    # --- Who calls ---------------------------------------------------------------------------

    def login(self, username: str, password: str) -> str:
        """Get a token, and use it from now on. Raises Unauthorized for a wrong password."""
        body = to_bytes({"username": username, "password": password})
        token = Fields(self._send(Call("POST", "/login", body=body))).needed("token")
        self.token = token
        return token

    def authcheck(self) -> bool:
        """Whether the token is good."""
        try:
            self._send(Call("GET", "/authcheck", is_told=False))
        except Unauthorized:
            return False
        return True

    # --- One group ---------------------------------------------------------------------------

    def create_group(
        self,
        *,
        name: str = "",
        id: str | None = None,
        tasks: Iterable[Mapping[str, Any]] = (),
        idempotency_key: str | None = None,
    ) -> Group:
        """Create a group and, in the same call, its tasks: all of it or nothing.

        `tasks` are objects with the fields of `TaskFields`, or the API's own, in any order; for
        more than some thousand use `create_tasks`. Raises Conflict if an id is taken.
        """
        body: dict[str, Any] = {"name": name}
        if id:
            body["id"] = id
        listed = [to_json(task) for task in tasks]
        if listed:
            body["tasks"] = listed
        return Group.of(self._create("task_groups", body=to_bytes(body), key=idempotency_key))

    def group(self, group: "Group | str") -> Group:
        return Group.of(self._get("task_group", id_of(group)))

    def groups(self, search: str = "", *, page_size: int = PAGE) -> Iterator[Group]:
        """All groups whose name contains `search`, newest first, read page by page.

        One that is created or deleted meanwhile may be missed, or another be given twice.
        """
        rows = self._pages("taskGroups", ("task_groups",), {"search": search}, page_size)
        return map(Group.of, rows)

    def rename_group(self, group: "Group | str", name: str) -> Group:
        return Group.of(self._put("task_group", id_of(group), body={"name": name}))

    def delete_group(self, group: "Group | str") -> None:
        """Delete the group with all its tasks; running attempts are given up."""
        self._delete("task_group", id_of(group))

    def progress(self, group: "Group | str") -> float:
        """How much of the group is complete, 0 to 1; 0 for an empty or unknown group."""
        told = self._get("task_group", id_of(group), "progress")
        return Fields(told).fraction("completedPercent")

    # --- What people may do with it ----------------------------------------------------------

    def pause_group(self, group: "Group | str") -> None:
        """Start nothing of the group any more, of later tasks neither; running ones finish."""
        self._post("task_group", id_of(group), "pause")

    def resume_group(self, group: "Group | str") -> None:
        """Take the pause from the group and from every task in it."""
        self._post("task_group", id_of(group), "resume")

    def retry_group(self, group: "Group | str", *, remaining_attempts: int = 5) -> None:
        """Give every incomplete task its attempts back, failed ones at once."""
        body = {"remainingAttempts": remaining_attempts}
        self._post("task_group", id_of(group), "retry", body=body)

    def reset_group(self, group: "Group | str", *, remaining_attempts: int = 5) -> None:
        """Make the group as if it had never run; if it has seeds, only they are kept."""
        body = {"remainingAttempts": remaining_attempts}
        self._post("task_group", id_of(group), "reset", body=body)

    def cancel_group(self, group: "Group | str") -> int:
        """Stop the group for good; return how many tasks that took."""
        return Fields(self._post("task_group", id_of(group), "cancel")).count("count")

    # --- Pages -------------------------------------------------------------------------------

    def _pages(
        self, name: str, parts: tuple[str, ...], query: Mapping[str, Any], page_size: int
    ) -> Iterator[Json]:
        number, seen = 1, 0
        while True:
            page = self._get(*parts, **query, page=number, pageSize=page_size)
            yield from page[name]
            number, seen = number + 1, seen + len(page[name])
            if not page[name] or seen >= page["count"]:
                return
            if page.get("isCut"):  # its rows were too large together: on, in pages that fit
                fitting = range(len(page[name]), 0, -1)
                page_size = next(size for size in fitting if seen % size == 0)
                number = seen // page_size + 1
