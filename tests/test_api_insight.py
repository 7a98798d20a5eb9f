"""The routes that look through tasks: each shows what its room found, and only the caller's."""

import pytest

from tasks.access import tokens
from tasks.models import Task

from .api_client import Api, AtRoot
from .factories import claim_one, complete, fail, make_group, make_scheduler, wire

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def site(settings):
    settings.ROOT_URLCONF = AtRoot


def api(*scopes: str, groups: list[str] | None = None) -> Api:
    _, secret = tokens.issue(name="t", scopes=scopes, group_ids=groups)
    return Api(secret)


@pytest.fixture
def failed():
    """In each of two groups a task that failed for good, in the same way, and its child."""
    make_scheduler()
    for name in ("one", "two"):
        tasks = [
            wire(id=f"{name}-a", remaining_attempts=1),
            wire(id=f"{name}-b", parent_ids=[f"{name}-a"]),
        ]
        make_group(id=name, tasks=tasks)
        fail(claim_one(), f"no page {17 if name == 'one' else 18} here")


def test_explain_names_the_gates_and_whether_they_open(failed):
    said = api("read").send("GET", "/api/v1/task/one-b/explain").json

    assert (said["state"], said["startsItself"]) == ("blocked", False)
    (gate,) = said["gates"]
    assert (gate["code"], gate["tasks"], gate["opensItself"]) == ("parents", ["one-a"], False)


def test_failures_of_one_kind_are_one_and_are_retried_by_one_call(failed):
    caller = api("read", "operate")
    (kind,) = caller.send("GET", "/api/v1/failures").json["found"]
    assert (kind["count"], kind["groupCount"], kind["worker"]) == (2, 2, "worker-a")
    route = f"/api/v1/failure/{kind['key']}/retry"

    assert caller.send("POST", f"{route}?dryRun=1").json == {"count": 2}
    assert Task.objects.exhausted().count() == 2
    assert caller.send("POST", route, {"remainingAttempts": 3}).json == {"count": 2}
    assert set(Task.objects.filter(id__endswith="-a").values_list("remaining_attempts")) == {(3,)}


def test_a_retry_without_attempts_is_refused(failed):
    said = api("operate").send("POST", "/api/v1/failure/k/retry", {"remainingAttempts": 0})

    assert said.status == 400


def test_a_token_for_one_group_sees_and_retries_its_own_failures_only(failed):
    caller = api("read", "operate", groups=["two"])
    (kind,) = caller.send("GET", "/api/v1/failures").json["found"]

    assert (kind["count"], kind["groupIds"]) == (1, ["two"])
    assert caller.send("POST", f"/api/v1/failure/{kind['key']}/retry").json == {"count": 1}
    assert Task.objects.get(pk="one-a").remaining_attempts == 0
    assert caller.send("GET", "/api/v1/failures?group=one").status == 404


def test_the_overview_shows_a_limited_token_its_groups_and_not_the_fleet(failed):
    everything = api("read").send("GET", "/api/v1/overview").json
    limited = api("read", groups=["one"]).send("GET", "/api/v1/overview").json

    assert {group["id"] for group in everything["groups"]} == {"one", "two"}
    assert everything["fleet"]["schedulers"][0]["host"] == "test"
    assert [group["id"] for group in limited["groups"]] == ["one"]
    assert limited["fleet"] is None


def test_the_graph_of_a_group_and_around_a_task(failed):
    caller = api("read")
    whole = caller.send("GET", "/api/v1/task_group/one/graph").json
    near = caller.send("GET", "/api/v1/task/one-b/around").json

    assert [node["id"] for node in whole["nodes"]] == ["one-a", "one-b"]
    assert (whole["edges"], whole["counts"]["failed"]) == ([[0, 1]], 1)
    assert near["nodes"][near["centre"]]["id"] == "one-b"


@pytest.mark.parametrize("query", ["band=-1", "band=x", "page=1e3", "depth=1"])
def test_a_bucket_that_cannot_be_is_refused(failed, query):
    said = api("read").send("GET", f"/api/v1/task_group/one/graph/bucket?{query}")

    assert said.status == 400


def test_the_timeline_shows_each_attempt(failed):
    make_group(id="three", tasks=[wire(id="three-a")])
    complete(claim_one())
    said = api("read").send("GET", "/api/v1/task_group/three/timeline").json

    (task,) = said["tasks"]
    assert (task["id"], said["criticalPath"]) == ("three-a", ["three-a"])
    assert task["attempts"][0]["outcome"] == "completed"


def test_the_list_of_tasks_shows_seeds_only_when_asked(failed):
    make_group(id="four", tasks=[wire(id="four-a", is_seed=True), wire(id="four-b")])
    said = api("read").send("GET", "/api/v1/task_group/four/tasks?seeds=1").json

    assert (said["count"], [task["id"] for task in said["tasks"]]) == (1, ["four-a"])


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("GET", "/api/v1/failures?group=a%00"),
        ("POST", "/api/v1/failure/k/retry?group=a%00"),
        ("GET", "/api/v1/task_group/one/graph/bucket?worker=a%00"),
    ],
)
def test_a_nul_in_the_query_is_refused(failed, method, route):
    assert api("admin").send(method, route).status == 400
