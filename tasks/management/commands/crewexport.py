"""`manage.py crewexport`: groups into a file, for a backup or for another Crew."""

from argparse import ArgumentParser
from datetime import UTC, date, datetime
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError

from ...errors import CrewError
from ...upkeep import finished_groups
from ...upkeep.moves import out
from ...upkeep.moves.lines import Writer, writing
from ..base import CrewCommand, why


class Command(CrewCommand):
    help = (
        "Write groups with all they hold (tasks, parents, attempts, limits, holds, history) to a"
        " file that crewimport reads, as they are at one moment; the rest may go on. A task in"
        " flight is written as one that waits. Holds no tokens and no settings, but all inputs"
        " and outputs."
    )
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--group", nargs="+", metavar="ID", help="these groups")
        which.add_argument("--all", action="store_true", help="every group")
        which.add_argument(
            "--finished-before",
            type=moment,
            metavar="DATE",
            help="groups of which every task was complete before that day or time (UTC)",
        )
        parser.add_argument(
            "-o",
            "--output",
            default="-",
            metavar="FILE",
            help='*.gz is packed; "-", the default, is the standard output',
        )

    def handle(
        self,
        *args: Any,
        group: list[str] | None,
        finished_before: datetime | None,
        output: str,
        **options: Any,
    ) -> None:
        try:
            with out.snapshot():
                ids = group
                if finished_before is not None:
                    found = finished_groups.finished_before(finished_before)
                    ids = list(found.values_list("pk", flat=True))
                with writing(output) as file:
                    count = out.write(Writer(file), ids)
        except CrewError as error:
            raise CommandError(f"{output}: {error}") from error
        except (OSError, DatabaseError) as error:
            raise CommandError(f"{output}: {why(error)}") from error
        text = f"{count.groups} groups and {count.tasks} tasks written"
        (self.stderr if output == "-" else self.stdout).write(text)


def moment(text: str) -> datetime:
    """A day begins at midnight, UTC."""
    try:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    except ValueError:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
