"""The shapes of the API, for its OpenAPI description: what comes in and what goes out.

Bodies are read by `rules/spec.py` and `body.py`, which are faster and stricter; these say to people
and generators what those take.
"""

from typing import Any

from rest_framework import serializers as s

from ...rules.names import MAX_LENGTH
from ...rules.spec import DEFAULT_ATTEMPTS, FIELDS, MAX_ATTEMPTS, Kind, TaskField
from ...rules.states import State
from ..changes import NEVER
from ..tasks import EDITABLE

STATES = [state.value for state in State]
KEEP = "What earlier answers made and is complete stays as it is when the task answers again."
TIME_HELP = "RFC 3339. Answers are UTC with three fraction digits; year 1 means none."


def text(**options: object) -> s.CharField:
    return s.CharField(
        **{"max_length": MAX_LENGTH, "allow_blank": True, "required": False} | options
    )


def number(low: int, high: int, default: int, help_text: str) -> s.IntegerField:
    return s.IntegerField(
        min_value=low, max_value=high, default=default, required=False, help_text=help_text
    )


def payload(help_text: str) -> s.JSONField:
    return s.JSONField(required=False, help_text=f"Any JSON. {help_text}")


def _taken(field: TaskField) -> s.Field:
    """What a client may send for a field of a task."""
    options = {"required": False, "help_text": field.words}
    match field.kind:
        case Kind.TEXT:
            return text(**options)
        case Kind.NUMBER:
            return number(field.low, field.high, field.default, field.words)
        case Kind.SWITCH:
            return s.BooleanField(default=False, **options)
        case Kind.TIME:
            return s.DateTimeField(required=False, help_text=TIME_HELP)
        case Kind.LIST:
            longest = {"max_length": MAX_LENGTH} if field.column == "parent_ids" else {}
            return s.ListField(child=s.CharField(**longest), **options)
    return payload(field.words)


def _shown(field: TaskField) -> s.Field:
    """How a field of a task is shown."""
    match field.kind:
        case Kind.TEXT:
            return s.CharField(allow_blank=field.column != "id")
        case Kind.NUMBER:
            return s.IntegerField()
        case Kind.SWITCH:
            return s.BooleanField()
        case Kind.TIME:
            return s.DateTimeField(help_text=TIME_HELP)
        case Kind.LIST:
            return s.ListField(child=s.CharField(allow_blank=field.column == "errors"))
    return s.JSONField()


class TaskFields(s.Serializer):  # type: ignore[misc]
    """What a client may set at any time. Null counts as left out."""

    def get_fields(self) -> dict[str, s.Field]:
        taken = {field.word: _taken(field) for field in FIELDS if field.is_editable}
        fields: dict[str, s.Field] = {**taken, **super().get_fields()}
        for field in fields.values():
            field.allow_null = True
        return fields


def clear(*words: str) -> s.ListField:
    return s.ListField(
        child=s.ChoiceField(choices=words),
        required=False,
        allow_null=True,
        help_text="Names of fields that are to be empty. Null never empties one.",
    )


class TaskChange(TaskFields):
    """What is null or left out stays as it is; an empty `runAfter` is now."""

    clear = clear(*(word for word, field in EDITABLE.items() if field.empty is not NEVER))

    def get_fields(self) -> dict[str, s.Field]:
        fields = super().get_fields()
        for field in fields.values():
            # A client that fills in the defaults of a schema would change what nobody named.
            field.default = s.empty
        return fields


class NewTask(TaskFields):
    """A task to be created. Unknown fields are ignored, and named in `X-Crew-Ignored`."""

    def get_fields(self) -> dict[str, s.Field]:
        more = {field.word: _taken(field) for field in FIELDS if not field.is_editable}
        for field in more.values():
            field.allow_null = True
        return {**super().get_fields(), **more}


class NewTaskOfMany(NewTask):
    """A task to be created with others. Unknown fields are refused."""

    taskGroupId = s.CharField(required=False, help_text="Ignored: the group is that of the call.")
    busyExecuting = s.BooleanField(required=False, help_text="Ignored.")
    state = s.CharField(required=False, help_text="Ignored.")


