"""`manage.py crewcheck`: each rule is broken, found, and repaired where that can be."""

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now

from tasks import control, create, edit
from tasks.engine.repair import REPAIRABLE
from tasks.models import (
    Attempt,
    CutCall,
    ParentEdge,
    SchedulerProcess,
    SharedOutput,
    Task,
    TaskGroup,
)
from tasks.upkeep.invariants import INVARIANTS, on_cycles


def graph() -> None:
    """`a` before `b` before `c`; `k1` and `k2` share a key; another group with `z`. All old."""
    create.create_group(
        id="g",
        tasks=[
            {"id": "a", "worker": "w"},
            {"id": "b", "worker": "w", "parentIds": ["a"]},
            {"id": "c", "worker": "w", "parentIds": ["b"]},
            {"id": "k1", "worker": "w", "key": "k"},
            {"id": "k2", "worker": "w", "key": "k"},
        ],
    )
    create.create_group(id="other", tasks=[{"id": "z", "worker": "w"}])
    Task.objects.update(created_at=Now() - timedelta(minutes=1))


def update(id_: str, **fields: object) -> None:
    Task.objects.filter(pk=id_).update(**fields)


def edge(parent: str, child: str) -> None:
    ParentEdge.objects.create(parent_id=parent, child_id=child, position=9)


def attempt(task: str, number: int, outcome: str = "failed") -> None:
    Attempt.objects.create(
        task_id=task,
        number=number,
        worker="w",
        scheduler="s1",
        outcome=outcome,
        started_at=Now(),
        finished_at=Now(),
    )


def scheduler(id_: str, *, silent_for: float = 0) -> None:
    SchedulerProcess.objects.create(pk=id_, host="h", pid=1, slots=1)
    SchedulerProcess.objects.filter(pk=id_).update(beat_at=Now() - timedelta(seconds=silent_for))


def lease(id_: str, by: str = "s1", number: int = 1) -> None:
    update(id_, leased_by=by, leased_at=Now(), attempt=number)


def complete(id_: str, **fields: object) -> None:
    """Half a minute ago, when what `graph` makes was there."""
    update(id_, is_complete=True, completed_at=Now() - timedelta(seconds=30), **fields)


def check(*args: str) -> tuple[bool, str]:
    out = StringIO()
    try:
        call_command("crewcheck", *args, stdout=out)
    except CommandError as error:
        return False, out.getvalue() + str(error)
    return True, out.getvalue()


def broken_counter() -> None:
    update("b", pending_parents=0)


def broken_count() -> None:
    TaskGroup.objects.filter(pk="g").update(task_count=99)


def broken_cycle() -> None:
    edge("c", "b")
    update("b", pending_parents=2)


def cross_group_edge() -> None:
    edge("z", "b")
    update("b", pending_parents=2)


def silent_scheduler() -> None:
    scheduler("s1", silent_for=1_000)
    lease("a")


def open_attempt_ended() -> None:
    scheduler("s1")
    lease("a", number=1)
    attempt("a", 1)


def led_by_another_group() -> None:
    complete("z", key="k")
    complete("k2", merged_into="z")


def shared_and_own() -> None:
    output = SharedOutput.objects.create(value=1)
    complete("k2", shared_output_id=output.pk)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE crew_task SET output = '2' WHERE id = 'k2'")


def cut(by: str, until: object = None) -> None:
    CutCall.objects.create(
        task_id="a", attempt=1, scheduler=by, worker="w", group_id="g", until=until
    )


def lease_given_up() -> None:
    scheduler("s1")
    lease("a")
    cut("s1")


BREAKS: dict[str, tuple[Callable[[], None], str]] = {
    "pending_parents": (broken_counter, "b"),
    "edge_ends": (lambda: edge("gone", "b"), "gone -> b"),
    "edge_group": (cross_group_edge, "z -> b"),
    "no_cycle": (broken_cycle, "b, c"),
    "lease": (lambda: lease("a", by="vanished"), "a"),
    "lease of a silent scheduler": (silent_scheduler, "a"),
    "open_attempt": (open_attempt_ended, "a"),
    "cut_call": (lambda: cut("vanished"), "a"),
    "cut_call long over": (lambda: cut("s1", Now() - timedelta(hours=1)), "a"),
    "cut_lease": (lease_given_up, "a"),
    "follower": (lambda: update("k2", merged_into="k1"), "k2"),
    "merged": (led_by_another_group, "k2"),
    "merged with one that never completed": (lambda: complete("k2", merged_into="k1"), "k2"),
    "task_count": (broken_count, "g"),
    "attempt_number": (lambda: attempt("a", 7), "a"),
    "attempt_task": (lambda: attempt("gone", 1), "gone"),
    "shared_output": (lambda: complete("k2", shared_output_id=uuid4()), "k2"),
    "one_output": (shared_and_own, "k2"),
    "errors": (lambda: update("a", errors=["x"] * 51), "a"),
}


def test_a_sound_store_is_all_ok(db: None) -> None:
    graph()
    scheduler("s1")
    lease("k1")
    update("k2", merged_into="k1")

    is_sound, out = check()

    assert is_sound
    assert out.splitlines() == [f"ok {invariant.name}" for invariant in INVARIANTS]


