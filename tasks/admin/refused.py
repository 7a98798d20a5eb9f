"""What a verb or the database refuses, said in one sentence; nothing was changed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db import Error
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect

from ..errors import CrewError
from ..rules import names
from ..sql.patience import is_outage, is_refusal, refusal

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = object

# Some of these are shown; the others are faults of ours.
_NO_LINES = (forms.Textarea, forms.HiddenInput, forms.PasswordInput)
REFUSALS = (CrewError, Error, UnicodeEncodeError)


class RefusalsShown(Base):
    """An admin that says on the page what was refused, beside what was typed."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """What is refused becomes an error of the form, which is shown as it was sent."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except REFUSALS as error:
            if request.method != "POST":
                raise
            request.crew_refusal = in_words(error)  # type: ignore[attr-defined]
            return super().changeform_view(request, *args, **kwargs)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        _refuse_control(form)
        if words := getattr(request, "crew_refusal", ""):
            form.refusal, form.clean = words, _refusing(form.clean, words)
        return form

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self.showing_refusals(request, super().delete_view, request, *args, **kwargs)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> Any:
        return self.showing_refusals(request, super().response_action, request, queryset, *args)

    def showing_refusals(
        self, request: HttpRequest, view: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        try:
            return view(*args, **kwargs)
        except REFUSALS as error:
            if request.method != "POST":
                raise
            self.message_user(request, in_words(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())


def in_words(error: Exception) -> str:
    """An error of `REFUSALS` in words for people; raises it if it is none of theirs."""
    if isinstance(error, CrewError):
        return str(error)
    if is_outage(error):
        # A deadlock or a busy database is nobody's fault: they may try again.
        return "The database is busy; nothing was changed. Try again."
    if is_refusal(error):
        return f"Nothing was changed: {refusal(error)}"
    if isinstance(error, UnicodeEncodeError):
        return "Nothing was changed: there is a character in it that the database does not take."
    raise error


def _refuse_control(form: Any) -> None:
    """No line of a form takes what a terminal would obey, whoever's form it is."""
    for field in form.base_fields.values():
        is_line = isinstance(field, forms.CharField) and type(field.widget) not in _NO_LINES
        if is_line and _visible not in field.validators:
            field.validators = [*field.validators, _visible]


def _visible(text: str) -> None:
    if names.NO_NAME.search(text):
        raise forms.ValidationError("It holds a control character.")


def _refusing(clean: Callable[[Any], Any], words: str) -> Callable[[Any], Any]:
    def refuse(form: forms.BaseForm) -> None:
        clean(form)
        raise forms.ValidationError(words)

    return refuse
