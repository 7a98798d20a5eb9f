"""The routes of the live pages: what they show, about which worker, and to which user."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from tasks import limits_and_holds
from tasks.access import tokens
from tasks.models import Limit

from .api_client import PROBLEM, Api, AtRoot
from .factories import claim, claim_one, complete, make_group, make_scheduler, make_task

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def site(settings):
    settings.ROOT_URLCONF = AtRoot


def api(groups: list[str] | None = None) -> Api:
    _, secret = tokens.issue(name="t", scopes=["read"], group_ids=groups)
    return Api(secret)


def get(path: str) -> Any:
    said = api().send("GET", f"/api/v1/{path}")
    assert said.status == 200
    return said.json


def test_the_fleet_is_what_the_overview_tells_of_it_with_the_time():
    make_task()
    complete(claim_one())
    make_task()
    limits_and_holds.hold_workgroup("shop", seconds=60)

    now = get("fleet")

    at = now.pop("at")
    assert at.endswith("Z")
    assert set(now) == set(get("overview")["fleet"])
    (line,) = now["workers"]
    assert (line["name"], line["inFlight"], line["ready"], line["held"]) == ("worker-a", 0, 1, 0)
    assert (line["isMore"], line["why"], line["hour"]["attempts"]) == (False, "", 1)
    assert [hold["workgroup"] for hold in now["holds"]] == ["shop"]
    assert (len(now["schedulers"]), now["dead"]) == (1, [])


def test_a_worker_is_found_by_its_name_slashes_and_all():
    task = make_task(make_group(name="G"), worker="a/b", name="T", workgroup="shop")
    limits_and_holds.limit_worker("a/b", 0)

    now = get("worker/a/b")

    assert (now["line"]["name"], now["ownLimit"], now["line"]["why"]) == (
        "a/b",
        0,
        "no_scheduler",
    )
    (following,) = now["next"]
    assert (following["id"], following["name"], following["workgroup"]) == (task.pk, "T", "shop")
    assert now["lanes"][0]["due"] == {"count": 1, "isMore": False}
    assert now["groups"] == [{"id": task.group_id, "name": "G", "running": 0}]


def test_a_worker_that_rests_says_so_and_is_tried_at_once_when_asked():
    make_task(worker="w/1")
    rest = {"held_since": Now(), "held_until": Now() + timedelta(hours=1), "held_why": "refused"}
    Limit.objects.create(kind="worker", name="w/1", fails=23, rests=4, **rest)

    listed = get("workers")["workers"][0]["rest"]
    closely = get("worker/w/1")["line"]

    assert listed == closely["rest"] == get("fleet")["workers"][0]["rest"]
    until = listed.pop("until")
    assert until.endswith("Z")
    assert listed == {"allowed": 0, "inFlight": 0, "failures": 23, "error": "refused"}
    make_scheduler()
    assert get("worker/w/1")["line"]["why"] == "worker_rests"
    assert claim().leases == ()
    _, secret = tokens.issue(name="o", scopes=["read", "operate"])
    said = Api(secret).put("/api/v1/worker/w/1", {"tryNow": True})

    assert (said.status, said.json["rest"]["until"], said.json["rest"]["allowed"]) == (200, None, 1)
    assert len(claim().leases) == 1
    assert [act["verb"] for act in get("worker/w/1")["acts"]] == ["open"]
    assert Api(secret).put("/api/v1/worker/none", {"tryNow": True}).status == 404
    for wrong in (False, 1, "true"):
        assert Api(secret).put("/api/v1/worker/w/1", {"tryNow": wrong}).status == 400


def test_a_worker_that_is_well_has_no_rest():
    make_task()
    claim_one()

    assert [row["rest"] for row in get("workers")["workers"]] == [None]
    assert get("worker/worker-a")["line"]["rest"] is None


@pytest.mark.parametrize("name", ["a/b", "x/now", "x/hold", "übrig & mehr"])
def test_a_workgroup_is_found_by_its_name_slashes_and_all(name):
    make_task(workgroup=name)
    limits_and_holds.hold_workgroup(name, seconds=60)

    now = get(f"workgroup/{name}/now")

    assert (now["name"], now["heldBy"], now["due"]["count"]) == (name, "", 1)
    assert now["heldUntil"].endswith("Z")


@pytest.mark.parametrize("path", ["worker/nobody", "workgroup/nothing/now"])
def test_what_is_not_there_is_404(path):
    said = api().send("GET", f"/api/v1/{path}")

    assert (said.status, said.type) == (404, PROBLEM)


def test_groups_are_found_by_their_ids_and_those_that_are_gone_left_out():
    one, two = make_group(id="one", name="One"), make_group(id="two")
    make_group(id="three")
    make_task(one)
    make_task(two, is_complete=True)

    result = {row["id"]: row for row in get("task_groups/now?ids=one,two,gone")["groups"]}

    assert set(result) == {"one", "two"}
    assert (result["one"]["name"], result["one"]["progress"]["ready"]) == ("One", 1)
    assert result["two"]["progress"]["complete"] == 1
    assert get("task_groups/now?ids=") == {"groups": []}


def test_who_may_see_some_groups_sees_no_other():
    make_group(id="mine")
    make_group(id="other")

    said = api(["mine"]).send("GET", "/api/v1/task_groups/now?ids=mine,other")

    assert [row["id"] for row in said.json["groups"]] == ["mine"]


@pytest.mark.parametrize("ids", ["a b", "-x", "%00", "x" * 201, ",".join(["a"] * 201)])
def test_ids_that_can_be_none_and_too_many_are_refused(ids):
    said = api().send("GET", f"/api/v1/task_groups/now?ids={ids}")

    assert (said.status, said.type) == (400, PROBLEM)


def test_a_workgroup_is_found_by_any_name_that_it_may_have():
    limits_and_holds.hold_workgroup("a/b\u2028c%", seconds=60)

    now = get("workgroup/a%2Fb%E2%80%A8c%25/now")

    assert now["name"] == "a/b\u2028c%"
