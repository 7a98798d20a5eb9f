"""`progress` and `manage.py crewstatus`."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from tasks import create
from tasks.errors import NotFoundError
from tasks.management import base
from tasks.management.commands import crewstatus
from tasks.models import Task
from tasks.store.states import STATE, Progress, progress

LEASE = {"leased_by": "s1", "leased_at": Now()}
FUTURE = "2999-01-01T00:00:00Z"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def one_of_each() -> str:
    tasks = [
        {"id": "done", "worker": "w", "isComplete": True},
        {"id": "runs", "worker": "w", "key": "k"},
        {"id": "follows", "worker": "w", "key": "k"},
        {"id": "failed", "worker": "w", "remainingAttempts": 0},
        {"id": "paused", "worker": "w", "isPaused": True},
        {"id": "blocked", "worker": "w", "parentIds": ["runs"]},
        {"id": "nobody"},
        {"id": "later", "worker": "w", "runAfter": FUTURE},
        {"id": "ready", "worker": "w"},
    ]
    group = create.create_group(id="g", tasks=tasks)
    Task.objects.filter(pk="runs").update(**LEASE)
    Task.objects.filter(pk="follows").update(merged_into="runs")
    return group.pk


def status(*args: str, out: StringIO | None = None, **kwargs: Any) -> tuple[int, str]:
    out = out or StringIO()
    try:
        call_command("crewstatus", *args, stdout=out, **kwargs)
    except SystemExit as stop:
        return int(stop.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_each_state_is_counted_once(db: None) -> None:
    group = one_of_each()

    assert progress(group) == Progress(9, 1, 1, 1, 1, 1, 1, 1, 1)
    assert progress(group).complete == 1


def test_the_states_of_rows_are_those_that_are_counted(db: None) -> None:
    one_of_each()

    states = dict(Task.objects.annotate(state=STATE).values_list("id", "state"))

    assert states == {
        "done": "complete",
        "runs": "executing",
        "follows": "following",
        "failed": "failed",
        "paused": "paused",
        "blocked": "blocked",
        "nobody": "unassigned",
        "later": "scheduled",
        "ready": "ready",
    }


def test_progress_of_an_unknown_group_is_refused(db: None) -> None:
    with pytest.raises(NotFoundError, match="no task group nope"):
        progress("nope")


@pytest.mark.sqlite
def test_what_is_complete_is_not_walked(db: None) -> None:
    rows = Task.objects.filter(group_id="g", is_complete=False).values_list(STATE)

    plan = rows.explain()

    assert "crew_task_incomplete" in plan


def test_a_pipe_gets_one_line_and_exit_code_3(db: None) -> None:
    one_of_each()

    code, out = status("g")

    assert code == 3
    assert out == (
        "g 1/9 complete, 1 executing, 1 blocked, 1 scheduled, 1 failed (no attempts left),"
        " 1 paused, 1 following, 1 ready, 1 without a worker\n"
    )


def test_a_complete_group_exits_with_0(db: None) -> None:
    create.create_group(id="g", tasks=[{"worker": "w", "isComplete": True}])

    assert status("g") == (
        0,
        "g 1/1 complete, 0 executing, 0 blocked, 0 scheduled, 0 failed (no attempts left),"
        " 0 paused\n",
    )


def test_an_unknown_group_is_an_error(db: None) -> None:
    with pytest.raises(CommandError, match="no task group nope") as raised:
        status("nope")

    assert raised.value.returncode == 1


def test_a_terminal_gets_a_bar_that_fits_in(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    one_of_each()
    monkeypatch.setenv("COLUMNS", "40")

    _, out = status("g", out=Terminal())

    assert out.startswith("[#------------] 1/9 complete, 1 e")
    assert len(out.rstrip("\n")) < 40


@pytest.mark.parametrize(("complete", "bar"), [(0, "[-----]"), (1, "[##---]"), (2, "[#####]")])
def test_the_bar_is_full_only_when_all_is_complete(complete: int, bar: str) -> None:
    now = Progress(2, ready=2 - complete)

    assert crewstatus.bar_line("", now, columns=10).startswith(bar)


def completing(monkeypatch: pytest.MonkeyPatch, *, stop: bool = False) -> None:
    """Between two looks of --watch, complete one task; or press Ctrl-C."""

    def sleep(seconds: float) -> None:
        if stop:
            raise KeyboardInterrupt
        some = Task.objects.incomplete().values_list("id", flat=True).first()
        Task.objects.filter(pk=some).update(is_complete=True, completed_at=Now())

    monkeypatch.setattr(crewstatus.time, "sleep", sleep)


@pytest.fixture
def two_tasks(db: None) -> Iterator[str]:
    yield create.create_group(id="g", tasks=[{"worker": "w"}, {"worker": "w"}]).pk


def test_watch_goes_on_until_all_is_complete(
    two_tasks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    completing(monkeypatch)

    code, out = status("g", "--watch")

    assert code == 0
    assert [line.split()[1] for line in out.splitlines()] == ["0/2", "1/2", "2/2"]


def test_watch_rewrites_the_line_of_a_terminal(
    two_tasks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    completing(monkeypatch)

    _, out = status("g", "--watch", out=Terminal())

    assert out.count(base.CLEAR_LINE) == 3
    assert out.count("\n") == 1


def test_ctrl_c_ends_the_watch_with_exit_code_3(
    two_tasks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    completing(monkeypatch, stop=True)

    code, out = status("g", "--watch")

    assert code == 3
    assert out.startswith("g 0/2 complete")


def test_progress_asks_twice_whatever_the_size(
    two_tasks: str, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(2):
        progress("g")
