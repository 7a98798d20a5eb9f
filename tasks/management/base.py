"""What all commands share: what they cannot do is a sentence and exit code 1, no traceback."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.core.management.base import SystemCheckError as Unfit
from django.db import Error, connection

from ..redact import one_line
from ..sql import on_sqlite
from ..sql.patience import is_refusal, refusal

CLEAR_LINE = "\r\x1b[K"


class Terminal(OutputWrapper):
    """Where a command writes: what others called their groups must not steer a terminal.

    Line breaks stay; a word that may hold one goes through `one_line` before.
    """

    def write(  # type: ignore[override]  # as Django's own
        self, msg: str = "", style_func: Any = None, ending: str | None = None
    ) -> None:
        lines = str(msg).split("\n")
        super().write("\n".join(map(one_line, lines)), style_func, ending)

    def clear_line(self) -> None:
        """Back to the start of the line, of a terminal."""
        stream: Any = self._out
        stream.write(CLEAR_LINE)


class CrewCommand(BaseCommand):
    """`--traceback` shows where it came from."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Wherever Django lets it write, also for who calls it from code."""
        if name in ("stdout", "stderr"):
            value = Terminal(value._out)
        super().__setattr__(name, value)

    def execute(self, *args: Any, **options: Any) -> Any:
        """With the checks before `handle`, which ask the database too."""
        try:
            return super().execute(*args, **options)
        except Unfit:
            raise
        except CommandError as error:
            raise CommandError(one_line(str(error)), returncode=error.returncode) from error
        except (Error, OSError) as error:
            raise CommandError(why(error)) from error


def why(error: Exception) -> str:
    """What went wrong outside of us, in a sentence."""
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror or error}"
    if is_refusal(error):
        return refusal(error)
    where = f" ({connection.settings_dict['NAME']})" if on_sqlite() else ""
    return f"The database cannot be used: {str(error).strip().partition(chr(10))[0]}{where}"
