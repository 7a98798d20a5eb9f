"""The forms of the admin, and fields for what no Django field reads strictly enough."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms

from ..conf import conf
from ..errors import InvalidInputError
from ..models import ParentEdge, Task, TaskGroup
from ..rules.jsonio import JSONError, dump, read
from ..rules.names import check_id, check_worker
from ..rules.spec import FIELDS, Kind, read_text
from .base import pretty
from .seen import SeenMixin


class _AsTyped(str):
    """Text to be shown again as it was typed."""


class StrictJSONField(forms.Field):
    """JSON by the same strict reader as all JSON from outside; empty for null."""

    widget = forms.Textarea(attrs={"rows": 8, "cols": 80, "spellcheck": "false"})

    def to_python(self, value: Any) -> Any:
        if value is None or not value.strip():
            return None
        try:
            data = value.encode(errors="surrogatepass")
            return read(data, max_bytes=conf.CREW_MAX_INPUT_BYTES).value
        except JSONError as error:
            raise forms.ValidationError(f"This is not JSON we take: {error}.") from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        return None if data is None else _AsTyped(data)

    def prepare_value(self, value: Any) -> Any:
        if value is None or isinstance(value, _AsTyped):
            return value
        return pretty(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return dump(initial) != dump(self.to_python(data))
        except forms.ValidationError:
            return True


class IdsField(forms.Field):
    """Ids of tasks, one a line; commas and spaces separate as well."""

    widget = forms.Textarea(attrs={"rows": 4, "cols": 80, "spellcheck": "false"})

    def to_python(self, value: Any) -> tuple[str, ...]:
        ids = tuple(dict.fromkeys((value or "").replace(",", " ").split()))
        if not ids and (value or "").strip():
            raise forms.ValidationError("There is no id in this; empty it if you mean none.")
        return ids

    def prepare_value(self, value: Any) -> Any:
        return value if value is None or isinstance(value, str) else "\n".join(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return tuple(initial or ()) != self.to_python(data)
        except forms.ValidationError:
            return True


if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm


def _rule(check: Callable[..., Any], *args: Any) -> Any:
    """Apply a rule of ours as a form rule."""
    try:
        return check(*args)
    except ValueError as error:  # InvalidInputError is one
        raise forms.ValidationError(str(error)) from error


class NewIdMixin(forms.Form):
    new_id = forms.CharField(
        label="id",
        required=False,
        max_length=200,
        help_text="Empty for a new one. Letters, digits and . _ : - ; it cannot be changed.",
    )

    def clean_new_id(self) -> Any:
        return _rule(check_id, self.cleaned_data["new_id"]) if self.cleaned_data["new_id"] else ""


class GroupForm(SeenMixin, ModelForm):
    class Meta:
        model = TaskGroup
        fields = ("name", "is_paused")
        help_texts = {
            "is_paused": "No attempt of it starts. Without the tick every task of it is resumed.",
        }

    def stored(self) -> dict[str, Any]:
        return dict(TaskGroup.objects.values(*GroupForm.Meta.fields).get(pk=self.instance.pk))


class NewGroupForm(NewIdMixin, GroupForm):
    pass


# What people set in fields of the model's own; payloads and lists have other fields.
OWN = [field for field in FIELDS if field.is_editable and field.kind not in (Kind.JSON, Kind.LIST)]


class TaskForm(SeenMixin, ModelForm):
    """A change of a task: what is not changed is not written."""

    machine = ("remaining_attempts", "run_after", "is_complete", "output")
    input = StrictJSONField(required=False, help_text="Sent to the worker. JSON; empty for null.")
    output = StrictJSONField(
        required=False, help_text="Sent to the workers of its children. JSON; empty for null."
    )
    parents = IdsField(
        required=False,
        help_text="Ids of the tasks this one waits for, one a line. They must be in its group.",
    )

    class Meta:
        model = Task
        fields = tuple(field.column for field in OWN)
        help_texts = {field.column: field.words for field in OWN} | {
            "worker": "Appended to the base URL of the workers. Without one the task never runs.",
            "workgroup": "Tasks of one workgroup, in all groups, are held together when one of"
            " them is held: for what shares a rate limit.",
            "key": "Of the tasks of its group with one key, one runs and settles the others.",
            "error_delay_in_seconds": "The wait after a failed attempt, in seconds.",
            "priority": "-10 to 10; higher runs first among tasks that are due.",
            "run_after": "Not before this time. Empty for at once; in a change, for no change.",
            "is_paused": "No attempt of it starts until it is resumed.",
            "is_complete": "Counts as done, and its children may start.",
            "is_seed": "Kept when its group is reset, which deletes all other tasks. A group"
            " without seeds keeps all its tasks.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "run_after" in self.fields:
            self.fields["run_after"].required = False
        if "parents" in self.fields and not self.instance._state.adding:
            self.initial["parents"] = tuple(self._parent_ids())

    def stored(self) -> dict[str, Any]:
        row = Task.objects.values(*TaskForm.Meta.fields, "input", "output").get(pk=self.instance.pk)
        return dict(row) | {"parents": self._parent_ids()}

    def _parent_ids(self) -> list[str]:
        edges = ParentEdge.objects.filter(child=self.instance.pk).order_by("position")
        return list(edges.values_list("parent_id", flat=True))

    def clean(self) -> Any:
        """By the rules of the API."""
        for field in OWN:
            if field.kind in (Kind.TEXT, Kind.NUMBER) and field.column in self.cleaned_data:
                try:
                    value = field.reader()(self.cleaned_data[field.column])  # type: ignore[misc]
                    self.cleaned_data[field.column] = value
                except InvalidInputError as error:
                    self.add_error(field.column, str(error))
        return super().clean()

    def changes(self) -> dict[str, Any]:
        """What was changed, by the names that `edit.edit_task` knows."""
        changes = {name: self.cleaned_data[name] for name in self.touched()}
        if "parents" in changes:
            changes["parent_ids"] = changes.pop("parents")
        if changes.get("run_after", ...) is None:
            del changes["run_after"]  # an emptied time means "as it was"
        return changes


class NewTaskForm(NewIdMixin, TaskForm):
    class Meta:
        model = Task
        fields = ("group", *TaskForm.Meta.fields)
        help_texts = TaskForm.Meta.help_texts

    def wire(self) -> dict[str, Any]:
        """The task in the words of the API, for `create.create_tasks`."""
        given = self.cleaned_data
        due = given["run_after"]
        return {
            **{field.word: given[field.column] for field in OWN},
            "id": given["new_id"],
            "runAfter": due.isoformat() if due else None,
            "input": given["input"],
            "parentIds": list(given["parents"]),
        }


class WorkerForm(ModelForm):
    def clean_name(self) -> Any:
        return _rule(check_worker, self.cleaned_data["name"])


class HoldForm(ModelForm):
    """A workgroup comes to be by being held."""

    seconds = forms.IntegerField(
        min_value=0, max_value=366 * 86_400, initial=60, help_text="Hold it for so long from now."
    )

    def clean_name(self) -> Any:
        return _rule(read_text, self.cleaned_data["name"], "name")
