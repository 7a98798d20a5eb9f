"""The graph of a group as a picture for people: every task, or honest sums of them. Reads only.

All pictures are JSON-able. `x` and `y` are the middles of boxes in columns and rows
(`layout.py`), edges are pairs of indexes into `nodes`, parent first.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.db.models import Aggregate, Count, TextField

from .errors import NotFoundError
from .garbage import uncollected
from .lanes import OTHERS, Box, Lane, Sums, lanes_of, summed
from .layout import layout, levels
from .models import ParentEdge, Task, TaskGroup
from .progress import STATE, State
from .sql import picture as sql
from .sql import run

Json = dict[str, Any]

DRAWN = 1_000  # tasks of which each gets a box of its own
MEASURED = 250_000  # tasks whose depth is computed; one band for more
MEASURED_EDGES = 2_000_000
PAGE = 100
# A parent or a worker edited by hand leaves no trace that is cheap to find: it shows after this.
REMEMBERED = 20.0  # seconds


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
    total = _count(group_id)
    if total > MEASURED:
        return _flat(group_id)
    if total > DRAWN:
        chart = _chart(group_id)
        return _flat(group_id) if chart is None else _summed(group_id, chart)
    return _drawn(Task.objects.filter(group_id=group_id)) | {"group": group_id}


def bucket(group_id: str, band: int, worker: str | None, page: int = 1) -> Json:
    """The tasks of one node of a summed picture, 100 a page, oldest first. Raises NotFoundError.

    {"count": n, "page", "pages", "ids": [...]}. Costs what the levels of `picture` cost, nothing
    when they are remembered.
    """
    chart = _chart(group_id) if _count(group_id) <= MEASURED else None
    if chart is None:
        return _flat_bucket(group_id, worker, page)
    spots = [(box.band, box.worker) for box in chart.sums.boxes]
    wanted = spots.index((band, worker)) if (band, worker) in spots else None
    ids = [
        id_
        for id_, box in zip(chart.ids.split(","), chart.sums.box_of, strict=True)
        if box == wanted
    ]
    start = (page - 1) * PAGE if page > 0 else len(ids)
    return _page(len(ids), page, ids[start : start + PAGE])


def around(task_id: str, hops: int = 2, most: int = 200) -> Json:
    """A task, and what is up to so many steps above or below it. Raises NotFoundError.

    A picture of tasks with two more keys: "centre", the index of the task, and "cut", true when
    there is more than `most` tasks. Nearest first, and at most half of it ancestors. Four queries
    for each hop at the most, each of `most` rows: some 20 ms, however large the group.
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


def forget(group_id: str) -> None:
    """Have the next picture see edited parents and workers at once."""
    cache.delete(_key(group_id))


# --- Every task ---


def _drawn(rows: Any) -> Json:
    tasks = list(rows.order_by("created_at", "id").values_list("id", "name", "worker", STATE))
    index = {id_: n for n, (id_, *_) in enumerate(tasks)}
    pairs = ParentEdge.objects.filter(child__in=rows.values("id"))
    edges = sorted(_known(pairs.values_list("parent_id", "child_id"), index))
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


def _known(pairs: Iterable[tuple[str, str]], index: dict[str, int]) -> Iterable[tuple[int, int]]:
    """Edges as indexes; of a task that came or went between two queries there is none."""
    for parent, child in pairs:
        if parent in index and child in index:
            yield index[parent], index[child]


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


# --- Sums of tasks, by depth and worker ---


@dataclass(frozen=True, slots=True)
class _Chart:
    """All of a summed picture but the states."""

    stamp: tuple[int, datetime | None]
    ids: str  # oldest first, with commas: a text is cached for a tenth of what a list costs
    sums: Sums


def _chart(group_id: str) -> _Chart | None:
    """The levels of a group, remembered while no task comes or goes; None for too many edges."""
    newest = Task.objects.filter(group_id=group_id).order_by("-created_at")
    stamp = (_count(group_id), newest.values_list("created_at", flat=True).first())
    known = cache.get(_key(group_id))
    if isinstance(known, _Chart) and known.stamp == stamp:
        return known
    with uncollected():
        made = _measure(group_id, stamp)
    if made is not None:
        cache.set(_key(group_id), made, REMEMBERED)
    return made


