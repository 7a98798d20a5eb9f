"""The checker of chaos runs sees each kind of harm: one planted in a story that is good."""

import asyncio
import contextlib
import json
import socket
import socketserver
import threading
from dataclasses import replace
from random import Random

import pytest
from django.utils import timezone

from tasks.client import Crew
from tasks.client.values import to_json
from tasks.create import read_specs
from tasks.models import Task
from tasks.rules.graph import check_new

from .chaos import checker, journal
from .chaos.checker import check
from .chaos.journal import DONE, REFUSED, UNKNOWN, Asked, Journal
from .chaos.plan import SHAPES, GroupPlan, group_of
from .chaos.proxy import Proxies
from .chaos.story import AttemptRow, Lock, Post, Story, TaskRow, load, read_log
from .chaos.worker import LATE, LOST, Log, Worker
from .factories import claim_one, complete, make_group, make_task

MADE = ("p", "c", "k1", "k2", "bad", "after", "r", "x")


def good() -> Story:
    """A parent that made a child, a child of both, a pair of one key, a doomed task and its child;
    a task that was deleted, one that was reset, and one in a group that was paused."""
    return Story(
        posts=[
            Post(0, "p", 1, "m1", status=0),
            Post(1, "p", 2, "m2", children=("p.2-0",), answered=2),
            Post(3, "p.2-0", 1, "m3", {"p": ("p", 2)}, answered=4),
            Post(5, "c", 1, "m4", {"p": ("p", 2)}, answered=6, worker="w"),
            Post(7, "k1", 1, "m5", answered=8, worker="w"),
            Post(9, "bad", 1, "m6", status=500, error="no", answered=10),
            Post(11, "r", 1, "m7", answered=12),
            Post(13, "r", 2, "m8", answered=14),
            Post(15, "h", 1, "m9", answered=16),
        ],
        limits={"w": 1},
        calls=[
            Asked(
                1,
                "create_group",
                "g",
                ("p", "c", "k1", "k2", "bad", "after", "r", "x"),
                (),
                1,
                2,
                DONE,
            ),
            Asked(2, "create_tasks", "g", ("u1", "u2"), (), 3, 4, UNKNOWN),
            Asked(3, "delete_tasks", "g", ("x",), ("x",), 5, 6, DONE),
            Asked(4, "reset_tasks", "g", ("r",), (), 7, 8, DONE),
            Asked(5, "create_group", "g2", ("h",), (), 9, 10, DONE),
            Asked(6, "pause_group", "g2", (), (), 20, 21, DONE),
            Asked(7, "resume_group", "g2", (), (), 30, 31, DONE),
        ],
        tasks={
            "p": TaskRow("p", "g", attempt=2, made_by=("p", 2)),
            "p.2-0": TaskRow("p.2-0", "g", attempt=1, made_by=("p.2-0", 1), created_by="p"),
            "c": TaskRow("c", "g", attempt=1, made_by=("c", 1)),
            "k1": TaskRow("k1", "g", "key", attempt=1, made_by=("k1", 1)),
            "k2": TaskRow("k2", "g", "key", made_by=("k1", 1), merged_into="k1"),
            "bad": TaskRow("bad", "g", attempt=1, is_complete=False),
            "after": TaskRow("after", "g", is_complete=False),
            "r": TaskRow("r", "g", attempt=2, made_by=("r", 2)),
            "h": TaskRow("h", "g2", attempt=1, made_by=("h", 1)),
        },
        attempts={
            "p": [AttemptRow(1, "failed", 1, 1), AttemptRow(2, "completed", 2, 2)],
            "p.2-0": [AttemptRow(1, "completed", 3, 3)],
            "c": [AttemptRow(1, "completed", 3, 3)],
            "k1": [AttemptRow(1, "completed", 3, 3)],
            "bad": [AttemptRow(1, "failed", 3, 3)],
            "r": [AttemptRow(1, "completed", 3, 3), AttemptRow(2, "completed", 9, 9)],
            "h": [AttemptRow(1, "completed", 19, 22)],
        },
        parents={"c": {"p"}, "p.2-0": {"p"}, "after": {"bad"}},
        plans=[GroupPlan("g", doomed={"bad"}, blocked={"after"})],
        groups={"g", "g2"},
    )


def test_a_good_story_is_good():
    assert check(good()) == []


