"""The graph of a group as a picture for people: every task, or honest sums of them. Reads only.

All pictures are JSON-able. `x` and `y` are the middles of boxes in columns and rows
(`insight/graph/layout.py`), edges are pairs of indexes into `nodes`, parent first.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

from ...errors import NotFoundError
from ...models import ParentEdge, Task
from ...store.states import STATE
from .layout import layout
from .summary import Json, known, summary, task_count

DRAWN = 1_000  # tasks of which each gets a box of its own


def picture(group_id: str) -> Json:
    """The group's graph, with the state of everything now. Raises NotFoundError.

    Up to 1,000 tasks each have a node: {"kind": "tasks", "group", "total", "counts": {state: n},
    "width", "height", "nodes": [{"id", "name", "worker", "state", "level", "x", "y"}],
    "edges": [[parent, child]]}. Three queries, some 15 ms.

    Above, a node stands for the tasks of some levels (a band, of at most 12) and one worker:
    {"kind": "buckets", "group", "total", "counts", "width", "height", "bands": [[first, last]],
    "lanes": [{"worker", "workers"}], "nodes": [{"band", "worker", "count", "states": {state: n},
    "within", "x", "y"}], "edges": [[from, to, n]], "hidden": n}. The lane whose worker is null
    holds the `workers` that have none of their own; `within` counts the arrows inside a node,
    `hidden` those that are too thin to be drawn. At 100,000 tasks 0.8 s for the first look
    and 0.1 s for the next, which only read what is not complete. Above 250,000 tasks there
    is one band and there are no arrows ("bands": [[0, null]], "hidden": null): the database sums,
    and no task is read.
    """
    total = task_count(group_id)
    if total > DRAWN:
        return summary(group_id, total)
    return _drawn(Task.objects.filter(group_id=group_id)) | {"group": group_id}


def around(task_id: str, hops: int = 2, most: int = 200) -> Json:
    """A task, and what is up to so many steps above or below it. Raises NotFoundError.

    A picture of tasks with two more keys: "centre", the index of the task, and "cut", true when
    there is more than `most` tasks. Nearest first, and at most half of it ancestors. Four queries
    for each hop at most, each of `most` rows: some 20 ms, however large the group.
    """
    group_id = Task.objects.filter(pk=task_id).values_list("group_id", flat=True).first()
    if group_id is None:
        raise NotFoundError(f"there is no task {task_id}")
    above, cut_above = _reach(task_id, "child_id", "parent_id", hops, most // 2)
    below, cut_below = _reach(task_id, "parent_id", "child_id", hops, most - 1 - len(above))
    drawn = _drawn(Task.objects.filter(pk__in=[task_id, *above, *below]))
    places = [n for n, node in enumerate(drawn["nodes"]) if node["id"] == task_id]
    if not places:  # deleted a moment ago
        raise NotFoundError(f"there is no task {task_id}")
    return drawn | {"group": group_id, "centre": places[0], "cut": cut_above or cut_below}


def _drawn(rows: Any) -> Json:
    tasks = list(rows.order_by("created_at", "id").values_list("id", "name", "worker", STATE))
    index = {id_: n for n, (id_, *_) in enumerate(tasks)}
    pairs = ParentEdge.objects.filter(child__in=rows.values("id"))
    edges = sorted(known(pairs.values_list("parent_id", "child_id"), index))
    placed = layout(len(tasks), edges)
    nodes = [
        {"id": id_, "name": name, "worker": worker, "state": state, "level": level, "x": x, "y": y}
        for (id_, name, worker, state), level, x, y in zip(
            tasks, placed.levels, placed.x, placed.y, strict=True
        )
    ]
    return {
        "kind": "tasks",
        "total": len(nodes),
        "counts": dict(Counter(str(node["state"]) for node in nodes)),
        "width": placed.width,
        "height": placed.height,
        "nodes": nodes,
        "edges": edges,
    }


def _reach(task_id: str, here: str, there: str, hops: int, most: int) -> tuple[list[str], bool]:
    """The nearest tasks in one direction, and whether there are more."""
    found = {task_id: None}
    edge: Collection[str] = [task_id]
    for _ in range(hops):
        rows = ParentEdge.objects.filter(**{f"{here}__in": list(edge)}).exclude(
            **{f"{there}__in": list(found)}
        )
        room = most - len(found) + 1
        ids = list(rows.order_by(there).values_list(there, flat=True).distinct()[: room + 1])
        edge = ids[:room]
        found |= dict.fromkeys(edge)
        if len(ids) > room:
            return [*found][1:], True
        if not edge:
            break
    return [*found][1:], False
