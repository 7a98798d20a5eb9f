"""The settings of Crew, as variables of the environment say them."""

from collections.abc import Mapping
from typing import Any

from environs import Env

from tasks.conf import Setting


def variables(
    env: Env, settings: Mapping[str, Setting], better: Mapping[str, Any]
) -> dict[str, Any]:
    """A value of each setting that is a variable, which `better` or its default stands in for."""
    read = {str: env.str, int: env.int, float: env.float, bool: env.bool, list: env.list}
    return {
        name: read[setting.kind](name, better.get(name, setting.default))
        for name, setting in settings.items()
        if setting.is_variable
    }