def without(story: Story, task: str) -> None:
    del story.tasks[task]


def task(story: Story, id_: str, **changes) -> None:
    story.tasks[id_] = replace(story.tasks[id_], **changes)


def post(story: Story, place: int, **changes) -> None:
    at = next(i for i, each in enumerate(story.posts) if each.place == place)
    story.posts[at] = replace(story.posts[at], **changes)


def call(story: Story, number: int, **changes) -> None:
    story.calls[number - 1] = replace(story.calls[number - 1], **changes)


def attempt(story: Story, id_: str, number: int, outcome: str, at: float = 50) -> None:
    story.attempts.setdefault(id_, []).append(AttemptRow(number, outcome, at, at))


# What is planted, and the rule that must see it. Others may see it too.
def answers_in_a_lock(story, *answers):
    """Of tasks of group `g`: when each came and when it was written, by one scheduler."""
    for n, (came, written) in enumerate(answers, start=2):
        story.posts.append(Post(40 + n, "c", n, answered=60 + n, answered_at=came))
        story.attempts["c"].append(AttemptRow(n, "failed", 70, written, "s"))


HARM = {
    "a task that was acknowledged is gone": ("lost", lambda s: without(s, "c")),
    "a group that was acknowledged is gone": ("lost", lambda s: s.groups.remove("g2")),
    "half of an unanswered create is there": (
        "half_created",
        lambda s: s.tasks.update(u1=TaskRow("u1", "g", made_by=("u1", 1))),
    ),
    "a good create is refused": ("half_created", lambda s: call(s, 2, result=REFUSED)),
    "a deleted task is back": (
        "kept_deletions",
        lambda s: s.tasks.update(x=TaskRow("x", "g", made_by=("x", 1))),
    ),
    "a reset was forgotten": ("kept_resets", lambda s: s.attempts["r"].pop()),
    "a task waits forever": ("stuck", lambda s: task(s, "c", is_complete=False)),
    "an attempt is POSTed twice": ("posted_twice", lambda s: s.posts.append(Post(17, "c", 1))),
    "two attempts share a webhook-id": ("posted_twice", lambda s: post(s, 5, webhook_id="m2")),
    "a task completes without a call": ("worked_by_nobody", lambda s: s.posts.pop()),
    "a failure is taken for a success": ("worked_by_nobody", lambda s: post(s, 5, status=500)),
    "an answer that never came takes effect": ("worked_by_nobody", lambda s: post(s, 5, status=0)),
    "a call has no attempt": ("posted_unclaimed", lambda s: s.attempts["bad"].clear()),
    "what is done is asked for again": (
        "posted_without_success",
        lambda s: (s.posts.append(Post(17, "c", 2)), attempt(s, "c", 2, "failed")),
    ),
    "a task starts before it is due": ("too_early", lambda s: post(s, 5, is_early=True)),
    "a task completes twice": ("took_effect_twice", lambda s: attempt(s, "c", 2, "completed")),
    "a reset task completes three times": (
        "took_effect_twice",
        lambda s: attempt(s, "r", 3, "completed"),
    ),
    "a key is done twice": ("took_effect_twice", lambda s: attempt(s, "k2", 1, "completed")),
    "an output is of another attempt": ("wrong_output", lambda s: task(s, "p", made_by=("p", 1))),
    "an output is lost": ("wrong_output", lambda s: task(s, "c", made_by=None)),
    "a duplicate has another's output": ("wrong_output", lambda s: task(s, "k2", made_by=("p", 2))),
    "a duplicate has half of an output": ("wrong_output", lambda s: task(s, "k2", size=5)),
    "a task is complete and nobody did it": ("wrong_output", lambda s: s.attempts["c"].clear()),
    "a child of an answer is missing": ("wrong_children", lambda s: without(s, "p.2-0")),
    "a child does not wait for its maker": (
        "wrong_children",
        lambda s: s.parents["p.2-0"].clear(),
    ),
    "a child of a lost answer is there": (
        "wrong_children",
        lambda s: s.tasks.update({"p.1-0": replace(s.tasks["p.2-0"], id="p.1-0")}),
    ),
    "a child is called before its parent answered": (
        "before_its_parents",
        lambda s: post(s, 1, answered=6),
    ),
    "a child is called and its parent never completed": (
        "before_its_parents",
        lambda s: s.attempts["p"].pop(),
    ),
    "a child is not told of a parent": ("wrong_payload", lambda s: post(s, 5, parents={})),
    "a child is told an older output": (
        "wrong_payload",
        lambda s: post(s, 5, parents={"p": ("p", 1)}),
    ),
    "what always fails completes": (
        "ran_though_doomed",
        lambda s: task(s, "bad", is_complete=True),
    ),
    "what is blocked is called": (
        "ran_though_doomed",
        lambda s: s.posts.append(Post(17, "after", 1, parents={"bad": None})),
    ),
    "a paused task starts": ("ran_while_paused", lambda s: attempt(s, "h", 2, "failed", 25)),
    "a worker has more calls than it takes": (
        "over_the_limit",
        lambda s: post(s, 5, answered=9),
    ),
    "a call runs beside the one that was given up": (
        "over_the_limit",
        lambda s: (post(s, 5, answered=None, gone=9), s.attempts.update(c=[])),
    ),
    "nothing goes on while a group is locked": (
        "stopped_by_a_lock",
        lambda s: (
            s.locks.append(Lock("g2", 70, 75)),
            s.posts.extend(Post(20 + n, "c", 2 + n, at=71) for n in range(5)),
        ),
    ),
    "one answer waits for the lock of another group": (
        "stopped_by_a_lock",
        lambda s: (s.locks.append(Lock("g2", 70, 75)), answers_in_a_lock(s, (71, 76), (72, 72.1))),
    ),
    "a scheduler takes too much memory": (
        "grew",
        lambda s: s.memory.update({"scheduler-1": 151 * 1024 * 1024}),
    ),
    "an invariant is broken": (
        "broken_invariants",
        lambda s: s.invariants.update(pending_parents=["c"]),
    ),
    "a scheduler dies by itself": ("died", lambda s: s.deaths.append("scheduler-0 ended with 1")),
}


