"""What all commands share: what they cannot do is a sentence and exit code 1, no traceback."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error, connection

from ..sql.patience import is_refusal, refusal


class CrewCommand(BaseCommand):
    """`--traceback` shows where it came from."""

    def execute(self, *args: Any, **options: Any) -> Any:
        """With the checks before `handle`, which ask the database too."""
        try:
            return super().execute(*args, **options)
        except (Error, OSError) as error:
            raise CommandError(why(error)) from error


def why(error: Exception) -> str:
    """What went wrong outside of us, in a sentence."""
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror or error}"
    if is_refusal(error):
        return refusal(error)
    where = f" ({connection.settings_dict['NAME']})" if connection.vendor == "sqlite" else ""
    return f"The database cannot be used: {str(error).strip().partition(chr(10))[0]}{where}"
