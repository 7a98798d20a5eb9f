"""What a URL of the admin may ask for: no lookup that was not named, no value that cannot be."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.urls import reverse

from tasks import create
from tasks.models import Task, TaskGroup

pytestmark = pytest.mark.django_db

CLASSES = {model._meta.label_lower: one for model, one in admin.site._registry.items()}
HUGE = "9" * 40
# Of a text, of a time, of JSON, of a relation, of a number; %s is a field of the model.
LOOKUPS = [
    "%s__regex=^(a%%2B)%%2B$",
    "%s__iregex=(",
    "%s__contains=a",
    "%s__icontains=%%00",
    "%s__startswith=%%00",
    "%s__exact=%%00",
    "%s=%%00",
    f"%s={HUGE}",
    f"%s__gte={HUGE}",
    f"%s__in={HUGE},1",
    "%s__in=",
    "%s__isnull=perhaps",
    "%s__range=1,2",
    "%s__range=1",
    "%s__contained_by=x",
    "%s__has_key=%%00",
    "%s__has_keys=x",
    "%s__year=99999999999",
    "%s__year__gte=-1",
    "%s__month=13",
    "%s__date=x",
    "%s__gte=0001-01-01T00:00:00%%2B14:00",
    "%s__lt=9999-12-31T23:59:59-12:00",
    "%s__week_day=8",
    "%s__id__id__id=1",
    "%s__password__startswith=p",
    "%s__a__b=1",
    "%s__unaccent=a",
    "%s__search=a",
    "%s__0=1",
]
ODD = [
    "no_such_field=1",
    "user__password__startswith=p",
    "group__name__regex=(",
    "pk=%00",
    "pk__in=" + ",".join("12345678901"),
    "__=1",
    "=1",
    "%00=1",
    "o=abc",
    "o=99999999999999999999",
    "o=-",
    "o=%D9%A3",
    "o=" + ".".join(["1", "2"] * 1500),
    "p=-1",
    "p=0",
    "p=abc",
    f"p={HUGE}",
    "p=" + "9" * 4200,
    f"p={HUGE}&e=1",
    "q=%00",
    "q=" + "x" * 5000,
    "q=" + "+".join(["a"] * 2000),
    "q=%22",
    "q=%ED%A0%80",
    "q=%1B[2J",
    "all=%00",
    "_popup=%00",
    "_to_field=password",
    "_to_field=%00",
    "_facets=%00",
    "e=%00",
]


@pytest.fixture
def rows(admin_user: User) -> None:
    create.create_group(id="g", name="a" * 40 + "!", tasks=[{"id": "a", "worker": "w"}])


def list_of(label: str) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_changelist")


def fields_of(label: str) -> list[str]:
    """One of each kind that the model has: all of them would be the same again."""
    by_kind = {type(field): field.name for field in CLASSES[label].opts.get_fields()}
    return list(by_kind.values())


@pytest.mark.parametrize("label", CLASSES)
def test_no_lookup_of_any_field_gets_through(label: str, admin_client: Client, rows: None) -> None:
    """Each of them of some field: together they meet all kinds of fields in all lists."""
    names = fields_of(label)
    for place, lookup in enumerate(LOOKUPS):
        asked = lookup % names[place % len(names)]

        said = admin_client.get(f"{list_of(label)}?{asked}")

        assert (said.status_code, said.headers.get("Location")) == (302, list_of(label)), asked


@pytest.mark.parametrize("label", CLASSES)
def test_odd_values_end_at_a_page(label: str, admin_client: Client, rows: None) -> None:
    for asked in ODD:
        said = admin_client.get(f"{list_of(label)}?{asked}")

        known = {400} if "_to_field" in asked else {200, 302}
        assert said.status_code in known, asked
        assert b"Database error" not in said.content
    assert admin_client.get(said.headers.get("Location", list_of(label))).status_code == 200


def test_a_pattern_that_never_ends_is_left_out_and_told(admin_client: Client, rows: None) -> None:
    asked = {"name__regex": "^(a+)+$", "is_paused__exact": "0", "created_at__year": "99999999999"}

    said = admin_client.get(list_of("crew.taskgroup"), asked, follow=True)

    assert said.redirect_chain == [(f"{list_of('crew.taskgroup')}?is_paused__exact=0", 302)]
    assert "This is no filter here: name__regex, created_at__year" in said.content.decode()


@pytest.mark.parametrize(
    ("label", "asked"),
    [
        ("crew.task", "state=ready"),
        ("crew.task", "state=ready&worker=w&is_complete__exact=0&q=a&o=1.-2&p=1"),
        ("crew.task", "group__id__exact=g&is_paused__exact=1"),
        ("crew.task", "_popup=1&_to_field=id"),
        ("crew.taskgroup", "created_at__gte=2024-01-01+00%3A00%3A00%2B00%3A00&is_paused__exact=0"),
        ("crew.taskgroup", "created_at__lt=2024-02-01+00%3A00%3A00%2B00%3A00&all="),
        ("crew.attempt", "task__id__exact=a&outcome=failed"),
        ("crew.auditentry", "verb=create&kind=group&at__gte=2024-01-01T00:00:00Z"),
        ("crew.token", "kind__exact=api"),
        ("auth.user", "groups__id__exact=1&is_staff__exact=1&is_active__exact=True"),
        ("auth.user", "groups__isnull=True&groups=1"),
        ("auth.group", "q=operator"),
    ],
)
def test_the_filters_of_a_list_are_asked(
    label: str, asked: str, admin_client: Client, rows: None
) -> None:
    assert admin_client.get(f"{list_of(label)}?{asked}").status_code == 200


def test_an_action_on_what_no_filter_names_is_refused(admin_client: Client, rows: None) -> None:
    sent = {"action": "delete_selected", "select_across": "1", "_selected_action": "g", "post": "1"}

    said = admin_client.post(f"{list_of('crew.taskgroup')}?name__regex=nothing", sent)

    assert said.status_code == 400
    assert TaskGroup.objects.filter(pk="g").exists()


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("id_", ["a%00b", HUGE, "_0A", "-1"])
def test_pages_of_rows_that_cannot_be(
    label: str, id_: str, admin_client: Client, rows: None
) -> None:
    for page in ("change/", "delete/", "history/", ""):
        said = admin_client.get(f"{list_of(label)}{id_}/{page}")

        assert said.status_code in (302, 403, 404), page


@pytest.mark.parametrize(
    "asked",
    [
        "group=%00",
        f"group={HUGE}",
        "run_after=abc",
        "input=%00",
        "errors=1",
        "parents=%00",
        "seen=1",
    ],
)
def test_a_link_fills_no_form_with_what_breaks_it(
    asked: str, admin_client: Client, rows: None
) -> None:
    said = admin_client.get(f"{list_of('crew.task')}add/?{asked}")

    assert said.status_code == 200


def test_a_link_fills_in_the_group(admin_client: Client, rows: None) -> None:
    said = admin_client.get(f"{list_of('crew.task')}add/?group=g")

    assert said.context["adminform"].form.initial == {"group": "g"}


@pytest.mark.parametrize("label", CLASSES)
def test_forms_of_new_rows_take_no_odd_links(label: str, admin_client: Client) -> None:
    for value in ("%00", "abc", HUGE):
        asked = "&".join(f"{name}={value}" for name in fields_of(label))

        said = admin_client.get(f"{list_of(label)}add/?{asked}")

        assert said.status_code in (200, 403), value


@pytest.mark.parametrize("id_", ["%00", "a%00", HUGE, "a"])
def test_links_to_pages_of_the_site_that_cannot_be(
    id_: str, admin_client: Client, rows: None
) -> None:
    kind = ContentType.objects.get_for_model(Task).pk

    assert admin_client.get(f"/admin/r/{kind}/{id_}/").status_code == 404
    assert admin_client.get(f"/admin/r/{HUGE}/{id_}/").status_code == 404


def test_a_session_that_cannot_be_is_none(client: Client) -> None:
    client.cookies["sessionid"] = "\0aaaaaaaaaaa"

    assert client.get("/admin/").status_code == 302
    assert client.get("/api/v1/task_groups").status_code == 401
