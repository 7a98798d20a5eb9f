"""The live pages of the fleet and of the groups: who sees them, and what their scripts are told."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks import limits_and_holds
from tasks.admin.groups import NewestPages
from tasks.models import SchedulerProcess, Worker
from tasks.templatetags.crew import PLACE

from . import crowd
from .factories import make_group, make_task

pytestmark = pytest.mark.django_db

VIEW = ("view_task", "view_worker", "view_workgroup", "view_schedulerprocess", "view_taskgroup")
PAGES = [
    ("worker", None),
    ("worker", "a/b"),
    ("workgroup", None),
    ("workgroup", "shop/eu"),
    ("schedulerprocess", None),
]


@pytest.fixture(autouse=True)
def stored():
    make_task(worker="a/b", workgroup="shop/eu")
    limits_and_holds.hold_workgroup("shop/eu", seconds=60)
    SchedulerProcess.objects.create(pk="s1", host="h", pid=1, slots=1)


def client_with(*permissions: str) -> Client:
    user = User.objects.create_user("person", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def url(model: str, name: str | None = None) -> str:
    if name is None:
        return reverse(f"admin:crew_{model}_changelist")
    return reverse(f"admin:crew_{model}_change", args=[name.replace("/", "_2F")])


def shown(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize(("model", "name"), PAGES)
def test_a_viewer_sees_the_live_page_and_may_do_nothing(model, name):
    page = shown(client_with(*VIEW), url(model, name))

    assert 'id="crew-fleet"' in page and "crew/fleet.js" in page
    assert f'data-kind="{model}" data-name="{name or ""}"' in page
    assert 'data-may="read"' in page


@pytest.mark.parametrize(("model", "name"), PAGES)
def test_an_operator_may_operate(model, name):
    page = shown(client_with(*VIEW, "change_task", "change_worker"), url(model, name))

    assert 'data-may="read operate"' in page


@pytest.mark.parametrize(("model", "name"), PAGES)
def test_without_a_view_of_tasks_there_is_the_plain_page_only(model, name):
    page = shown(client_with(*VIEW[1:]), url(model, name))

    assert "crew-fleet" not in page and "crew-cards" not in page


def test_where_other_pages_are_is_given_with_a_place_for_the_name(admin_client):
    page = shown(admin_client, url("worker"))

    for model in ("worker", "workgroup", "task"):
        there = reverse(f"admin:crew_{model}_change", args=[PLACE])
        assert f'data-{model}-url="{there}"' in page
    assert f'data-group-url="{reverse("admin:crew_taskgroup_change", args=[PLACE])}"' in page


def test_a_new_worker_and_a_popup_get_no_live_page(admin_client):
    assert 'id="crew-fleet"' not in shown(admin_client, reverse("admin:crew_worker_add"))
    assert 'id="crew-fleet"' not in shown(admin_client, url("worker") + "?_popup=1")


# --- A limit is a limit, wherever it is set ---


@pytest.mark.parametrize(("sent", "kept"), [("", None), ("0", 0), ("7", 7), ("1000000", 10**6)])
def test_the_form_takes_the_limits_of_the_api(admin_client, sent, kept):
    admin_client.post(url("worker", "a/b"), {"max_concurrency": sent})

    assert Worker.objects.get(pk="a/b").max_concurrency == kept


@pytest.mark.parametrize("sent", ["-1", "1000001", "1.5", "many"])
def test_the_form_refuses_what_the_api_refuses(admin_client, sent):
    limits_and_holds.limit_worker("a/b", 3)

    answer = admin_client.post(url("worker", "a/b"), {"max_concurrency": sent})

    assert answer.status_code == 200 and answer.context["errors"]
    assert Worker.objects.get(pk="a/b").max_concurrency == 3


# --- The list of groups ---


def test_each_row_of_the_list_has_a_place_for_its_progress_and_its_id(admin_client):
    group = make_group(name="<b>Nightly</b>")

    page = shown(admin_client, url("taskgroup"))

    assert "crew/groups.js" in page
    assert f'data-group="{group.pk}"' in page and f'data-copy="{group.pk}"' in page
    assert "<b>Nightly" not in page


@pytest.mark.parametrize("words", ["IGHT", "the-id", " nightly ", "100%"])
def test_groups_are_found_by_a_part_of_the_name_and_by_the_id(admin_client, words):
    make_group(id="the-id", name="Nightly 100% import")
    make_group(id="other", name="Mails")

    found = admin_client.get(url("taskgroup"), {"q": words}).context["cl"].result_list

    assert [group.pk for group in found] == ["the-id"]


def test_the_newest_group_comes_first(admin_client):
    first, second = make_group(), make_group()

    found = admin_client.get(url("taskgroup")).context["cl"].result_list

    assert [group.pk for group in found][:2] == [second.pk, first.pk]


def test_more_groups_than_can_be_paged_through_are_not_counted(admin_client, monkeypatch):
    monkeypatch.setattr(NewestPages, "most", 3)
    for _ in range(5):
        make_group()

    answer = admin_client.get(url("taskgroup"))

    assert answer.context["cl"].result_count == 3
    assert "These are the newest 3." in answer.content.decode()


def test_of_a_hundred_thousand_groups_a_page_is_read_by_an_index(fresh_tables, admin_client):
    crowd.fill_groups(100_000)

    with CaptureQueriesContext(connection) as queries:
        admin_client.get(url("taskgroup"))

    asked = [query["sql"] for query in queries if 'FROM "crew_taskgroup"' in query["sql"]]
    assert len(asked) == 2  # how many, counted so far and no further; and one page
    for sql in asked:
        with connection.cursor() as cursor:
            word = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
            cursor.execute(f"{word} {sql}")
            plan = " ".join(str(row) for row in cursor.fetchall())
        assert "LIMIT" in sql
        assert re.search("USING (COVERING )?INDEX|Index( Only)? Scan", plan), plan
        assert "TEMP B-TREE" not in plan and "Sort" not in plan