class Task(s.Serializer):  # type: ignore[misc]
    """A task as it is."""

    taskGroupId = s.CharField()
    busyExecuting = s.BooleanField(help_text="An attempt runs, or one of its duplicates does.")
    state = s.ChoiceField(choices=STATES)

    def get_fields(self) -> dict[str, s.Field]:
        return {**{field.word: _shown(field) for field in FIELDS}, **super().get_fields()}


class Counted(s.Serializer):  # type: ignore[misc]
    count = s.IntegerField(
        required=False,
        help_text="How many there are, on all pages. Left out behind the first part (`after`).",
    )
    next = s.CharField(
        required=False,
        allow_null=True,
        help_text="With `after`: that of the next part; null at the end.",
    )


class TaskList(Counted):
    tasks = Task(many=True)
    isCut = s.BooleanField(
        required=False,
        help_text="Present where the rows end before the page does: together they are too large."
        " `count` stays true; smaller pages go on from there.",
    )


class NewGroup(s.Serializer):  # type: ignore[misc]
    """A group to be created, with its whole graph if `tasks` are given."""

    id = text(help_text="A new id is made for an empty one.")
    name = text()
    isPaused = s.BooleanField(required=False, default=False)
    createdAt = s.DateTimeField(required=False, help_text=TIME_HELP)
    tasks = NewTaskOfMany(many=True, required=False)


class GroupName(s.Serializer):  # type: ignore[misc]
    name = text(allow_null=True, help_text="Null leaves it.")
    clear = clear("name")


class Group(s.Serializer):  # type: ignore[misc]
    id = s.CharField()
    name = s.CharField(allow_blank=True)
    createdAt = s.DateTimeField(help_text=TIME_HELP)
    isPaused = s.BooleanField()


class GroupList(Counted):
    taskGroups = Group(many=True)


class Progress(s.Serializer):  # type: ignore[misc]
    """`completedPercent` is a fraction, 0 to 1, as the old Crew gave it. The counts are ours."""

    completedPercent = s.FloatField(min_value=0, max_value=1)
    total = s.IntegerField(required=False)

    def get_fields(self) -> dict[str, Any]:
        counts = {state: s.IntegerField(required=False) for state in STATES}
        return {**super().get_fields(), **counts}


class Attempts(s.Serializer):  # type: ignore[misc]
    remainingAttempts = number(0, MAX_ATTEMPTS, DEFAULT_ATTEMPTS, "What each task gets.")


class Success(s.Serializer):  # type: ignore[misc]
    success = s.BooleanField()


class SuccessCount(Success):
    count = s.IntegerField()


class Deleted(s.Serializer):  # type: ignore[misc]
    deleted = s.BooleanField()
    id = s.CharField()


class NewTasks(s.Serializer):  # type: ignore[misc]
    tasks = NewTaskOfMany(many=True)


class CreatedTasks(s.Serializer):  # type: ignore[misc]
    count = s.IntegerField()
    ids = s.ListField(child=s.CharField())
    dryRun = s.BooleanField(required=False)


class SomeTasks(s.Serializer):  # type: ignore[misc]
    """Which tasks, if the query does not say it by a filter."""

    ids = s.ListField(child=s.CharField(), required=False)
    remainingAttempts = number(0, MAX_ATTEMPTS, DEFAULT_ATTEMPTS, "For retry and reset.")
    keepComplete = s.BooleanField(default=False, help_text=KEEP + " For reset.")


class Count(s.Serializer):  # type: ignore[misc]
    count = s.IntegerField()


class BulkCount(Count):
    """What was done, or would be."""

    descendants = s.IntegerField(required=False, help_text="Of `count`, in a dry run of delete.")
    replaced = s.IntegerField(
        required=False,
        help_text="In a dry run of reset: tasks that earlier answers made, and what hangs on them"
        " alone. They go when the next answers do not name them.",
    )
    next = s.CharField(
        required=False, allow_null=True, help_text="The next `after`; null at the end."
    )


class Rerun(s.Serializer):  # type: ignore[misc]
    input = payload("The new input; null leaves it. Needs scope `write` as well.")
    clear = clear("input")
    remainingAttempts = number(0, MAX_ATTEMPTS, DEFAULT_ATTEMPTS, "What the task gets.")
    keepComplete = s.BooleanField(default=False, help_text=KEEP)


