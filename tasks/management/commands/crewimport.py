"""`manage.py crewimport`: groups come in, from an export, a file of one's own, or the old Crew."""

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import IO, Any

from django.core.management.base import CommandError
from django.db import DatabaseError, transaction

from ... import audit, create
from ...errors import CrewError
from ...redact import one_line
from ...rules import spelling
from ...rules.jsonio import JSONError, read, safe_text
from ...rules.spec import read_bool, read_id, read_text, read_time
from ...upkeep.moves import exported, old_crew
from ...upkeep.moves.exported import Imported
from ...upkeep.moves.into import Existing, How
from ...upkeep.moves.lines import HEAD, Lines, reading
from ...upkeep.moves.old_store import PREFIX
from ..base import CrewCommand, why

MAX_BYTES = 64 * 1024 * 1024
GROUP = ("id", "name", "createdAt", "isPaused", "tasks")
MAX_VALUES = 5_000_000  # in the whole file; the default of the reader is meant for requests


class Command(CrewCommand):
    help = (
        "Bring groups in: the file of a crewexport, of any size, packed or not; the Redis of an"
        " old Crew, which is to be stopped first (--redis); or a JSON file of your own,"
        ' {"id", "name", "isPaused", "createdAt", "tasks": [...]}, its tasks in the words of the'
        " API, or a list of tasks for an existing group (--group). Each group is stored whole or"
        " not at all. Prints the groups' ids and numbers of tasks."
    )
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", nargs="?", help='an export or a JSON file; "-" reads the standard input'
        )
        parser.add_argument("--redis", metavar="URL", help="the database of an old Crew")
        parser.add_argument("--prefix", default=PREFIX, help=f"of its keys ({PREFIX})")
        parser.add_argument("--dry-run", action="store_true", help="check all, store nothing")
        known = parser.add_mutually_exclusive_group()
        known.add_argument(
            "--skip-existing", action="store_true", help="leave groups alone whose ids are in use"
        )
        known.add_argument(
            "--replace", action="store_true", help="delete groups whose ids are in use, first"
        )
        known.add_argument(
            "--rename-suffix",
            default="",
            metavar="SUFFIX",
            help="append this to the ids of groups and tasks, as for a copy",
        )
        parser.add_argument("--group", default="", help="add a list of tasks to this group")
        parser.add_argument(
            "--max-bytes", type=int, default=MAX_BYTES, help="refuse larger JSON files (64 MiB)"
        )

    def handle(self, *args: Any, file: str | None, redis: str | None, **options: Any) -> None:
        if (file is None) == (redis is None):
            raise CommandError("Name a file, or --redis.")
        if redis is None and options["prefix"] != PREFIX:
            raise CommandError("--prefix goes with --redis.")
        try:
            with audit.by(audit.at_shell().who):
                if redis is not None:
                    self._old_crew(redis, options)
                else:
                    self._file(str(file), options)
        except (JSONError, CrewError) as error:
            raise CommandError(f"{file or 'redis'}: {error}") from error
        except (OSError, DatabaseError) as error:
            raise CommandError(f"{file or 'redis'}: {why(error)}") from error
        if options["dry_run"]:
            self.stdout.write("Dry run: nothing is stored")

    def _old_crew(self, url: str, options: dict[str, Any]) -> None:
        groups = tasks = amiss = 0
        with _redis(url) as client:
            for imported in old_crew.bring_in(
                client, _how("redis", options), prefix=options["prefix"]
            ):
                if isinstance(imported, Imported):
                    self._show(imported)
                    groups += imported.is_stored
                    tasks += imported.tasks if imported.is_stored else 0
                else:
                    amiss += 1
                    self.stdout.write(one_line(f"! {imported.what}: {imported.why}"))
        self.stdout.write(f"{groups} groups and {tasks} tasks came over; {amiss} things amiss")

    def _file(self, file: str, options: dict[str, Any]) -> None:
        with reading(file) as (head, source):
            if head == HEAD:
                for imported in exported.bring_in(Lines(source, head), _how(file, options)):
                    self._show(imported)
            else:
                self._json(head, source, options)

    def _show(self, imported: Imported) -> None:
        end = "" if imported.is_stored else ", left alone: its id is in use"
        self.stdout.write(_said(imported.group_id, imported.tasks) + end)

    def _json(self, head: bytes, source: IO[bytes], options: dict[str, Any]) -> None:
        if options["skip_existing"] or options["replace"] or options["rename_suffix"]:
            raise CommandError("This is no export: what to do with ids in use is said for those.")
        most, group = options["max_bytes"], options["group"]
        # One byte more than allowed at most: the reader says that it is too much.
        data = head + source.read(max(0, most + 1 - len(head)))
        value = read(data, max_bytes=most, max_nodes=MAX_VALUES).value
        with transaction.atomic():
            group_id, count = _add(value, group) if group else _make(value)
            transaction.set_rollback(options["dry_run"])
        self.stdout.write(_said(group_id, count))


@contextmanager
def _redis(url: str) -> Iterator[Any]:
    """A client; its errors are CommandErrors, and never say the password."""
    try:
        import redis
    except ImportError as error:
        raise CommandError("Install redis to read from one.") from error
    try:
        client = redis.Redis.from_url(url, socket_timeout=60)
    except ValueError as error:
        raise CommandError(f"--redis: {error}") from error
    try:
        with client:
            yield client
    except redis.RedisError as error:
        raise CommandError(f"redis: {error}") from error


def _how(file: str, options: dict[str, Any]) -> How:
    if options["group"]:
        raise CommandError("An export brings its own groups: --group is for a list of tasks.")
    existing = Existing.SKIP if options["skip_existing"] else Existing.REFUSE
    return How(
        origin=safe_text(PurePath(file).name, 200),
        existing=Existing.REPLACE if options["replace"] else existing,
        suffix=options["rename_suffix"],
        dry_run=options["dry_run"],
    )


def _said(group_id: str, count: int) -> str:
    return f"{one_line(group_id)} {count} {'task' if count == 1 else 'tasks'}"


def _make(data: object) -> tuple[str, int]:
    if isinstance(data, list):
        raise CommandError("A list of tasks needs --group, the id of the group to add them to.")
    if not isinstance(data, dict):
        raise CommandError("The file must hold an object, or a list of tasks with --group.")
    for name in spelling.unknown(data, GROUP):
        spelling.refuse("field", name, GROUP)
    tasks = _tasks(data.get("tasks", []))
    group = create.create_group(
        id=read_id(data.get("id")),
        name=read_text(data.get("name"), "name"),
        is_paused=read_bool(data.get("isPaused"), "isPaused"),
        created_at=read_time(data.get("createdAt"), "createdAt"),
        tasks=tasks,
    )
    return group.pk, len(tasks)


def _add(data: object, group: str) -> tuple[str, int]:
    if not isinstance(data, list):
        raise CommandError("With --group the file must hold a list of tasks.")
    return group, len(create.create_tasks(group, _tasks(data)))


def _tasks(tasks: object) -> list[Any]:
    if not isinstance(tasks, list):
        raise CommandError('"tasks" must be a list.')
    return tasks
