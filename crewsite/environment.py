"""Reads variables of the environment: a wrong one is a line that names it, in whatever starts."""

import os
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from environs import Env, EnvError

ENGINES = {"django.db.backends.postgresql", "django.db.backends.sqlite3"}
SWITCH = "on or off: 1 or 0, true or false"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[A-Za-z0-9*._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_REDIS = re.compile(r"(?:redis|rediss)://\S+|unix:///\S+")


def choose_settings() -> None:
    """Those of the site, or the module that is named. Ends the process if there is none."""
    name = os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crewsite.settings")
    try:
        found = find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        sys.exit(f"DJANGO_SETTINGS_MODULE must be a module of settings, not {name[:60]!r}")


def _is_database(given: dict[str, Any]) -> bool:
    is_named = given.get("NAME") or "service" in given.get("OPTIONS", {})
    return given.get("ENGINE") in ENGINES and bool(is_named)


class Environment:
    """What is wrong is kept until `refuse_wrong`, and its default stands in meanwhile."""

    def __init__(self) -> None:
        self._env = Env()
        self.wrong: dict[str, str] = {}

    def read_file(self, path: Any) -> None:
        """As if what stands in the file were in the environment, which goes before."""
        try:
            self._env.read_env(str(path), recurse=False)
        except (OSError, UnicodeError) as error:
            self.wrong[str(path)] = f"{path} cannot be read: {error}"

    def text(self, name: str, default: Any = "", **rule: Any) -> Any:
        return self._read(self._env.str, name, default, **rule)

    def switch(self, name: str, default: bool) -> Any:
        return self._read(self._env.bool, name, default, wanted=SWITCH)

    def whole(self, name: str, default: Any, wanted: str = "a whole number", **rule: Any) -> Any:
        return self._read(self._env.int, name, default, wanted=wanted, **rule)

    def number(self, name: str, default: Any, wanted: str = "a number", **rule: Any) -> Any:
        return self._read(self._env.float, name, default, wanted=wanted, **rule)

    def words(self, name: str, default: Any, **rule: Any) -> Any:
        """Texts with commas between them."""

        def split(name: str, default: Any) -> list[str]:
            return [each.strip() for each in self._env.list(name, default) if each.strip()]

        return self._read(split, name, default, **rule)

    def origins(self, name: str, *, also: str = "") -> Any:
        return self.words(
            name,
            [],
            fits=lambda given: all(one == also or _ORIGIN.fullmatch(one) for one in given),
            wanted="origins with commas between them, such as https://ui.example",
        )

    def database(self, name: str, default: str) -> Any:
        return self._read(
            self._env.dj_db_url,
            name,
            default,
            fits=_is_database,
            wanted="postgresql://USER:PASSWORD@HOST/NAME or sqlite:///FILE",
            is_secret=True,
        )

    def redis(self, name: str) -> Any:
        return self.text(
            name,
            fits=lambda given: not given or _REDIS.fullmatch(given),
            wanted="redis://HOST:PORT/NUMBER, rediss://… or unix:///…",
            is_secret=True,
        )

    def refuse_wrong(self) -> None:
        """End the process if anything was wrong, with a line for each."""
        if self.wrong:
            sys.exit("\n".join(self.wrong.values()))

    def _read(
        self,
        read: Callable[[str, Any], Any],
        name: str,
        default: Any,
        *,
        fits: Callable[[Any], Any] = lambda given: True,
        wanted: str = "",
        is_secret: bool = False,
    ) -> Any:
        if name not in os.environ:
            return read(name, default)
        try:
            value = read(name, default)
            if fits(value):
                return value
        except (EnvError, ValueError):
            pass
        shown = "" if is_secret else f", not {os.environ[name][:60]!r}"
        self.wrong[name] = f"{name} must be {wanted}{shown}"
        del os.environ[name]
        return read(name, default)
