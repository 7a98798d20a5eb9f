"""Fields that our forms declare themselves, in the clothes of the theme's own."""

from typing import Any

from django import forms
from django.conf import settings

_classes: dict[type[forms.Widget], list[str]] = {}
_boxes: Any = forms.CheckboxSelectMultiple

if "unfold" in settings.INSTALLED_APPS:
    from unfold import widgets

    _classes = {
        forms.TextInput: widgets.INPUT_CLASSES,
        forms.NumberInput: widgets.INPUT_CLASSES,
        forms.Textarea: widgets.TEXTAREA_CLASSES,
    }
    _boxes = widgets.UnfoldAdminCheckboxSelectMultipleWidget


def dress(form: Any) -> None:
    """Change the widgets of a form's class; those of model fields the theme has dressed itself."""
    for field in form.base_fields.values():
        if type(field.widget) is forms.CheckboxSelectMultiple:
            field.widget = _boxes(choices=field.choices)
        elif classes := _classes.get(type(field.widget)):
            field.widget.attrs.setdefault("class", " ".join(classes))
