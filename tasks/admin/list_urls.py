"""Reads the URLs of the admin: what is no filter of a list is left out, and told.

Django takes any lookup of a model's own fields from a URL: a pattern that never ends, a year that
no database knows, a text with a NUL.
"""

import re
from collections.abc import Callable, Collection, Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IS_FACETS_VAR, IS_POPUP_VAR, TO_FIELD_VAR
from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.views import main
from django.core.exceptions import ValidationError
from django.db.models import Field
from django.http import HttpRequest, HttpResponseRedirect, QueryDict

from ..rules import spelling
from ..rules.names import check_text

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = object

SEARCH_WORDS = 10
MOST_NAMED = 5  # names that are told at once
FIRST_YEAR, LAST_YEAR = 1900, 9000  # far from where a time zone leads out of the calendar
FLAGS = {"1", "0", "True", "False"}

# What every list of Django's takes, beside filters.
_ORDER = re.compile(r"(?:-?[0-9]{1,2}(?:\.-?[0-9]{1,2}){0,9})?")
_OWN: dict[str, Callable[[str], object]] = {
    main.PAGE_VAR: re.compile("[0-9]{1,9}").fullmatch,
    main.ORDER_VAR: _ORDER.fullmatch,
    main.SEARCH_VAR: lambda words: _is_text(words) and len(words.split()) <= SEARCH_WORDS,
    main.ALL_VAR: lambda value: _is_text(value),
    IS_POPUP_VAR: lambda value: value == "1",
    IS_FACETS_VAR: FLAGS.__contains__,
    TO_FIELD_VAR: lambda name: True,  # Django lists what may be in it
}


class ListedLookups(Base):
    """An admin that is asked for nothing but its own filters.

    `linked_by` names the lookups that our own links to the list use, `prefilled` the fields of the
    form for a new row that a link may fill.
    """

    linked_by: Collection[str] = ()
    prefilled: Collection[str] = ()

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        fits = _cleaned(request.GET, self._readers(request))
        left_out = [name for name in request.GET if name not in fits]
        if not left_out:
            return super().changelist_view(request, *args, **kwargs)
        if request.method != "GET":
            # An action on all that a filter names must not become one on all.
            raise DisallowedModelAdminLookup(f"no filter of this list: {left_out[0][:60]!r}")
        if named := [name for name in left_out if name != main.ERROR_FLAG]:
            names = ", ".join(spelling.shown(name) for name in named[:MOST_NAMED])
            self.message_user(request, f"This is no filter here: {names}", messages.WARNING)
        query = fits.urlencode()
        return HttpResponseRedirect(f"{request.path}?{query}" if query else request.path)

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        return lookup in self.linked_by or super().lookup_allowed(lookup, value, request)

    def get_object(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """None for what no database could even look for."""
        if "\0" in object_id:
            return None
        return super().get_object(request, object_id, *args, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        given: Any = super().get_changeform_initial_data(request)
        named = {name: str(given[name]) for name in self.prefilled if name in given}
        return {name: value for name, value in named.items() if "\0" not in value}

    def _readers(self, request: HttpRequest) -> dict[str, Callable[[str], object]]:
        """What says of each parameter whether its value can be; filters are asked when needed."""
        readers = dict(_OWN)
        if request.GET.keys() == {main.ERROR_FLAG}:
            readers[main.ERROR_FLAG] = bool
        if request.GET.keys() - readers.keys():
            readers.update(self._filters(request))
            readers.update((path, _reader(self.model, path)) for path in self.linked_by)
        return readers

    def _filters(self, request: HttpRequest) -> Iterator[tuple[str, Callable[[str], object]]]:
        """The parameters of the list's filters."""
        for one in self.get_list_filter(request):
            path, kind = one if isinstance(one, list | tuple) else (one, None)
            if callable(path):
                simple: Any = path(request, {}, self.model, self)
                yield from ((name, _is_text) for name in simple.expected_parameters())
                continue
            field = get_fields_from_path(self.model, str(path))[-1]
            make: Any = kind or admin.FieldListFilter.create
            made = make(field, request, {}, self.model, self, field_path=path)
            names = {str(path), f"{path}__exact", *made.expected_parameters()}
            yield from ((name, _reader(self.model, name)) for name in names)


def _cleaned(given: QueryDict, readers: dict[str, Callable[[str], object]]) -> QueryDict:
    """What is known, comes once and has a value that can be."""
    fits = QueryDict(mutable=True)
    for name, values in given.lists():
        if name in readers and len(values) == 1 and readers[name](values[0]):
            fits[name] = values[0]
    return fits


def _reader(model: Any, parameter: str) -> Callable[[str], object]:
    """Whether a value can be one of the field that the parameter leads to."""
    path, _, lookup = parameter.rpartition("__")
    if lookup == "isnull":
        return FLAGS.__contains__
    is_lookup = lookup in ("exact", "gte", "lt")
    field = get_fields_from_path(model, path if is_lookup else parameter)[-1]
    return lambda value: _is_text(value) and _is_of(field, value)


def _is_of(field: Any, value: str) -> bool:
    if not isinstance(field, Field):
        return True
    try:
        read = field.clean(value, None)
    except ValidationError:
        return False
    return not isinstance(read, date) or FIRST_YEAR <= read.year < LAST_YEAR


def _is_text(value: str) -> bool:
    try:
        check_text(value, "value")
    except ValueError:
        return False
    return True
