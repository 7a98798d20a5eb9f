"""`manage.py crewstatus`: how far a group is, once or until it is complete; and what is amiss."""

import shutil
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...errors import NotFoundError
from ...insight.troubles import troubles
from ...store.states import Progress, progress
from ..base import CrewCommand

NOT_COMPLETE = 3  # exit code
BAR = 30  # columns, at most


class Command(CrewCommand):
    help = (
        "Say how far a group is: a bar in a terminal, one line in a pipe."
        " Exits with 0 when all its tasks are complete, 3 when not, 1 when there is no such group."
        " Without a group: say what makes Crew slower or larger until somebody acts, and exit with"
        " 3 if there is anything. With one, that goes to the error output."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("group", nargs="?", help="id of the task group")
        parser.add_argument(
            "--watch", action="store_true", help="go on until it is complete, or Ctrl-C"
        )
        parser.add_argument("--interval", type=float, default=0.5, help="seconds between two looks")

    def handle(
        self, *args: Any, group: str | None, watch: bool, interval: float, **options: Any
    ) -> None:
        amiss = [str(trouble) for trouble in troubles()]
        if group is None:
            self.stdout.write("\n".join(amiss) or "Nothing is amiss.")
            sys.exit(NOT_COMPLETE if amiss else 0)
        for line in amiss:
            self.stderr.write(line, self.style.WARNING)
        try:
            now = self._watch(group, interval) if watch else self._show(group)
        except NotFoundError as error:
            raise CommandError(str(error)) from error
        if not now.is_complete:
            sys.exit(NOT_COMPLETE)

    def _show(self, group: str) -> Progress:
        now = progress(group)
        self.stdout.write(self._line(group, now))
        return now

    def _watch(self, group: str, interval: float) -> Progress:
        """Rewrite one line of a terminal; in a pipe write a line for every change."""
        now, shown = progress(group), ""
        try:
            while True:
                line = self._line(group, now)
                if self.stdout.isatty():
                    self.stdout.clear_line()
                    self.stdout.write(line, ending="")
                elif line != shown:
                    self.stdout.write(line)
                self.stdout.flush()
                shown = line
                if now.is_complete:
                    break
                time.sleep(interval)
                now = progress(group)
        except KeyboardInterrupt:
            pass  # what was seen last is the answer
        finally:
            if self.stdout.isatty():
                self.stdout.write("")
        return now

    def _line(self, group: str, now: Progress) -> str:
        if not self.stdout.isatty():
            return f"{group} {now}"
        return bar_line(str(now), now, columns=shutil.get_terminal_size().columns)


def bar_line(text: str, now: Progress, *, columns: int) -> str:
    """A bar and the text, never wider than the terminal: a wrapped line cannot be rewritten."""
    width = max(5, min(BAR, columns // 3))
    filled = width if now.is_complete else width * now.complete // max(1, now.total)
    return f"[{'#' * filled}{'-' * (width - filled)}] {text}"[: columns - 1]
