"""Changes become the messages of a stream, in the contract's words (1.5).

Rows are loaded as they are now, not as they were: the last message about a task always shows
its row. Within one look each task is told once, and a `create` before any `update` of the task.

Each message carries the place from which to go on, should it be the last that arrives: the one
before the look, and only with the last message of the look the one behind it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..models import Task, TaskGroup
from ..rules.jsonio import dump
from ..store import wire
from ..store.changes import RIGHTS, TOLD_ONE_BY_ONE
from ..store.portions import portions
from .change_reader import Seen

MOST_HELD = 1_000  # tasks of one held workgroup told one by one
MOST_CHARACTERS = 6 * 1024 * 1024  # of one group in one look; a socket takes a little more
MOST_IN_ALL = 4 * MOST_CHARACTERS  # of all groups in one look


class _News:
    """What happened in one group, in the order in which it is to be told."""

    def __init__(self) -> None:
        self.group: list[dict[str, Any] | None] = []  # its last state; None: as it is now
        self.gone: dict[str, Any] = {}
        self.tasks: dict[str, str] = {}
        self.reload = False

    def add(self, change: Seen) -> None:
        if change.group_event == "delete":
            # No task is told one by one, and whatever happened to it before is void.
            self.group = [*change.deleted[:1]] or [{"id": change.group_id}]
            self.gone, self.tasks, self.reload = {}, {}, False
            return
        if change.group_event == "update" and self.group[-1:] != [None]:
            self.group.append(None)
        self.reload = self.reload or change.group_event == "reload"
        for id_ in change.created:
            self.tasks.pop(id_, None)
            self.tasks[id_] = "create"
        self.update(change.updated)
        for last in change.deleted:
            last = last if isinstance(last, dict) else {"id": last, "taskGroupId": change.group_id}
            self.tasks.pop(last["id"], None)
            # Also what was made since the last look: somebody may have loaded it in between.
            self.gone[last["id"]] = last

    def update(self, ids: Iterable[str]) -> None:
        for id_ in ids:
            if self.tasks.get(id_) != "create":
                # At the end: a task that was made meanwhile may now be its parent.
                self.tasks.pop(id_, None)
                self.tasks[id_] = "update"


def messages(
    news: Iterable[Seen],
    groups: Collection[str] | Mapping[str, int],
    change: int,
    *,
    before: Mapping[str, int],
) -> dict[str, Sequence[str]]:
    """The messages for those who watch these groups, each as text, serialised once.

    A mapping says how many tasks of each group are told one by one at most; with more, whoever
    watches the group is to load it again. `change` is the place behind the news, `before` the one
    up to which the watchers of each group know all.
    """
    found = {group_id: _News() for group_id in groups}
    for one in news:
        if one.group_event == RIGHTS:
            continue  # about no group
        if one.workgroup:
            _add_held(one.workgroup, found)
        elif one.group_id in found:
            found[one.group_id].add(one)
    most = groups if isinstance(groups, Mapping) else {}
    told: dict[str, list[str]] = {}
    left = MOST_IN_ALL
    for group_id, each in found.items():
        tasks = most.get(group_id, TOLD_ONE_BY_ONE)
        texts = _told(group_id, each, before[group_id], tasks, min(left, MOST_CHARACTERS))
        left -= sum(map(len, texts))
        told[group_id] = texts
    return {name: _ended(texts, before[name], change) for name, texts in told.items() if texts}


def reloads(news: Iterable[Seen], groups: Collection[str], change: int) -> dict[str, Sequence[str]]:
    """Too much happened to be told: whoever watches loads the group again."""
    return {group_id: [reload_text(change)] for group_id in groups}


def reload_text(change: int) -> str:
    return _text("reload", {}, change)


def _add_held(workgroup: str, found: dict[str, _News]) -> None:
    """A hold moves the due times of all tasks that are left of the workgroup, in every group."""
    for group_id, news in found.items():
        left = Task.objects.filter(group_id=group_id, workgroup=workgroup).incomplete()
        ids = list(left.order_by("created_at", "id").values_list("id", flat=True)[: MOST_HELD + 1])
        if len(ids) > MOST_HELD:
            news.reload = True
        else:
            news.update(ids)


def _told(group_id: str, news: _News, change: int, most: int, characters: int) -> list[str]:
    texts = []
    for last in news.group:
        row = None if last else TaskGroup.objects.filter(pk=group_id).first()
        if last:
            texts.append(_text("delete", {"taskGroup": last}, change))
        elif row:
            texts.append(_text("update", {"taskGroup": wire.group(row)}, change))
    if news.reload or len(news.tasks) + len(news.gone) > min(most, TOLD_ONE_BY_ONE):
        return [*texts, reload_text(change)]
    tasks = [_text("delete", {"task": last}, change) for last in news.gone.values()]
    left = characters - sum(map(len, tasks))
    ids = list(news.tasks)
    # In the order in which it happened; who is gone by now has a change of its own.
    for there in portions(ids):
        some = [_text(news.tasks[task["id"]], {"task": task}, change) for task in wire.tasks(there)]
        left -= sum(map(len, some))
        if left < 0:
            return [*texts, reload_text(change)]
        tasks += some
    return texts + tasks


def _text(kind: str, what: dict[str, Any], change: int) -> str:
    return dump({"type": kind} | what | {"change": change})


def _ended(texts: list[str], before: int, change: int) -> list[str]:
    """Who has the last of them has them all."""
    last = texts[-1].removesuffix(f"{before}}}")
    return [*texts[:-1], f"{last}{change}}}"]
