"""Every page of the admin in both themes: unfold, as shipped, and Django's own."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db.models.functions import Now

from tasks import create, limits_and_holds
from tasks.access import tokens
from tasks.models import Attempt, SchedulerProcess

from .processes import ROOT, database_url

pytestmark = pytest.mark.django_db(transaction=True)

# Asks for every page of stdin, as the superuser, in a process of the theme.
ASK = """
import json, sys, django
django.setup()
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
settings.ALLOWED_HOSTS = ["testserver"]
client, told = Client(), {}
for name, (path, data) in json.load(sys.stdin).items():
    if name != "login":
        client.force_login(
            User.objects.get(username="root"), "django.contrib.auth.backends.ModelBackend"
        )
    answer = client.get(path) if data is None else client.post(path, data)
    told[name] = [answer.status_code, answer.content.decode()]
json.dump(told, sys.stdout)
"""


def make_rows() -> dict[str, str]:
    """One row of each model, by its primary key."""
    create.create_group(id="g", name="demo", tasks=[{"id": "t", "worker": "w", "isSeed": True}])
    attempt = Attempt.objects.create(
        task_id="t", number=1, worker="w", outcome="failed", started_at=Now(), finished_at=Now()
    )
    limits_and_holds.hold_workgroup("wg", seconds=60)
    SchedulerProcess.objects.create(pk="s1", host="h", pid=1, slots=1)
    token, _ = tokens.issue(name="n", scopes=["read"])
    User.objects.create_superuser("root", "root@example.org", "secret")
    other = User.objects.create_user("other")
    role = Group.objects.create(name="role")
    return {
        "crew/taskgroup": "g",
        "crew/task": "t",
        "crew/attempt": str(attempt.pk),
        "crew/worker": "w",
        "crew/workgroup": "wg",
        "crew/schedulerprocess": "s1",
        "crew/token": str(token.pk),
        "auth/user": str(other.pk),
        "auth/group": str(role.pk),
    }


MACHINE = {"crew/attempt", "crew/schedulerprocess"}  # neither added nor deleted by people
# Their own pages tell what people did.
OWN_HISTORY = {"crew/taskgroup", "crew/task", "crew/worker", "crew/workgroup"}


def pages(rows: dict[str, str]) -> dict[str, tuple[str, Any, str]]:
    """Path, form data and the id of an element, for each page."""
    found: dict[str, tuple[str, Any, str]] = {
        "login": ("/admin/login/", None, "id_username"),
        "index": ("/admin/", None, "crew-home"),
        "app": ("/admin/crew/", None, "crew-home"),
        "auth app": ("/admin/auth/", None, "content"),
        "password": ("/admin/password_change/", None, "id_old_password"),
        "user's password": (
            f"/admin/auth/user/{rows['auth/user']}/password/",
            None,
            "id_password1",
        ),
        "reset groups": (
            "/admin/crew/taskgroup/",
            {"action": "reset", "_selected_action": "g"},
            "content",
        ),
        "reset tasks": (
            "/admin/crew/task/",
            {"action": "reset", "_selected_action": rows["crew/task"]},
            "content",
        ),
    }
    for model, pk in rows.items():
        path, name = f"/admin/{model}/", model.split("/")[1]
        found[f"{model} list"] = (path, None, "changelist")
        found[f"{model} change"] = (f"{path}{pk}/change/", None, f"{name}_form")
        if model not in OWN_HISTORY:
            found[f"{model} history"] = (f"{path}{pk}/history/", None, "content")
        if model not in MACHINE:
            found[f"{model} add"] = (f"{path}add/", None, f"{name}_form")
        if model not in MACHINE | {"crew/workgroup"}:
            found[f"{model} delete"] = (f"{path}{pk}/delete/", None, "content")
            chosen = {"action": "delete_selected", "_selected_action": pk}
            found[f"{model} delete selected"] = (path, chosen, "content")
    return found


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.twice: set[str] = set()  # what a label or a script could not tell apart
        self.title = ""
        self.refused: list[str] = []  # what the policy would not let work
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if id_ := given.get("id"):
            (self.twice if id_ in self.ids else self.ids).add(id_)
        self._inside = tag
        is_data = given.get("type") == "application/json"
        if tag == "style" or (tag == "script" and "src" not in given and not is_data):
            self.refused.append(f"<{tag}>")
        for name in given:
            if name == "style" or (name.startswith("on") and name.isalpha()):
                self.refused.append(f"<{tag} {name}>")

    def handle_data(self, data: str) -> None:
        if self._inside == "title":
            self.title += data


@pytest.mark.parametrize("theme", ["unfold", "plain"])
def test_every_page_of_the_admin(theme: str) -> None:
    asked = pages(make_rows())

    answers = ask(theme, {name: page[:2] for name, page in asked.items()})

    for name, (status, text) in answers.items():
        assert status == 200, f"{name}: {status}"
        page = Page(text)
        assert asked[name][2] in page.ids, f"{name}: {sorted(page.ids)}"
        assert page.refused == [], name
        assert page.twice == set(), name
        assert page.title.strip().endswith("| Crew"), f"{name}: {page.title}"
        assert ("crew-home" in page.ids) is (name in ("index", "app")), name
        if name.startswith("auth/group"):  # groups are those of tasks; these are roles
            assert "group" not in page.title.lower(), page.title
        assert ("nav-sidebar-apps" in page.ids) is (theme == "unfold" and name != "login"), name
    assert "role" in Page(answers["auth/group list"][1]).title
    assert re.search(r">\s*Roles\s*</", answers["auth app"][1])
    assert re.search(r"By\s+role\s*<", answers["auth/user list"][1])
    assert not re.search(
        r'Groups:|groups this user|data-field-name="groups"', answers["auth/user change"][1]
    )
    assert Page(answers["crew/taskgroup change"][1]).ids >= {"crew-group-page", "panel-settings"}
    assert Page(answers["crew/task change"][1]).ids >= {"crew-task-page", "crew-edit"}


def ask(theme: str, pages: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        env=os.environ
        | {"DATABASE_URL": database_url(), "DEBUG": "1", "CREW_THEME": theme}
        | {"DJANGO_SETTINGS_MODULE": "crewsite.settings"},
        input=json.dumps(pages),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_an_unknown_theme_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env=os.environ | {"DEBUG": "1", "CREW_THEME": "pretty"},
        capture_output=True,
        text=True,
    )

    assert done.returncode != 0
    assert "CREW_THEME" in done.stderr
    assert "unfold or plain" in done.stderr
