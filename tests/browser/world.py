"""A site in which every page has something to show, and the paths of all its pages."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Group, User
from django.db.models.functions import Now
from django.test import RequestFactory

from tasks import audit, control, limits_and_holds
from tasks.access import tokens
from tasks.models import SchedulerProcess, Task, TaskGroup

from ..factories import claim_one, complete, fail, hold, make_group, make_task

TABS = ("tasks", "graph", "timeline", "failures", "history", "settings")


@dataclass(frozen=True)
class World:
    boss: User
    group: TaskGroup
    task: Task  # it failed, and has parents, children and attempts


def furnish(boss: User) -> World:
    """A group with a task in every state, and a row in every list."""
    group = make_group(name="Nightly import")
    with audit.by("boss"):
        done = make_task(group, name="Fetch", is_seed=True, input={"page": 1})
        complete(claim_one(), {"rows": 12})
        task = make_task(group, name="Parse", parents=[done], remaining_attempts=1)
        fail(claim_one(), "the line 12 is no number")
        make_task(group, name="Store", parents=[task])
        make_task(group, name="Look at it", worker="")
        make_task(group, name="Not yet", is_paused=True)
        make_task(group, name="Tomorrow", run_after=task.created_at + timedelta(days=1))
        make_task(group, name="Mail", worker="mailer", workgroup="mail")
        hold(claim_one(), 3_600)
        make_task(group, name="Runs")
        claim_one()
        make_task(group, name="Ready")
        control.pause_group(make_group(name="Set aside").pk)
        limits_and_holds.hold_workgroup("print", seconds=3_600)
        limits_and_holds.limit_worker("mailer", 3)
        tokens.issue(name="nightly job", scopes=["read"])
    # It does not run, and so would be found dead a minute later.
    SchedulerProcess.objects.update(beat_at=Now() + timedelta(hours=1))
    Group.objects.create(name="A role")
    User.objects.create_user("ann", first_name="Ann", is_staff=True)
    return World(boss, group, task)


def paths(world: World) -> dict[str, str]:
    """Every page by a name: those of every model of the admin, and our own."""
    found = {"home": "/admin/", "password": "/admin/password_change/", "API": "/api/v1/docs"}
    found |= {
        f"a group, {tab}": f"/admin/crew/taskgroup/{quote(world.group.pk)}/change/#{tab}"
        for tab in TABS
    }
    found["a task"] = f"/admin/crew/task/{quote(world.task.pk)}/change/"
    for label in {model._meta.app_label for model in admin.site._registry}:
        found[f"app {label}"] = f"/admin/{label}/"
    for model, its_admin in admin.site._registry.items():
        found |= _of_model(world, model, its_admin)
    return found


def is_ours(row: Any) -> bool:
    """Made by `furnish`: neither who looks nor one of the site's roles, which stay as they are."""
    return getattr(row, "username", "") != "boss" and not str(row).startswith("Crew ")


def _of_model(world: World, model: type[Any], its_admin: Any) -> dict[str, str]:
    request = RequestFactory().get("/")
    request.user = world.boss
    name = model._meta.model_name
    list_ = f"/admin/{model._meta.app_label}/{name}/"
    found = {name: list_}
    if its_admin.has_add_permission(request):
        found[f"{name}, add"] = f"{list_}add/"
    row = next((row for row in its_admin.get_queryset(request) if is_ours(row)), None)
    assert row is not None, f"there is no {name} to look at"
    one = f"{list_}{quote(row.pk)}/"
    found[f"{name}, one"] = f"{one}change/"
    found[f"{name}, history"] = f"{one}history/"
    if its_admin.has_delete_permission(request, row):
        found[f"{name}, delete"] = f"{one}delete/"
    return found