@pytest.mark.parametrize("harm", HARM)
def test_harm_is_seen(harm):
    rule, plant = HARM[harm]
    story = good()

    plant(story)

    assert rule in {violation.rule for violation in check(story)}


def test_a_lock_beside_which_others_go_on_is_no_harm():
    story = good()
    HARM["nothing goes on while a group is locked"][1](story)
    attempt(story, "c", 2, "failed", 72)

    assert "stopped_by_a_lock" not in {violation.rule for violation in check(story)}


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([(71, 71.1), (72, 72.1)], "each in its turn"),
        ([(71, 76), (72, 76)], "its scheduler stood still"),
        ([(74, 76), (74.5, 74.6)], "hardly longer than the lock"),
    ],
)
def test_an_answer_that_waits_for_something_else_is_no_harm(answers, why):
    story = good()
    story.locks.append(Lock("g2", 70, 75))

    answers_in_a_lock(story, *answers)

    assert "stopped_by_a_lock" not in {violation.rule for violation in check(story)}, why


def test_an_answer_of_a_stuck_group_is_no_harm():
    story = good()
    story.locks += [Lock("g2", 70, 75), Lock("g", 73, 77)]

    answers_in_a_lock(story, (71, 76), (72, 72.1))

    assert "stopped_by_a_lock" not in {violation.rule for violation in check(story)}


def test_every_rule_has_a_harm_that_only_it_might_see():
    assert {rule for rule, _ in HARM.values()} == {rule.__name__ for rule in checker.RULES}


@pytest.mark.django_db
def test_the_rows_are_read_as_they_are():
    group = make_group()
    parent = make_task(id="p", group=group)
    make_task(id="c", group=group, parents=[parent])
    complete(claim_one(), {"task": "p", "attempt": 1})

    story = load(Story())

    assert story.tasks["p"].made_by == ("p", 1)
    assert story.tasks["c"].is_complete is False
    assert [row.outcome for row in story.attempts["p"]] == ["completed"]
    assert abs(story.attempts["p"][0].finished_at - timezone.now().timestamp()) < 60
    assert story.parents == {"c": {"p"}}
    assert story.groups == {group.id}
    assert story.invariants == {}
    Task.objects.filter(pk="c").update(pending_parents=1)
    assert load(Story()).invariants == {"pending_parents": ["c"]}


