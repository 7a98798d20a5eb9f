"""The rules of a run: each finds what breaks a promise. Pure, over a `Story`."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

from .journal import DONE, REFUSED
from .story import AttemptRow, Lock, Post, Story

SURE = 0.5  # seconds: a call begins with a fifth of its lease left at least
LONG, MANY = 2.0, 5  # a lock of so many seconds, in the first half of which so many calls begin
MOST_MEMORY = 150 * 1024 * 1024  # bytes of a scheduler, which begins with about 90
ANSWERED = ("completed", "failed", "held")
CREATES = ("create_group", "create_tasks")


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


def check(story: Story) -> list[Violation]:
    """Everything that is wrong, the gravest rules first."""
    return [Violation(rule.__name__, text) for rule in RULES for text in rule(story)]


# --- Accepted means kept ---


def lost(story: Story) -> Iterator[str]:
    """What a create acknowledged is there, unless somebody asked for its deletion."""
    gone = story.gone()
    for call in story.calls:
        if call.verb not in CREATES or call.result != DONE or call.group in gone:
            continue
        if call.group not in story.groups:
            yield f"group {call.group}, acknowledged by call {call.number}"
        for id_ in call.ids:
            if id_ not in story.tasks and id_ not in gone:
                yield f"task {id_}, acknowledged by call {call.number}"


def half_created(story: Story) -> Iterator[str]:
    """A create without an answer has had its effect whole, or none."""
    gone = story.gone()
    for call in story.calls:
        if call.verb not in CREATES or call.result == DONE or call.group in gone:
            continue
        there = sum(id_ in story.tasks for id_ in call.ids)
        if call.result == REFUSED:
            yield f"call {call.number} ({call.verb} {call.group}) was refused: {call.text}"
        elif there not in (0, len(call.ids)):
            yield f"call {call.number}: {there} of {len(call.ids)} tasks of {call.group}"


def kept_deletions(story: Story) -> Iterator[str]:
    """What a deletion acknowledged is gone."""
    for call in story.calls:
        if call.verb.startswith("delete_") and call.result == DONE:
            if call.verb == "delete_group" and call.group in story.groups:
                yield f"group {call.group} is still there after call {call.number}"
            for id_ in call.takes:
                if id_ in story.tasks:
                    yield f"task {id_} is still there after call {call.number}"


def kept_resets(story: Story) -> Iterator[str]:
    """What was reset has run again since."""
    gone = story.gone()
    for call in story.calls:
        if call.verb != "reset_tasks" or call.result != DONE:
            continue
        for id_ in set(call.ids) - gone:
            if not any(each.finished_at > call.sent_at for each in story.completed(id_)):
                yield f"task {id_} did not run again after call {call.number}"


# --- Delivered at least once, a (task, attempt) at most once ---


def posted_twice(story: Story) -> Iterator[str]:
    """A (task, attempt) is POSTed at most once."""
    counts = Counter((post.task, post.attempt) for post in story.posts)
    for (task, attempt), count in counts.items():
        if count > 1:
            yield f"attempt {attempt} of {task} was POSTed {count} times"
    names = {(post.task, post.attempt, post.webhook_id) for post in story.posts}
    ids = Counter(webhook_id for _, _, webhook_id in names)
    for webhook_id, count in ids.items():
        if webhook_id and count > 1:
            yield f"{count} attempts have the webhook-id {webhook_id}"


def stuck(story: Story) -> Iterator[str]:
    """Everything is complete but what was planned to fail, and what waits for that."""
    left = {id_ for plan in story.plans for id_ in (*plan.doomed, *plan.blocked)}
    for task in story.tasks.values():
        if not task.is_complete and task.id not in left:
            yield f"task {task.id}: attempt={task.attempt}, {task.state}"


def worked_by_nobody(story: Story) -> Iterator[str]:
    """What completed was POSTed, and that call was one to complete it."""
    posts = {(post.task, post.attempt): post for post in story.posts}
    for task, rows in story.attempts.items():
        for row in rows:
            post = posts.get((task, row.number))
            if row.outcome == "completed" and (post is None or not post.may_complete):
                yield f"attempt {row.number} of {task} completed; the worker's log has {post}"


def posted_unclaimed(story: Story) -> Iterator[str]:
    """Each call was claimed before, so at the end there is an attempt for it."""
    for post in story.posts:
        rows = story.attempts.get(post.task, [])
        if post.task in story.tasks and not any(row.number == post.attempt for row in rows):
            yield f"attempt {post.attempt} of {post.task} has no row"


def posted_without_success(story: Story) -> Iterator[str]:
    """Nobody is asked to do what is done: no attempt is later than the completing one."""
    unrun = story.unrun()
    for post in story.posts:
        task = story.tasks.get(post.task)
        done = story.completed(post.task)
        if task is None or not done or unrun.get(post.task) or unrun.get(task.group):
            continue
        if post.attempt > done[0].number:
            yield f"attempt {post.attempt} of {post.task} was POSTed, {done[0].number} completed it"


def too_early(story: Story) -> Iterator[str]:
    for post in story.posts:
        if post.is_early:
            yield f"attempt {post.attempt} of {post.task} was POSTed before its runAfter"


# --- An answer takes effect once, whole, or not at all ---


def took_effect_twice(story: Story) -> Iterator[str]:
    """A task completes once, more often only when it was reset; of a key one task does."""
    unrun = story.unrun()
    by_key: defaultdict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for task in story.tasks.values():
        done = story.completed(task.id)
        most = 1 + unrun.get(task.id, 0) + unrun.get(task.group, 0)
        if len(done) > most:
            yield f"task {task.id} completed {len(done)} times: {done}"
        if task.key:
            by_key[task.group, task.key] += [(task.id, row.number) for row in done]
    for (group, key), done_by in by_key.items():
        if len(done_by) > 1:
            yield f"the tasks of {key!r} in {group} completed by {done_by}"


def wrong_output(story: Story) -> Iterator[str]:
    """A complete task has the output of the attempt that completed it, or its leader."""
    for task in story.tasks.values():
        if not task.is_complete:
            continue
        leader = task.merged_into or task.id
        done = story.completed(leader)
        if not done and leader in story.tasks:
            yield f"task {task.id} is complete, and no attempt of {leader} completed"
        elif done and task.made_by != (leader, done[-1].number):
            yield f"task {task.id} has the output of {task.made_by}, not {leader} {done[-1].number}"
        elif done and leader in story.tasks and task.size != story.tasks[leader].size:
            yield f"task {task.id} has {task.size} characters of the output of {leader}"


def wrong_children(story: Story) -> Iterator[str]:
    """All children of an answer that took effect are there; none of any other answer is."""
    gone = story.gone()
    promised: set[str] = set()
    for post in story.posts:
        if not post.children or post.task in gone or post.task not in story.tasks:
            continue
        row = _row(story, post)
        if row is None or row.outcome != "completed":
            continue
        promised.update(post.children)
        for id_ in post.children:
            child = story.tasks.get(id_)
            if child is None:
                yield f"child {id_} of attempt {post.attempt} of {post.task} is missing"
            elif post.task not in story.parents.get(id_, ()) or child.created_by != post.task:
                yield f"child {id_} does not hang on {post.task}, which made it"
    for task in story.tasks.values():
        if task.created_by and task.id not in promised:
            yield f"task {task.id} is of an answer of {task.created_by} that did not take effect"


# --- The graph, and what people did ---


def before_its_parents(story: Story) -> Iterator[str]:
    """No call of a child comes before the answer that completed its parent."""
    done_at: dict[str, int] = {}
    for post in story.posts:
        row = _row(story, post)
        if row and row.outcome == "completed":
            # Without a note of the answer its reader was gone at once; it came after the call.
            place = post.place if post.answered is None else post.answered
            done_at[post.task] = min(place, done_at.get(post.task, place))
    for post in story.posts:
        for id_ in story.parents.get(post.task, ()):
            parent = story.tasks.get(id_)
            by = (parent.merged_into or id_) if parent else id_
            if by not in done_at or done_at[by] > post.place:
                yield f"attempt {post.attempt} of {post.task} was POSTed before {id_} completed"


def wrong_payload(story: Story) -> Iterator[str]:
    """A child gets exactly its parents, and of the outputs they ended with."""
    unrun = story.unrun()
    for post in story.posts:
        task = story.tasks.get(post.task)
        if task is None or unrun.get(task.group):
            continue
        expected = story.parents.get(post.task, set())
        if set(post.parents) != expected:
            yield f"attempt {post.attempt} of {post.task} got {sorted(post.parents)}"
        for id_ in expected & set(post.parents):
            parent = story.tasks.get(id_)
            if parent and not unrun.get(id_) and post.parents[id_] != parent.made_by:
                got = post.parents[id_]
                yield f"attempt {post.attempt} of {post.task} got {got} as output of {id_}"


def ran_though_doomed(story: Story) -> Iterator[str]:
    """What always fails is not complete, and who waits for it was never called."""
    called = {post.task for post in story.posts}
    for plan in story.plans:
        for id_ in plan.doomed & story.tasks.keys():
            if story.tasks[id_].is_complete:
                yield f"task {id_} always fails, and is complete"
        for id_ in plan.blocked & called:
            yield f"task {id_} was POSTed, and its parent never completed"


def ran_while_paused(story: Story) -> Iterator[str]:
    """I16: no attempt begins between the answer to a pause and the call that resumes."""
    for call in story.calls:
        if not call.verb.startswith("pause_") or call.result != DONE:
            continue
        later = (each for each in story.calls if each.number > call.number)
        resumed = next(
            (e for e in later if e.group == call.group and e.verb.startswith("resume_")), None
        )
        until = resumed.sent_at if resumed else inf
        ids = call.ids or [id_ for id_ in story.tasks if story.tasks[id_].group == call.group]
        for id_ in ids:
            for row in story.attempts.get(id_, ()):
                if call.answered_at < row.started_at < until:
                    yield f"attempt {row.number} of {id_} began during the pause of {call.number}"


def over_the_limit(story: Story) -> Iterator[str]:
    """Never more calls at a worker than its limit, from the call to its answer or its end."""
    for worker, limit in story.limits.items():
        running: list[Post] = []
        for post in (each for each in story.posts if each.worker == worker):
            running = [each for each in running if _runs_beside(story, each, post)]
            running.append(post)
            if len(running) > limit:
                names = ", ".join(f"{each.task} {each.attempt}" for each in running)
                yield f"{len(running)} calls at {worker}, which takes {limit}: {names}"


def _runs_beside(story: Story, earlier: Post, post: Post) -> bool:
    """By the worker's log. One whose scheduler stands still runs on when its lease is over: if it
    did not end by its lease, only its first moments count.
    """
    ends = [place for place in (earlier.answered, earlier.gone) if place is not None]
    if ends and min(ends) < post.place:
        return False
    row = _row(story, earlier)
    by_lease = row is not None and row.outcome not in ("abandoned", "cancelled")
    return by_lease or post.at - earlier.at < SURE


def stopped_by_a_lock(story: Story) -> Iterator[str]:
    """While somebody holds a group, answers to tasks of others are written, each in its turn."""
    ended = {
        id_: [row.finished_at for row in rows if row.outcome in ANSWERED]
        for id_, rows in story.attempts.items()
    }
    for lock in (each for each in story.locks if each.until - each.since > LONG):
        others = {id_ for id_, task in story.tasks.items() if task.group != lock.group}
        early = (lock.since + lock.until) / 2
        asked = sum(lock.since < each.at < early for each in story.posts if each.task in others)
        went = any(lock.since < at < lock.until for id_ in others for at in ended.get(id_, ()))
        if asked >= MANY and not went:
            yield f"{asked} calls of other groups, none settled while {lock.group} was held: {lock}"
        yield from _overtaken(story, lock)


def _overtaken(story: Story, lock: Lock) -> Iterator[str]:
    """Answers to tasks that nobody held, written only when the lock had ended, though the same
    scheduler wrote later ones before. (It may stand still, or lose its connection: not then.)
    """
    held = {e.group for e in story.locks if e.since < lock.until and lock.since < e.until}
    newest: dict[str, float] = {}  # answer that each scheduler wrote meanwhile
    waited = []
    for post in story.posts:
        row, task, came = _row(story, post), story.tasks.get(post.task), post.answered_at
        if row is None or task is None or came is None or row.outcome not in ANSWERED:
            continue
        if task.group in held or not lock.since < came < lock.until:
            continue
        if row.finished_at < lock.until:
            newest[row.scheduler] = max(came, newest.get(row.scheduler, 0.0))
        elif came < lock.until - LONG:
            waited.append((post, came, row.scheduler))
    for post, came, scheduler in waited:
        if came < newest.get(scheduler, 0.0):
            yield f"the answer to {post.task} {post.attempt} waited for {lock}"


def grew(story: Story) -> Iterator[str]:
    """However wide the layers, and whatever the database does."""
    for name, size in story.memory.items():
        if name.startswith("scheduler") and size > MOST_MEMORY:
            yield f"{name} had {size >> 20} MB"


def broken_invariants(story: Story) -> Iterator[str]:
    for name, ids in story.invariants.items():
        yield f"{name}: {', '.join(ids[:20])}"


def died(story: Story) -> Iterator[str]:
    """No process of ours ends by itself, whatever happens around it."""
    yield from story.deaths


RULES: tuple[Callable[[Story], Iterator[str]], ...] = (
    lost,
    stuck,
    posted_twice,
    took_effect_twice,
    half_created,
    wrong_children,
    wrong_output,
    worked_by_nobody,
    posted_unclaimed,
    posted_without_success,
    before_its_parents,
    wrong_payload,
    ran_though_doomed,
    ran_while_paused,
    too_early,
    over_the_limit,
    stopped_by_a_lock,
    kept_deletions,
    kept_resets,
    grew,
    broken_invariants,
    died,
)


def _row(story: Story, post: Post) -> AttemptRow | None:
    rows = story.attempts.get(post.task, ())
    return next((row for row in rows if row.number == post.attempt), None)
