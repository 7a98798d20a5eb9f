"""`manage.py crewprune`: delete what is finished and old."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...conf import MOST_DAYS, conf
from ...redact import one_line
from ...upkeep import finished_groups
from ..base import CrewCommand


class Command(CrewCommand):
    help = (
        "Delete groups of which every task is complete, and was so --days ago, oldest first, some"
        " tasks at a time. Schedulers do it by themselves when CREW_KEEP_DAYS is set."
    )
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=float, help="the default is CREW_KEEP_DAYS")
        parser.add_argument("--seconds", type=float, default=60.0, help="stop after so long (60)")
        parser.add_argument("--dry-run", action="store_true", help="say what would go")

    def handle(
        self, *args: Any, days: float | None, seconds: float, dry_run: bool, **options: Any
    ) -> None:
        days = conf.CREW_KEEP_DAYS if days is None else days
        if days is None or not 0 <= days <= MOST_DAYS:
            raise CommandError(f"name --days, 0 to {MOST_DAYS}, or set CREW_KEEP_DAYS")
        if dry_run:
            for group_id, name, count in finished_groups.finished(days).values_list(
                "pk", "name", "task_count"
            ):
                self.stdout.write(one_line(f"{group_id} {name}: {count} tasks"))
            return
        groups, tasks = finished_groups.prune_groups(days, seconds=seconds)
        self.stdout.write(f"{groups} groups and {tasks} tasks deleted")
        if finished_groups.finished(days).exists():
            self.stdout.write(
                "Not all: the time is over, or another process is at it. Run it again for the rest"
            )
