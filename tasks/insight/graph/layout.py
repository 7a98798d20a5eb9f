"""Where the tasks of a graph stand in its picture: top-down, parents above their children. Pure.

The unit is one column across and one row down. The same graph always gives the same picture, and
ties are broken by the order of the nodes (oldest first), so that a new child goes to the end of
its row instead of shuffling the others.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import starmap
from operator import itemgetter, lt

Edge = tuple[int, int]  # parent, child; indexes of nodes
Links = list[list[int]]

# A level with more than its columns becomes a grid, of at least so many columns in a deep graph.
DEEP = 16
# Columns grow in steps: a new task seldom changes their number.
COLUMNS = (8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512)
GRID = 0.74  # from row to row in a grid, where no arrow needs room
GAP = 0.6  # between components
ACROSS = 1.2  # columns for each row in a picture of good shape
SWEEPS = 4
NUDGES = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """`x` and `y` are the middles of the nodes; all of them lie within `width` and `height`."""

    levels: list[int]
    x: list[float]
    y: list[float]
    width: float
    height: float


def levels(count: int, edges: Sequence[Edge]) -> list[int]:
    """How many steps the longest way down to each node has; roots are on level 0."""
    level = [0] * count
    if all(starmap(lt, edges)):
        # Parents were made first, as nearly always: child by child, each parent's level is known.
        for parent, child in sorted(edges, key=itemgetter(1)):
            if level[parent] >= level[child]:
                level[child] = level[parent] + 1
        return level
    children: Links = [[] for _ in range(count)]
    waiting = [0] * count
    for parent, child in edges:
        children[parent].append(child)
        waiting[child] += 1
    return _levels(children, waiting)


def layout(count: int, edges: Sequence[Edge]) -> Layout:
    """Place `count` nodes. In linear time but for sorting: about 10 µs a node."""
    parents: Links = [[] for _ in range(count)]
    children: Links = [[] for _ in range(count)]
    for parent, child in edges:
        parents[child].append(parent)
        children[parent].append(child)
    level = _levels(children, [len(above) for above in parents])
    place = _Place(parents, children, [0.5] * count, [0.0] * count, [0.0] * count)
    boxes = []
    for nodes in _components(parents, children):
        rows = _rows(nodes, level)
        _order(rows, place)
        boxes.append((nodes, *_arrange(rows, place)))
    width, height = _pack(boxes, place)
    return Layout(level, place.x, place.y, width, height)


@dataclass(frozen=True, slots=True)
class _Place:
    """What is known of each node. `rank` is where it stands in its row, from 0 to 1."""

    parents: Links
    children: Links
    rank: list[float]
    x: list[float]
    y: list[float]


def _levels(children: Links, waiting: list[int]) -> list[int]:
    level = [0] * len(children)
    free = [node for node, count in enumerate(waiting) if not count]
    for node in free:  # grows while it is read
        below = level[node] + 1
        for child in children[node]:
            if level[child] < below:
                level[child] = below
            waiting[child] -= 1
            if not waiting[child]:
                free.append(child)
    return level


def _components(parents: Links, children: Links) -> list[list[int]]:
    """The parts that hang together, by their first node; lone nodes are one part, the last."""
    seen = bytearray(len(parents))
    found = []
    alone = []
    for first in range(len(parents)):
        if seen[first]:
            continue
        if not parents[first] and not children[first]:
            alone.append(first)
            continue
        seen[first] = 1
        part = [first]
        for node in part:  # grows while it is read
            for links in (parents[node], children[node]):
                for other in links:
                    if not seen[other]:
                        seen[other] = 1
                        part.append(other)
        part.sort()
        found.append(part)
    return [*found, alone] if alone else found


def _rows(nodes: list[int], level: list[int]) -> Links:
    rows: Links = [[] for _ in range(1 + max(level[node] for node in nodes))]
    for node in nodes:
        rows[level[node]].append(node)
    return rows


def _order(rows: Links, place: _Place) -> None:
    """Sort every row by the mean place of its nodes' parents, then of their children, and so on."""
    for row in rows:
        _number(row, place.rank)
    for sweep in range(SWEEPS - 1):
        links, way = (place.children, rows[-2::-1]) if sweep % 2 else (place.parents, rows[1:])
        for row in way:
            if len(row) > 1:
                _sort(row, links, place.rank)