def test_the_plan_is_the_same_for_the_same_seed_and_may_be_created():
    plans = [group_of(3, number) for number in range(2 * len(SHAPES))]

    for number, plan in enumerate(plans):
        assert plan == group_of(3, number)
        check_new(read_specs(map(to_json, plan.tasks)), max_parents=100)
        ids = {task["id"] for task in plan.tasks}
        named = {id_ for deed in plan.deeds for id_ in (*deed.ids, *deed.takes)}
        assert named | plan.doomed | plan.blocked <= ids
        assert all(callable(getattr(Crew, deed.name)) for deed in plan.deeds)
    assert group_of(3, 0) != group_of(4, 0)


def test_the_journal_tells_what_was_sent_and_what_was_said(tmp_path):
    notes = Journal(tmp_path / "journal")
    first = notes.sent("create_tasks", "g", ["a"])
    notes.sent("delete_tasks", "g", ["b"], ["b", "c"])
    notes.answered(first, DONE)
    notes.close()

    one, two = journal.read(tmp_path / "journal")

    assert (one.verb, one.ids, one.result) == ("create_tasks", ("a",), DONE)
    assert one.answered_at >= one.sent_at > 0
    assert (two.takes, two.result, two.answered_at) == (("b", "c"), UNKNOWN, 0)


# --- The worker and the proxy ----------------------------------------------------------------


@pytest.fixture
def echo():
    """A server that says everything back, a word before it."""

    class Echo(socketserver.StreamRequestHandler):
        def handle(self):
            while line := self.rfile.readline():
                self.wfile.write(b"said " + line)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # a link that was cut
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Proxies(*server.server_address) as proxies:
            yield proxies.open()
        server.shutdown()


def talk(door):
    sock = socket.create_connection(("127.0.0.1", door.port), timeout=10)
    return sock, sock.makefile("rwb", buffering=0)


def say(stream, words: bytes) -> None:
    stream.write(words + b"\n")


def test_the_proxy_passes_holds_and_passes_late(echo):
    sock, stream = talk(echo)
    with sock, stream:
        say(stream, b"one")
        assert stream.readline() == b"said one\n"

        echo.hold()
        say(stream, b"two")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            stream.readline()
    sock, stream = talk(echo)
    with sock, stream:
        say(stream, b"three")
        echo.release()
        assert stream.readline() == b"said three\n"


def test_the_proxy_swallows_the_answer_to_a_commit_and_cuts(echo):
    first, second = talk(echo), talk(echo)
    with first[0], first[1], second[0], second[1]:
        say(second[1], b"BEGIN")
        assert second[1].readline() == b"said BEGIN\n"
        echo.swallow()
        say(first[1], b"COMMIT")
        with contextlib.suppress(ConnectionError):
            assert first[1].readline() == b""
        assert echo.swallowed == 1

        say(second[1], b"COMMIT")
        assert second[1].readline() == b"said COMMIT\n"
        echo.cut()
        with pytest.raises(ConnectionError):
            assert second[1].readline() == b""
            raise ConnectionResetError


def test_the_worker_logs_a_call_before_it_answers(tmp_path):
    path = tmp_path / "log"
    call = {"taskId": "t", "input": {"children": 2, "depth": 1}, "worker": "w", "parents": []}
    # The first attempt whose answer is neither lost nor late.
    attempt = next(n for n in range(1, 99) if Random(f"7 t {n}").random() > LOST + LATE)

    said = asyncio.run(ask(path, call, attempt))

    (seen,) = read_log(path)
    assert (seen.task, seen.attempt, seen.status, seen.place, seen.answered) == (
        "t", attempt, 200, 0, 1,
    )  # fmt: skip
    assert seen.may_complete
    assert set(seen.children) == {child["id"] for child in said["children"]}
    assert said["output"] == {"task": "t", "attempt": attempt, "pad": ""}


async def ask(path, call, attempt):
    server = await asyncio.start_server(Worker(Log(str(path)), 7).converse, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        body = json.dumps(call).encode()
        head = f"POST /w HTTP/1.1\r\nContent-Length: {len(body)}\r\nwebhook-id: m\r\n"
        writer.write(f"{head}X-Crew-Attempt: {attempt}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(answer.split("Content-Length: ")[1].split()[0])
        said = json.loads(await reader.readexactly(length))
        writer.close()
        return said
