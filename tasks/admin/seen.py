"""Nobody saves over what somebody else changed since the form was shown (two open forms, M4).

A form carries what it was shown, as a short print of each field. What the person did not touch is
not written; what was changed by another person meanwhile, or touched by both, is refused.
"""

import hashlib
import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

from django import forms

from ..errors import ConflictError
from ..rules.jsonio import dump


class SeenMixin(forms.Form):
    """For a model's form. `machine` names the fields that Crew writes as well."""

    instance: Any
    refusal = ""  # what a verb or the database said to the form as it was sent
    machine: Collection[str] = ()
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            del self.fields["seen"]
            return
        self.fields["seen"].initial = json.dumps(_prints(self.stored()))
        if self.refusal and self.is_bound:
            # What is shown now was seen: saving again means it.
            data: Any = self.data
            data = data.copy()
            data[self.add_prefix("seen")] = self.fields["seen"].initial
            self.data = data

    def stored(self) -> dict[str, Any]:
        """The fields as they are in the database."""
        raise NotImplementedError

    def touched(self) -> list[str]:
        """The fields that the person changed from what the form had shown."""
        shown = self._shown()
        if not shown:
            return [name for name in self.changed_data if name != "seen"]
        return [
            name
            for name in self.fields
            if name in shown and _print(self.cleaned_data[name]) != shown[name]
        ]

    def refuse_stale(self) -> None:
        """Raise ConflictError for what was changed meanwhile; for a transaction that holds it."""
        shown, now = self._shown(), _prints(self.stored())
        touched = self.touched()
        stale = [
            name
            for name in self.fields
            if name in shown
            and now.get(name) != shown[name]
            and (name in touched or name not in self.machine)
            and now.get(name) != _print(self.cleaned_data[name])
        ]
        if stale:
            words = ", ".join(str(self.fields[name].label or name).lower() for name in stale)
            raise ConflictError(
                f"changed meanwhile: {words}. Nothing was saved. Open the page again to see what is"
                " there; saving again writes what stands in this form over it"
            )

    def _shown(self) -> dict[str, str]:
        try:
            shown = json.loads(self.cleaned_data.get("seen") or "{}")
        except ValueError:
            shown = {}
        return shown if isinstance(shown, dict) else {}


def _prints(values: dict[str, Any]) -> dict[str, str]:
    return {name: _print(value) for name, value in values.items()}


def _print(value: Any) -> str:
    if isinstance(value, datetime):
        # Forms show no fractions of a second.
        value = int(value.timestamp())
    return hashlib.sha256(dump(value).encode()).hexdigest()[:12]