def _sort(row: list[int], links: Links, rank: list[float]) -> None:
    wish = {}
    for node in row:
        near = links[node]
        if len(near) == 1:
            wish[node] = rank[near[0]]
        elif near:
            wish[node] = sum([rank[other] for other in near]) / len(near)
        else:
            wish[node] = rank[node]
    row.sort(key=wish.__getitem__)
    _number(row, rank)


def _number(row: list[int], rank: list[float]) -> None:
    size = len(row)
    for index, node in enumerate(row):
        rank[node] = (index + 0.5) / size


def _arrange(rows: Links, place: _Place) -> tuple[float, float]:
    """Give a component its coordinates, from (0, 0) on; return its width and height."""
    x = place.x
    grids = _columns([len(row) for row in rows])
    for row, columns in zip(rows, grids, strict=True):
        _spread(row, columns, [0.0] * len(row), x)
    for nudge in range(NUDGES):
        down = nudge % 2 == 0
        links = place.parents if down else place.children
        for row, columns in zip(rows, grids, strict=True) if down else _upwards(rows, grids):
            _spread(row, columns, _wishes(row, links, x), x)
    top = 0.0
    for row, columns in zip(rows, grids, strict=True):
        for index, node in enumerate(row):
            place.y[node] = top + GRID * (index // columns)
        top += 1 + GRID * ((len(row) - 1) // columns)
    left = min(x[node] for row in rows for node in row)
    right = max(x[node] for row in rows for node in row)
    for row in rows:
        for node in row:
            x[node] -= left
    return right - left + 1, top


def _upwards(rows: Links, grids: list[int]) -> Iterable[tuple[list[int], int]]:
    return zip(reversed(rows), reversed(grids), strict=True)


def _columns(sizes: Sequence[int]) -> list[int]:
    """How many columns each level has, so that the whole comes near to a page's shape."""
    whole = next((n for n in COLUMNS if n >= ACROSS * _height(sizes, n)), COLUMNS[-1])
    columns = []
    for size in sizes:
        wish = math.sqrt(size / GRID * ACROSS)
        own = next((n for n in COLUMNS if n >= wish), COLUMNS[-1])
        columns.append(min(size, whole, max(DEEP, own)))
    return columns


def _height(sizes: Sequence[int], columns: int) -> float:
    return sum(1 + GRID * ((size - 1) // columns) for size in sizes)


def _wishes(row: list[int], links: Links, x: list[float]) -> list[float]:
    wishes = []
    for node in row:
        near = links[node]
        if len(near) == 1:
            wishes.append(x[near[0]])
        elif near:
            wishes.append(sum([x[other] for other in near]) / len(near))
        else:
            wishes.append(x[node])
    return wishes


def _spread(row: list[int], columns: int, wishes: list[float], x: list[float]) -> None:
    """Place a row as near to its wishes as its order and a column for each node allow."""
    if columns < len(row):
        left = sum(wishes) / len(wishes) - (columns - 1) / 2
        for index, node in enumerate(row):
            x[node] = left + index % columns
        return
    # Pool adjacent violators: the least squares under x[i + 1] >= x[i] + 1, in one pass.
    sums: list[float] = []
    sizes: list[int] = []
    for index, wish in enumerate(wishes):
        total, size = wish - index, 1
        while sums and sums[-1] * size > total * sizes[-1]:
            total += sums.pop()
            size += sizes.pop()
        sums.append(total)
        sizes.append(size)
    index = 0
    for total, size in zip(sums, sizes, strict=True):
        start = total / size
        for node in row[index : index + size]:
            x[node] = start + index
            index += 1


def _pack(boxes: list[tuple[list[int], float, float]], place: _Place) -> tuple[float, float]:
    """Put components side by side in shelves, first come first placed; return the whole size."""
    if not boxes:
        return 0.0, 0.0
    widest = max(width for _, width, _ in boxes)
    area = sum((width + GAP) * (height + GAP) for _, width, height in boxes)
    # In steps, so that one more component seldom moves the others.
    wish = 2 ** (math.ceil(2 * math.log2(math.sqrt(area * ACROSS))) / 2)
    limit = max(widest, wish)
    left = top = shelf = most = 0.0
    for nodes, width, height in boxes:
        if left and left + width > limit + 1e-9:
            left, top, shelf = 0.0, top + shelf + GAP, 0.0
        for node in nodes:
            place.x[node] = round(left + place.x[node] + 0.5, 2)
            place.y[node] = round(top + place.y[node] + 0.5, 2)
        most = max(most, left + width)
        shelf = max(shelf, height)
        left += width + GAP
    return round(most, 2), round(top + shelf, 2)
