"""The settings of Crew, as variables of the environment say them."""

from collections.abc import Mapping
from typing import Any

from tasks.conf import Setting

from .environment import Environment


def variables(
    env: Environment, settings: Mapping[str, Setting], better: Mapping[str, Any]
) -> dict[str, Any]:
    """A value of each setting that is a variable, which `better` or its default stands in for."""
    return {
        name: _read(env, name, setting, better.get(name, setting.default))
        for name, setting in settings.items()
        if setting.is_variable
    }


def _read(env: Environment, name: str, setting: Setting, default: Any) -> Any:
    if setting.kind is bool:
        return env.switch(name, default)
    if setting.kind is list:
        return env.words(name, default)
    if setting.kind is str:
        return env.text(name, default)
    read = env.whole if setting.kind is int else env.number
    return read(name, default, setting.wanted(), fits=setting.allows)
