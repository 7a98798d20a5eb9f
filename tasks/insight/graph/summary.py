"""Pictures of groups too large for a box for each task: sums by depth and worker. Reads only."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.db.models import Aggregate, Count, TextField

from ...errors import NotFoundError
from ...models import Task, TaskGroup
from ...rules.states import State
from ...sql import picture as sql
from ...sql import run
from ...store.gc_pause import uncollected
from ...store.states import STATE
from .layout import levels
from .swimlanes import OTHERS, Box, Sums, Swimlane, summed, swimlanes_of

Json = dict[str, Any]

MEASURED = 250_000  # tasks whose depth is computed; one band for more
MEASURED_EDGES = 2_000_000
PAGE = 100
# A parent or a worker edited by hand leaves no trace that is cheap to find: it shows after this.
REMEMBERED = 20.0  # seconds


def summary(group_id: str, total: int) -> Json:
    """The picture of a group of so many tasks, as `picture.picture` tells of large ones."""
    chart = _chart(group_id) if total <= MEASURED else None
    return _flat(group_id) if chart is None else _summed(group_id, chart)


def bucket(group_id: str, band: int, worker: str | None, page: int = 1) -> Json:
    """The tasks of one node of a summed picture, 100 a page, oldest first. Raises NotFoundError.

    {"count": n, "page", "pages", "ids": [...]}. Costs what the levels of `picture` cost, nothing
    when they are remembered.
    """
    chart = _chart(group_id) if task_count(group_id) <= MEASURED else None
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


def forget(group_id: str) -> None:
    """Have the next picture see edited parents and workers at once."""
    cache.delete(_key(group_id))


def task_count(group_id: str) -> int:
    count = TaskGroup.objects.filter(pk=group_id).values_list("task_count", flat=True).first()
    if count is None:
        raise NotFoundError(f"there is no task group {group_id}")
    return count


def known(pairs: Iterable[tuple[str, str]], index: dict[str, int]) -> Iterable[tuple[int, int]]:
    """Edges as indexes; of a task that came or went between two queries there is none."""
    for parent, child in pairs:
        if parent in index and child in index:
            yield index[parent], index[child]


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
    stamp = (task_count(group_id), newest.values_list("created_at", flat=True).first())
    kept = cache.get(_key(group_id))
    if isinstance(kept, _Chart) and kept.stamp == stamp:
        return kept
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
    # `known`, faster, unless something came or went between the two queries.
    ends_at: list[Any] = list(map(index.get, ends))
    if None in ends_at:
        edges = list(known(zip(ends[::2], ends[1::2], strict=True), index))
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
    lanes: list[Swimlane],
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
    lanes = swimlanes_of(totals)
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
        rows = rows.exclude(
            worker__in=[name for name, _ in swimlanes_of(totals) if name is not OTHERS]
        )
    else:
        rows = rows.filter(worker=worker)
    start = max(0, page - 1) * PAGE
    ids = rows.order_by("created_at", "id").values_list("id", flat=True)
    return _page(rows.count(), page, list(ids[start : start + PAGE]) if page > 0 else [])


def _page(count: int, page: int, ids: list[str]) -> Json:
    return {"count": count, "page": page, "pages": -(-count // PAGE), "ids": ids}


def _key(group_id: str) -> str:
    return f"crew-sums:{group_id}"
