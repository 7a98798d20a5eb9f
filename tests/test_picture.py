"""The picture of a group: every task, honest sums of many, the neighbourhood of one."""

import itertools
import json
import random
import re
from collections import Counter

import pytest
from django.core.cache import cache

from tasks.errors import NotFoundError
from tasks.insight.graph import layout, swimlanes
from tasks.insight.graph import picture as pictures
from tasks.insight.graph import summary as summing
from tasks.insight.graph.picture import around, picture
from tasks.insight.graph.summary import bucket
from tasks.models import ParentEdge, Task
from tasks.rules.states import State
from tasks.store.states import progress

from . import factories
from .factories import make_group, make_task, wire
from .processes import ROOT

SCRIPTS = ROOT / "tasks/static/crew"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forgotten():
    cache.clear()


@pytest.fixture
def summed(monkeypatch):
    """Every group of more than three tasks is summed up."""
    monkeypatch.setattr(pictures, "DRAWN", 3)


def fan(size, worker=lambda number: "worker-b"):
    """A root, `size` tasks below it by name t0, t1, ..., and a join."""
    middle = [
        wire(id=f"t{number}", worker=worker(number), parent_ids=["root"]) for number in range(size)
    ]
    join = wire(id="join", parent_ids=[task["id"] for task in middle])
    return make_group(tasks=[wire(id="root"), *middle, join])


def chain(length):
    return make_group(
        tasks=[
            wire(id=f"c{number}", parent_ids=[f"c{number - 1}"] if number else [])
            for number in range(length)
        ]
    )


def node(drawn, **wanted):
    (found,) = [node for node in drawn["nodes"] if all(node[key] == wanted[key] for key in wanted)]
    return found


# --- Every task ---


def test_every_task_of_a_small_group_has_a_node():
    group = make_group()
    root = make_task(group, name="Root", worker="worker-c")
    child = make_task(group, name="Child", parents=[root])

    drawn = picture(group.pk)

    assert drawn == {
        "kind": "tasks",
        "group": group.pk,
        "total": 2,
        "counts": {"ready": 1, "blocked": 1},
        "width": 1,
        "height": 2,
        "nodes": [
            {
                "id": root.pk,
                "name": "Root",
                "worker": "worker-c",
                "state": "ready",
                "level": 0,
                "x": 0.5,
                "y": 0.5,
            },
            {
                "id": child.pk,
                "name": "Child",
                "worker": "worker-a",
                "state": "blocked",
                "level": 1,
                "x": 0.5,
                "y": 1.5,
            },
        ],
        "edges": [(0, 1)],
    }
    assert json.loads(json.dumps(drawn))["edges"] == [[0, 1]]


def test_states_are_those_of_progress():
    group = make_group()
    make_task(group, is_complete=True)
    make_task(group, remaining_attempts=0)
    make_task(group, is_paused=True)
    make_task(group, worker="")
    make_task(group)
    factories.claim_one()

    counts = picture(group.pk)["counts"]

    assert counts == {
        state: getattr(progress(group.pk), state)
        for state in ("complete", "executing", "failed", "paused", "unassigned")
    }


def test_an_empty_group_is_an_empty_picture():
    drawn = picture(make_group().pk)

    assert (drawn["nodes"], drawn["edges"], drawn["width"]) == ([], [], 0)


def test_what_is_not_there_is_not_found():
    with pytest.raises(NotFoundError):
        picture("nowhere")
    with pytest.raises(NotFoundError):
        bucket("nowhere", 0, "worker-a")
    with pytest.raises(NotFoundError):
        around("nothing")


def test_a_small_picture_takes_three_queries(django_assert_num_queries):
    group = fan(20)

    with django_assert_num_queries(3):
        picture(group.pk)


# --- Sums ---


def test_a_large_group_is_summed_by_depth_and_worker(summed):
    group = fan(10, worker=lambda number: "worker-b" if number % 2 else "worker-c")

    drawn = picture(group.pk)

    assert drawn["kind"] == "buckets"
    assert drawn["total"] == 12
    assert drawn["bands"] == [(0, 0), (1, 1), (2, 2)]
    assert [lane["worker"] for lane in drawn["lanes"]] == ["worker-a", "worker-b", "worker-c"]
    spots = {(node["band"], node["worker"]): node["count"] for node in drawn["nodes"]}
    assert spots == {
        (0, "worker-a"): 1,
        (1, "worker-b"): 5,
        (1, "worker-c"): 5,
        (2, "worker-a"): 1,
    }
    assert sorted(drawn["edges"]) == [(0, 1, 5), (0, 2, 5), (1, 3, 5), (2, 3, 5)]
    assert drawn["hidden"] == 0