class LateAnswer(s.Serializer):  # type: ignore[misc]
    """An answer that came when another attempt had begun: kept, never applied."""

    at = s.DateTimeField()
    outcome = s.CharField(allow_blank=True)
    status = s.IntegerField(allow_null=True)
    error = s.CharField(allow_blank=True)


class Attempt(s.Serializer):  # type: ignore[misc]
    taskId = s.CharField()
    number = s.IntegerField()
    worker = s.CharField(allow_blank=True)
    outcome = s.CharField(help_text="completed, failed, held, abandoned, cancelled or interrupted")
    status = s.IntegerField(allow_null=True, help_text="HTTP status; null if none came.")
    error = s.CharField(allow_blank=True)
    note = s.CharField(allow_blank=True, help_text="What was repaired or ignored in the answer.")
    startedAt = s.DateTimeField()
    finishedAt = s.DateTimeField()
    late = LateAnswer(allow_null=True)


class WholeAttempt(Attempt):
    request = s.CharField(
        allow_null=True,
        help_text="What went out: start line, headers, body. Cut; secrets are hidden.",
    )
    answer = s.CharField(
        allow_null=True, help_text="What came back, in the same manner; null if nothing is kept."
    )


class AttemptList(Counted):
    attempts = Attempt(many=True)
    isCut = s.BooleanField(required=False, help_text="Present where the page ends too early.")


class Rest(s.Serializer):  # type: ignore[misc]
    """How a worker that failed of late is treated."""

    until = s.DateTimeField(
        allow_null=True, help_text="No attempt starts before; null: it is over."
    )
    allowed = s.IntegerField(help_text="Attempts that may be in flight for now.")
    inFlight = s.IntegerField(help_text="Those of them that are.")
    failures = s.IntegerField(help_text="In a row.")
    error = s.CharField(allow_blank=True, help_text="The last of them.")


class Worker(s.Serializer):  # type: ignore[misc]
    name = s.CharField()
    maxConcurrency = s.IntegerField(allow_null=True, help_text="As set; null for the default.")
    limit = s.IntegerField(allow_null=True, help_text="What counts; null for no limit.")
    inFlight = s.IntegerField()
    rest = Rest(allow_null=True)


class WorkerList(Counted):
    workers = Worker(many=True)


class WorkerLimit(s.Serializer):  # type: ignore[misc]
    maxConcurrency = s.IntegerField(
        min_value=0,
        max_value=1_000_000,
        required=False,
        allow_null=True,
        help_text="Null leaves it; cleared it is the default.",
    )
    tryNow = s.BooleanField(
        required=False, allow_null=True, help_text="True ends the rest of a worker that failed."
    )
    clear = clear("maxConcurrency")


class Workgroup(s.Serializer):  # type: ignore[misc]
    name = s.CharField()
    isHeld = s.BooleanField()
    heldUntil = s.DateTimeField(help_text=TIME_HELP)
    heldBy = s.CharField(allow_blank=True, help_text="The task that asked for it; empty: a person.")


class WorkgroupList(Counted):
    workgroups = Workgroup(many=True)


class Hold(s.Serializer):  # type: ignore[misc]
    seconds = s.FloatField(min_value=0, max_value=31_622_400)


class Credentials(s.Serializer):  # type: ignore[misc]
    username = s.CharField()
    password = s.CharField()


class LoginToken(s.Serializer):  # type: ignore[misc]
    token = s.CharField()


class Ticket(s.Serializer):  # type: ignore[misc]
    ticket = s.CharField()
    expiresInSeconds = s.IntegerField()


class Message(s.Serializer):  # type: ignore[misc]
    message = s.CharField()


class Problem(s.Serializer):  # type: ignore[misc]
    """Problem details (RFC 9457)."""

    type = s.CharField()
    title = s.CharField()
    status = s.IntegerField()
    detail = s.CharField()


# What is read of these is all that may be in them.
STRICT = (NewTaskOfMany, NewTasks, SomeTasks, Rerun, WorkerLimit, Hold)
