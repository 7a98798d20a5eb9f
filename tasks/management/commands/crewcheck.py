"""`manage.py crewcheck`: whether the rows keep to the rules, and how to bring them back."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ... import audit
from ...engine.repair import REPAIRABLE, repair
from ...upkeep.invariants import INVARIANTS, QUIET, Invariant
from ..base import CrewCommand

SHOWN = 10  # ids of what breaks a rule


class Command(CrewCommand):
    help = (
        "Check what must always be true of groups, tasks, edges, leases and attempts. May run at"
        " any time. Exits with 1 when anything is wrong."
    )
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--repair", action="store_true", help="repair what can be derived, then check again"
        )
        parser.add_argument(
            "--quiet-system",
            action="store_true",
            help="nothing else should be going on: also warn of ready tasks that nobody takes",
        )

    def handle(
        self, *args: Any, repair: bool = False, quiet_system: bool = False, **options: Any
    ) -> None:
        invariants = [*INVARIANTS, QUIET] if quiet_system else list(INVARIANTS)
        broken = self._check(invariants)
        if broken and repair:
            self._repair(broken)
            broken = self._check(invariants)
        if broken:
            raise CommandError(f"broken: {', '.join(sorted(broken))}")

    def _check(self, invariants: list[Invariant]) -> set[str]:
        """Say how each fares; return the names of those that are broken, warnings not."""
        broken = set()
        for invariant in invariants:
            ids = invariant.find()
            if not ids:
                self.stdout.write(f"ok {invariant.name}")
                continue
            word = "WARNING" if invariant.is_warning else "BROKEN"
            self.stdout.write(f"{word} {invariant.name}: {invariant.sentence} {_shown(ids)}")
            if not invariant.is_warning:
                broken.add(invariant.name)
        return broken

    def _repair(self, broken: set[str]) -> None:
        for name in REPAIRABLE:
            # What is dropped may change what is counted: the counters are looked at in any case.
            if name in broken or name in ("pending_parents", "task_count"):
                count = repair(name)
                if count:
                    audit.record_harmless(audit.at_shell(), "repair", rule=name, count=count)
                    self.stdout.write(f"repaired {name}: {count}")
        for name in sorted(broken - set(REPAIRABLE)):
            self.stdout.write(f"cannot repair {name}: someone must look")


def _shown(ids: list[str]) -> str:
    more = ", ..." if len(ids) > SHOWN else ""
    return f"{len(ids)} found: {', '.join(ids[:SHOWN])}{more}"