def test_sums_are_counted_by_state(summed):
    group = fan(10)
    Task.objects.filter(pk__in=["t0", "t1"]).update(remaining_attempts=0)
    Task.objects.filter(pk="t2").update(is_paused=True)
    factories.complete(factories.claim_one())

    drawn = picture(group.pk)

    states = node(drawn, band=1)["states"]
    assert states == {"failed": 2, "paused": 1, "ready": 7}
    assert node(drawn, band=0)["states"] == {"complete": 1}
    assert drawn["counts"] == {"complete": 1, "failed": 2, "paused": 1, "ready": 7, "blocked": 1}


def test_sums_say_what_progress_says(summed):
    group = fan(30)
    factories.complete(factories.claim_one())
    for lease in factories.claim_all(slots=5):
        factories.fail(lease)

    counts = picture(group.pk)["counts"]

    now = progress(group.pk)
    assert counts == {state: n for state in State if (n := getattr(now, state))}
    assert sum(counts.values()) == 32


def test_deep_groups_have_few_bands(summed):
    group = chain(50)

    drawn = picture(group.pk)

    assert len(drawn["bands"]) <= swimlanes.BANDS
    assert drawn["bands"][0] == (0, 4)
    assert drawn["bands"][-1] == (45, 49)
    assert [node["count"] for node in drawn["nodes"]] == [5] * 10
    assert [node["within"] for node in drawn["nodes"]] == [4] * 10
    assert {edge[2] for edge in drawn["edges"]} == {1}


def test_the_least_busy_workers_share_a_lane(summed):
    group = fan(80, worker=lambda number: f"w{number if number < 20 else number % 10}")

    drawn = picture(group.pk)

    assert len(drawn["lanes"]) == swimlanes.SWIMLANES + 1
    assert drawn["lanes"][-1]["worker"] is None
    assert sum(lane["workers"] for lane in drawn["lanes"]) == 21
    assert sum(node["count"] for node in drawn["nodes"]) == 82


def test_arrows_left_out_are_counted(summed, monkeypatch):
    monkeypatch.setattr(swimlanes, "LINKS", 2)
    group = fan(10, worker=lambda number: f"w{number}" if number < 3 else "w3")

    drawn = picture(group.pk)

    assert len(drawn["edges"]) == 2
    assert sum(edge[2] for edge in drawn["edges"]) == 14
    assert drawn["hidden"] == 20 - 14


def test_a_bucket_names_its_tasks_page_by_page(summed, monkeypatch):
    monkeypatch.setattr(summing, "PAGE", 4)
    group = fan(10)

    pages = [bucket(group.pk, 1, "worker-b", page)["ids"] for page in (1, 2, 3, 4)]

    assert [len(page) for page in pages] == [4, 4, 2, 0]
    assert sorted(itertools.chain(*pages)) == sorted(f"t{number}" for number in range(10))
    assert bucket(group.pk, 0, "worker-a") == {"count": 1, "page": 1, "pages": 1, "ids": ["root"]}
    assert bucket(group.pk, 7, "worker-a")["count"] == 0
    assert bucket(group.pk, 0, "worker-a", -1)["ids"] == []


@pytest.mark.parametrize("measured", [1_000, 1])
def test_all_buckets_together_are_the_group(summed, monkeypatch, measured):
    monkeypatch.setattr(summing, "MEASURED", measured)
    group = fan(40, worker=lambda number: f"w{number % 20}")

    named = Counter()
    for box in picture(group.pk)["nodes"]:
        ids = bucket(group.pk, box["band"], box["worker"])["ids"]
        assert len(ids) == box["count"]
        named.update(ids)

    assert named == Counter(Task.objects.filter(group=group).values_list("id", flat=True))


