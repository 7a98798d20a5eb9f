"""The calls on groups."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from .errors import InvalidInput, ServerError, Unauthorized
from .fields import Fields
from .transport import Request, Transport, to_bytes
from .values import Group, id_of, tag_of, to_json

PAGE = 100  # rows asked for at once


class Groups(Transport):
    # --- Who calls ---------------------------------------------------------------------------

    def login(self, username: str, password: str) -> str:
        """Get a token, and use it from now on. Raises Unauthorized for a wrong password."""
        body = to_bytes({"username": username, "password": password})
        token = Fields(self._send(Request("POST", "/login", body=body))).needed("token")
        self.token = token
        return token

    def authcheck(self) -> bool:
        """Whether the token is good."""
        try:
            self._send(Request("GET", "/authcheck", is_read=False))
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
        body, etag = self._get_tagged("task_group", id_of(group))
        return replace(Group.of(body), etag=etag)

    def groups(self, search: str = "", *, page_size: int = PAGE) -> Iterator[Group]:
        """All groups whose name contains `search`, newest first, read part by part.

        What is created or deleted meanwhile shifts nothing (but of the old Crew, which has pages
        only). Raises InvalidInput for a `page_size` below 1.
        """
        rows = self._rows("taskGroups", ("task_groups",), {"search": search}, page_size)
        return map(Group.of, rows)

    def rename_group(
        self, group: "Group | str", name: str, *, if_match: "Group | str | None" = None
    ) -> Group:
        """With `if_match`, a group that was read or its etag, Changed is raised if it is another
        by now.
        """
        parts, tag = ("task_group", id_of(group)), tag_of(if_match)
        return Group.of(self._put(*parts, body={"name": name}, if_match=tag))

    def delete_group(self, group: "Group | str", *, if_match: "Group | str | None" = None) -> None:
        """Delete the group with all its tasks; running attempts are given up."""
        self._delete("task_group", id_of(group), if_match=tag_of(if_match))

    def progress(self, group: "Group | str") -> float:
        """How much of the group is complete, 0 to 1; 0 for an empty or unknown group."""
        body = self._get("task_group", id_of(group), "progress")
        return Fields(body).fraction("completedPercent")

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

    # --- Lists -------------------------------------------------------------------------------

    def _rows(
        self, name: str, parts: tuple[str, ...], query: Mapping[str, Any], page_size: int
    ) -> Iterator[Any]:
        """The rows of a list, read part by part. Raises InvalidInput for a size below 1."""
        if type(page_size) is not int or page_size < 1:
            raise InvalidInput("page_size must be a whole number from 1 up")
        return self._parts(name, parts, query, page_size)

    def _parts(
        self, name: str, parts: tuple[str, ...], query: Mapping[str, Any], page_size: int
    ) -> Iterator[Any]:
        after: str | None = ""
        while after is not None:
            part = Fields(self._get(*parts, **query, after=after, pageSize=page_size))
            rows = part.rows(name)
            yield from rows
            if "next" not in part.raw:  # the old Crew has pages only, and this was the first
                yield from self._pages(name, parts, query, page_size, part)
                return
            after = part.maybe_text("next")

    def _pages(
        self,
        name: str,
        parts: tuple[str, ...],
        query: Mapping[str, Any],
        page_size: int,
        page: Fields,
    ) -> Iterator[Any]:
        """The rows of the pages after this one, the first."""
        number, seen = 1, len(page.rows(name))
        while seen < page.count("count"):
            if not page.rows(name):
                raise ServerError(f"the list of {name} ended at {seen} of {page.count('count')}")
            if page.flag("isCut"):
                raise ServerError(f"the {name} of a page are too large: give a smaller page_size")
            number += 1
            page = Fields(self._get(*parts, **query, page=number, pageSize=page_size))
            yield from page.rows(name)
            seen += len(page.rows(name))
