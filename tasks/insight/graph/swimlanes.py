"""A graph too large to draw, summed up: one box for the tasks of a worker on a few levels. Pure."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .layout import Edge

BANDS = 12  # more do not fit on a screen
SWIMLANES = 12  # workers with a lane of their own; all others share one more
LINKS = 500  # arrows between boxes; the thinner ones are only counted
OTHERS = None  # the worker of the lane that they share

Swimlane = tuple[str | None, int]  # the worker, and how many workers it stands for


@dataclass(frozen=True, slots=True)
class Box:
    """The tasks of one worker on the levels of one band, and how many edges are among them."""

    band: int
    worker: str | None
    count: int
    within: int


@dataclass(frozen=True, slots=True)
class Sums:
    """`box_of` gives each task's box; a link is (from, to, edges), and `hidden` are the edges of
    the links that are left out. A band is its first and its last level.
    """

    bands: list[tuple[int, int]]
    lanes: list[Swimlane]
    boxes: list[Box]
    box_of: "array[int]"
    links: list[tuple[int, int, int]]
    hidden: int


def summed(level: Sequence[int], workers: Sequence[str], edges: Sequence[Edge]) -> Sums:
    """Sum up tasks, given the level and the worker of each. Linear: about 2 µs for each task."""
    deepest = max(level, default=0)
    deep = deepest // BANDS + 1  # levels in a band
    lanes = swimlanes_of(Counter(workers))
    # A place is band and lane as one number: of tuples the garbage collector would look at each.
    lane = {worker: n for n, (worker, _) in enumerate(lanes)}
    lane_of = {worker: lane.get(worker, len(lanes) - 1) for worker in set(workers)}
    start = [depth // deep * len(lanes) for depth in range(deepest + 1)]
    places = [start[depth] + lane_of[name] for depth, name in zip(level, workers, strict=True)]
    boxes, box_of, links = _boxes(places, [worker for worker, _ in lanes], edges)
    return Sums(
        bands=[(first, min(first + deep - 1, deepest)) for first in range(0, deepest + 1, deep)],
        lanes=lanes,
        boxes=boxes,
        box_of=box_of,
        links=sorted(links[:LINKS]),
        hidden=sum(n for _, _, n in links[LINKS:]),
    )


def swimlanes_of(workers: Counter[str]) -> list[Swimlane]:
    """The lanes by name: one for each of the busiest workers, the last for all others."""
    busiest = sorted(workers, key=lambda name: (-workers[name], name))
    # A lane for all others is of use from two on.
    own = busiest if len(busiest) <= SWIMLANES + 1 else busiest[:SWIMLANES]
    lanes: list[Swimlane] = [(name, 1) for name in sorted(own)]
    rest = len(busiest) - len(own)
    return [*lanes, (OTHERS, rest)] if rest else lanes


def _boxes(
    places: list[int], lanes: list[str | None], edges: Sequence[Edge]
) -> "tuple[list[Box], array[int], list[tuple[int, int, int]]]":
    """The boxes row by row, the box of each task, and the links, the most telling first.

    Those are the thickest, and those that lead down before those within a band.
    """
    counts = Counter(places)
    spots = sorted(counts)
    number = {spot: n for n, spot in enumerate(spots)}
    box_of = array("H", [number[place] for place in places])
    size = len(spots)
    row_of = [n * size for n in box_of]
    flows = Counter([row_of[parent] + box_of[child] for parent, child in edges])
    bands = [spot // len(lanes) for spot in spots]
    boxes = [
        Box(bands[n], lanes[spot % len(lanes)], counts[spot], flows[n * size + n])
        for n, spot in enumerate(spots)
    ]
    links = [(*divmod(flow, size), n) for flow, n in flows.items() if flow // size != flow % size]
    links.sort(key=lambda link: (bands[link[0]] == bands[link[1]], -link[2], link))
    return boxes, box_of, links