def _measure(group_id: str, stamp: tuple[int, datetime | None]) -> _Chart | None:
    ((text, count),) = run(sql.EDGES, {"group": group_id, "most": MEASURED_EDGES})
    if count == MEASURED_EDGES:
        return None
    ends = text.split(",") if text else []
    ((text,),) = run(sql.TASKS, {"group": group_id})
    words = text.split(",") if text else []
    ids, workers = words[::2], words[1::2]
    index = dict(zip(ids, range(len(ids)), strict=True))
    # `_known`, faster, unless something came or went between the two queries.
    ends_at: list[Any] = list(map(index.get, ends))
    if None in ends_at:
        edges = list(_known(zip(ends[::2], ends[1::2], strict=True), index))
    else:
        edges = list(zip(ends_at[::2], ends_at[1::2], strict=True))
    return _Chart(stamp, ",".join(ids), summed(levels(len(ids), edges), workers, edges))


def _summed(group_id: str, chart: _Chart) -> Json:
    box_of = dict(zip(chart.ids.split(","), chart.sums.box_of, strict=True))
    left = Task.objects.filter(group_id=group_id, is_complete=False).order_by()
    states: list[Counter[str]] = [Counter() for _ in chart.sums.boxes]
    for state, ids in left.values_list(STATE).annotate(ids=_Joined("id")):
        for box, count in Counter(map(box_of.get, ids.split(","))).items():
            if box is not None:  # else it came after the chart was made
                states[box][state] = count
    return _buckets(group_id, chart.sums.bands, chart.sums.lanes, chart.sums.boxes, states) | {
        "edges": chart.sums.links,
        "hidden": chart.sums.hidden,
    }


class _Joined(Aggregate):
    """Texts as one with commas between, as in `sql/picture.py`; in no order."""

    function = "string_agg"
    template = "%(function)s(%(expressions)s, ',')"
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, function="group_concat", **context)


def _buckets(
    group_id: str,
    bands: Sequence[tuple[int, int | None]],
    lanes: list[Lane],
    boxes: list[Box],
    states: list[Counter[str]],
) -> Json:
    """The shape of a summed picture. `states` are those of what is left: the rest is complete."""
    column = {worker: n for n, (worker, _) in enumerate(lanes)}
    counts: Counter[str] = Counter()
    nodes = []
    for box, left in zip(boxes, states, strict=True):
        complete = box.count - left.total()
        if complete > 0:
            left[State.COMPLETE.value] = complete
        counts += left
        nodes.append(
            {
                "band": box.band,
                "worker": box.worker,
                "count": box.count,
                "states": dict(left),
                "within": box.within,
                "x": column[box.worker] + 0.5,
                "y": box.band + 0.5,
            }
        )
    return {
        "kind": "buckets",
        "group": group_id,
        "total": counts.total(),
        "counts": dict(counts),
        "width": len(lanes),
        "height": len(bands),
        "bands": bands,
        "lanes": [{"worker": worker, "workers": workers} for worker, workers in lanes],
        "nodes": nodes,
    }


# --- Too many to look at each ---


def _flat(group_id: str) -> Json:
    rows = Task.objects.filter(group_id=group_id).order_by()
    totals = Counter(dict(rows.values_list("worker").annotate(n=Count("*"))))
    lanes = lanes_of(totals)
    own = {worker for worker, _ in lanes}
    sums: dict[str | None, Counter[str]] = {worker: Counter() for worker, _ in lanes}
    left = rows.filter(is_complete=False).values_list("worker", STATE).annotate(n=Count("*"))
    for worker, state, n in left:
        if worker in totals:
            sums[worker if worker in own else OTHERS][state] += n
    counts: Counter[str | None] = Counter()
    for worker, n in totals.items():
        counts[worker if worker in own else OTHERS] += n
    boxes = [Box(0, worker, counts[worker], 0) for worker, _ in lanes]
    drawn = _buckets(group_id, [(0, None)], lanes, boxes, [sums[worker] for worker, _ in lanes])
    return drawn | {"edges": [], "hidden": None}


def _flat_bucket(group_id: str, worker: str | None, page: int) -> Json:
    rows = Task.objects.filter(group_id=group_id)
    if worker is OTHERS:
        totals = Counter(dict(rows.order_by().values_list("worker").annotate(n=Count("*"))))
        rows = rows.exclude(worker__in=[name for name, _ in lanes_of(totals) if name is not OTHERS])
    else:
        rows = rows.filter(worker=worker)
    start = max(0, page - 1) * PAGE
    ids = rows.order_by("created_at", "id").values_list("id", flat=True)
    return _page(rows.count(), page, list(ids[start : start + PAGE]) if page > 0 else [])


def _page(count: int, page: int, ids: list[str]) -> Json:
    return {"count": count, "page": page, "pages": -(-count // PAGE), "ids": ids}


def _count(group_id: str) -> int:
    count = TaskGroup.objects.filter(pk=group_id).values_list("task_count", flat=True).first()
    if count is None:
        raise NotFoundError(f"there is no task group {group_id}")
    return count


def _key(group_id: str) -> str:
    return f"crew-picture:{group_id}"