def test_a_huge_group_is_summed_by_worker_alone(summed, monkeypatch):
    monkeypatch.setattr(summing, "MEASURED", 5)
    group = fan(10)
    Task.objects.filter(pk="t0").update(is_paused=True)

    drawn = picture(group.pk)

    assert drawn["bands"] == [(0, None)]
    assert (drawn["edges"], drawn["hidden"]) == ([], None)
    assert node(drawn, worker="worker-b")["states"] == {"paused": 1, "blocked": 9}
    assert drawn["total"] == 12


def test_too_many_edges_are_not_measured(summed, monkeypatch):
    monkeypatch.setattr(summing, "MEASURED_EDGES", 5)

    assert picture(fan(10).pk)["hidden"] is None


def test_levels_are_remembered_until_tasks_come_or_go(summed, django_assert_max_num_queries):
    group = fan(10)
    picture(group.pk)

    with django_assert_max_num_queries(4):
        picture(group.pk)
    make_task(group, id="more", parents=[Task.objects.get(pk="join")])

    assert picture(group.pk)["bands"] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_an_edited_parent_shows_once_the_levels_are_forgotten(summed):
    group = fan(3)
    picture(group.pk)
    ParentEdge.objects.create(child_id="t1", parent_id="t0", position=1)

    summing.forget(group.pk)

    assert len(picture(group.pk)["bands"]) == 4


# --- Around a task ---


def test_around_shows_two_steps_up_and_down():
    chain(9)

    drawn = around("c4")

    assert [node["id"] for node in drawn["nodes"]] == ["c2", "c3", "c4", "c5", "c6"]
    assert drawn["nodes"][drawn["centre"]]["id"] == "c4"
    assert drawn["edges"] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert drawn["cut"] is False
    assert len(around("c4", hops=1)["nodes"]) == 3


def test_around_leaves_out_siblings():
    fan(10)

    assert {node["id"] for node in around("t3")["nodes"]} == {"root", "t3", "join"}


def test_around_says_when_there_is_more():
    fan(30)

    for task in ("root", "join"):
        drawn = around(task, most=10)
        assert drawn["cut"] is True
        assert 5 <= len(drawn["nodes"]) <= 10
        assert drawn["nodes"][drawn["centre"]]["id"] == task
    assert around("root", most=32)["cut"] is False


# --- What draws it ---


def test_the_page_knows_every_state():
    states = re.search(r"STATES = \{(.*?)\n\};", (SCRIPTS / "states.js").read_text(), re.DOTALL)

    assert re.findall(r"^  (\w+): \{", states[1], re.MULTILINE) == [*State]
    for state in State:
        assert f'[data-state="{state}"] {{ --crew-state:' in (SCRIPTS / "graph.css").read_text()


def test_the_page_never_reads_text_as_html():
    for script in SCRIPTS.glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|style=|\beval\b", script.read_text()
        ), script


# --- Size ---


def test_a_hundred_thousand_tasks_are_a_small_picture():
    chance = random.Random(1)
    count = 100_000
    edges = [(chance.randrange(child), child) for child in range(1, count) for _ in range(2)]
    workers = [f"a-worker-with-a-name-of-some-length-{chance.randrange(50)}" for _ in range(count)]

    sums = swimlanes.summed(layout.levels(count, edges), workers, edges)

    states = [Counter(dict.fromkeys(State, 100_000)) for _ in sums.boxes]
    drawn = summing._buckets("group", sums.bands, sums.lanes, sums.boxes, states)
    assert len(json.dumps(drawn | {"edges": sums.links})) < 60_000
    assert sum(box.count for box in sums.boxes) == count
    within = sum(box.within for box in sums.boxes)
    assert within + sum(link[2] for link in sums.links) + sums.hidden == len(edges)


def test_sums_of_a_group_take_few_queries(django_assert_max_num_queries):
    group = make_group()
    for start in range(0, 5_000, 2_500):
        factories.create.create_tasks(
            group.pk,
            [
                wire(id=f"n{number}", parent_ids=[f"n{number * 9 // 10}"] if number > 9 else [])
                for number in range(start, start + 2_500)
            ],
        )

    with django_assert_max_num_queries(6):
        drawn = picture(group.pk)

    assert (drawn["kind"], drawn["total"]) == ("buckets", 5_000)