@pytest.mark.parametrize("case", BREAKS)
def test_what_is_broken_is_found(db: None, case: str) -> None:
    graph()
    break_, found = BREAKS[case]
    break_()

    is_sound, out = check()

    assert not is_sound
    broken = [line for line in out.splitlines() if line.startswith("BROKEN")]
    assert len(broken) == 1
    assert broken[0].startswith(f"BROKEN {case.partition(' ')[0]}:")
    assert broken[0].endswith(f"found: {found}")


@pytest.mark.parametrize("case", [case for case in BREAKS if case.partition(" ")[0] in REPAIRABLE])
def test_what_can_be_derived_is_repaired(db: None, case: str) -> None:
    graph()
    BREAKS[case][0]()

    is_sound, out = check("--repair")

    assert is_sound, out
    assert f"repaired {case.partition(' ')[0]}: 1" in out


@pytest.mark.parametrize(
    "case", [case for case in BREAKS if case.partition(" ")[0] not in REPAIRABLE]
)
def test_what_nobody_can_derive_stays_broken(db: None, case: str) -> None:
    graph()
    BREAKS[case][0]()

    is_sound, out = check("--repair")

    assert not is_sound
    assert f"cannot repair {case.partition(' ')[0]}" in out


def test_the_repaired_counter_is_that_of_the_edges(db: None) -> None:
    graph()
    update("a", pending_parents=3)
    broken_counter()

    check("--repair")

    counts = dict(Task.objects.filter(group="g").values_list("id", "pending_parents"))
    assert (counts["a"], counts["b"], counts["c"]) == (0, 1, 1)


def test_a_given_back_lease_uses_up_the_attempt(db: None) -> None:
    graph()
    lease("a", by="vanished", number=4)

    check("--repair")

    task = Task.objects.get(pk="a")
    assert (task.leased_by, task.remaining_attempts, task.rescues) == (None, 4, 1)
    assert Attempt.objects.get(task_id="a", number=4).outcome == "abandoned"


def test_a_lease_within_two_sweeps_is_left_alone(db: None) -> None:
    graph()
    scheduler("s1", silent_for=35)
    lease("a")

    assert check()[0]


def test_an_edge_without_parent_no_longer_counts(db: None) -> None:
    graph()
    edge("gone", "a")
    update("a", pending_parents=1)

    is_sound, out = check("--repair")

    assert is_sound, out
    assert Task.objects.get(pk="a").pending_parents == 0
    assert not ParentEdge.objects.filter(child="a").exists()


def test_a_leader_that_was_reset_later_is_no_fault(db: None) -> None:
    graph()
    update("k1", attempt=1)
    attempt("k1", 1, "completed")
    complete("k2", merged_into="k1")

    assert check()[0]


@pytest.mark.parametrize(("id_", "key"), [("k1", "edited"), ("k2", "edited"), ("k2", "")])
def test_an_edited_key_is_only_a_warning(db: None, id_: str, key: str) -> None:
    graph()
    complete("k1")
    complete("k2", merged_into="k1")
    edit.edit_task("g", id_, {"key": key})

    is_sound, out = check()

    assert is_sound
    assert "WARNING merged_key" in out


def test_a_task_left_over_is_warned_of_in_a_quiet_system_only(db: None) -> None:
    graph()
    scheduler("s1")
    update("a", run_after=Now() - timedelta(seconds=60))

    assert "left_over" not in check()[1]
    is_sound, out = check("--quiet-system")
    assert is_sound
    assert "WARNING left_over" in out
    assert out.rstrip().endswith("1 found: a")


def test_without_a_scheduler_nothing_is_left_over(db: None) -> None:
    graph()
    update("a", run_after=Now() - timedelta(seconds=60))

    assert "ok left_over" in check("--quiet-system")[1]


def test_at_most_ten_ids_are_shown(db: None) -> None:
    create.create_group(id="g", tasks=[{"id": f"t{n:02}"} for n in range(12)])
    Task.objects.update(pending_parents=1)

    _, out = check()

    assert "12 found: t00, t01, t02, t03, t04, t05, t06, t07, t08, t09, ..." in out


@pytest.mark.parametrize(
    ("edges", "found"),
    [
        ([], []),
        ([("a", "b"), ("b", "c"), ("a", "c")], []),
        ([("a", "b"), ("b", "a")], ["a", "b"]),
        ([("x", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "y")], ["a", "b", "c"]),
        ([("a", "b"), ("b", "a"), ("c", "d"), ("d", "e")], ["a", "b"]),
        ([("a", "a")], ["a"]),
    ],
)
def test_kahn_leaves_the_cycles(edges: list[tuple[str, str]], found: list[str]) -> None:
    assert on_cycles(edges) == found


def test_a_long_chain_needs_no_recursion() -> None:
    chain = [(f"t{n}", f"t{n + 1}") for n in range(50_000)]

    assert on_cycles(chain) == []
    assert len(on_cycles([*chain, ("t50000", "t0")])) == 50_001


@pytest.mark.parametrize("group", ["g", "other"])
def test_a_task_recreated_under_the_id_of_a_leader_is_no_fault(db: None, group: str) -> None:
    graph()
    update("k1", attempt=1)
    attempt("k1", 1, "completed")
    complete("k1")
    complete("k2", merged_into="k1")
    control.delete_tasks("g", ["k1"])
    create.create_tasks(group, [{"id": "k1", "worker": "w"}])

    is_sound, out = check()

    assert is_sound
    assert "WARNING merged_key" not in out
