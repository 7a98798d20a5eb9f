"""Where tasks stand in a picture: levels, order, grids, components."""

import itertools
import random
import time

import pytest

from tasks.insight.graph import layout as layouts
from tasks.insight.graph.layout import layout, levels

DIAMOND = [(0, 1), (0, 2), (1, 3), (2, 3)]


def fan(size):
    """One root, `size` tasks below it, one join."""
    return [edge for task in range(1, size + 1) for edge in ((0, task), (task, size + 1))]


def random_graph(count, edges):
    chance = random.Random(1)
    found = set()
    while len(found) < edges:
        child = chance.randrange(1, count)
        found.add((max(0, child - 1 - int(chance.expovariate(50 / count))), child))
    return sorted(found)


def rows(placed):
    """The nodes by their y, each row from left to right."""
    by_y = {}
    for node in sorted(range(len(placed.y)), key=lambda node: placed.x[node]):
        by_y.setdefault(placed.y[node], []).append(node)
    return [by_y[y] for y in sorted(by_y)]


@pytest.mark.parametrize(
    ("count", "edges", "expected"),
    [
        (0, [], []),
        (2, [], [0, 0]),
        (4, DIAMOND, [0, 1, 1, 2]),
        (3, [(0, 1), (1, 2), (0, 2)], [0, 1, 2]),  # the longest way counts
        (4, fan(2), [0, 1, 1, 2]),
        (3, [(0, 2), (1, 2)], [0, 0, 1]),
        (3, [(2, 1), (1, 0)], [2, 1, 0]),  # a child older than its parent
        (4, [(0, 1), (2, 3)], [0, 1, 0, 1]),
    ],
)
def test_levels_are_the_longest_way_from_a_root(count, edges, expected):
    assert levels(count, edges) == expected
    assert layout(count, edges).levels == expected


def test_a_cycle_read_by_accident_ends():
    assert len(levels(3, [(0, 1), (1, 2), (2, 1)])) == 3
    assert len(layout(3, [(0, 1), (1, 2), (2, 1)]).x) == 3


def test_a_diamond_is_symmetric():
    placed = layout(4, DIAMOND)

    assert rows(placed) == [[0], [1, 2], [3]]
    assert placed.x == [1.0, 0.5, 1.5, 1.0]
    assert placed.y == [0.5, 1.5, 1.5, 2.5]
    assert (placed.width, placed.height) == (2, 3)


def test_children_stand_below_their_parents_without_crossings():
    placed = layout(6, [(0, 4), (1, 5), (2, 3)])

    assert placed.x[4] == placed.x[0]
    assert placed.x[5] == placed.x[1]
    assert placed.x[3] == placed.x[2]


def test_a_row_is_sorted_by_its_parents():
    placed = layout(7, [(0, 1), (0, 2), (1, 6), (1, 5), (2, 4), (2, 3)])

    assert rows(placed)[2] == [5, 6, 3, 4]


def test_a_long_chain_is_one_column():
    placed = layout(2_000, [(task, task + 1) for task in range(1_999)])

    assert set(placed.x) == {0.5}
    assert placed.height == 2_000


def test_a_wide_fan_is_a_grid_in_creation_order():
    placed = layout(1_002, fan(1_000))

    grid = rows(placed)[1:-1]
    assert len(grid) > 20
    assert [task for row in grid for task in row] == list(range(1, 1_001))
    assert 0.5 < placed.width / placed.height < 2


def test_no_two_boxes_overlap():
    placed = layout(500, random_graph(500, 650))

    spots = list(zip(placed.x, placed.y, strict=True))
    for (x, y), (other_x, other_y) in itertools.combinations(spots, 2):
        assert abs(y - other_y) >= layouts.GRID - 0.02 or abs(x - other_x) >= 0.98
    assert min(placed.x) >= 0.5
    assert max(placed.x) <= placed.width - 0.5
    assert max(placed.y) <= placed.height - 0.5


def test_components_stand_side_by_side_and_lone_tasks_last():
    placed = layout(7, [(0, 1), (3, 4), (5, 6)])

    assert placed.y[0] == placed.y[3] == 0.5
    assert placed.x[3] > placed.x[0]
    assert placed.y[2] > placed.y[1] or placed.x[2] > placed.x[6]


def test_the_same_graph_gives_the_same_picture():
    edges = random_graph(300, 400)
    shuffled = edges[:]
    random.Random(5).shuffle(shuffled)

    assert layout(300, edges) == layout(300, edges)
    assert layout(300, shuffled) == layout(300, edges)


@pytest.mark.parametrize("size", [3, 10, 100, 900])
def test_a_new_task_does_not_move_the_others_of_a_grid(size):
    before = layout(size + 1, [(0, task) for task in range(1, size + 1)])
    after = layout(size + 2, [(0, task) for task in range(1, size + 2)])

    assert rows(before)[1] == [task for task in rows(after)[1] if task <= size]


def test_a_new_component_does_not_move_the_first_ones():
    pairs = [(2 * pair, 2 * pair + 1) for pair in range(50)]
    before = layout(98, pairs[:49])
    after = layout(100, pairs)

    assert before.x == after.x[:98]
    assert before.y == after.y[:98]


def test_ten_thousand_tasks_are_placed_in_a_moment():
    edges = random_graph(10_000, 20_000)

    start = time.process_time()
    placed = layout(10_000, edges)
    took = time.process_time() - start

    assert len(placed.x) == 10_000
    # Some 90 ms; the rest is for busy machines.
    assert took < 1
