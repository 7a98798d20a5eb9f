"""`manage.py crewimport`: tasks from a JSON file, in the words of the API, whole or not at all."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import create
from ...errors import CrewError
from ...jsonio import JSONError, read
from ...spec import read_bool, read_id, read_text

MAX_BYTES = 64 * 1024 * 1024
MAX_VALUES = 5_000_000  # in the whole file; the default of the reader is meant for requests


class Command(BaseCommand):
    help = (
        'Create a task group from a JSON file: {"id", "name", "isPaused", "tasks": [...]}, or add'
        " a list of tasks to an existing group (--group). The fields of a task are those of the"
        " API. Prints the group's id and the number of tasks; after an error nothing is stored."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help='JSON file; "-" reads the standard input')
        parser.add_argument("--group", default="", help="add a list of tasks to this group")
        parser.add_argument(
            "--max-bytes", type=int, default=MAX_BYTES, help="refuse larger files (64 MiB)"
        )

    def handle(self, *args: Any, file: str, group: str, max_bytes: int, **options: Any) -> None:
        try:
            data = read(_bytes(file, max_bytes), max_bytes=max_bytes, max_nodes=MAX_VALUES).value
            group_id, count = _add(data, group) if group else _make(data)
        except (JSONError, OSError, CrewError) as error:
            raise CommandError(f"{file}: {error}") from error
        self.stdout.write(f"{group_id} {count} {'task' if count == 1 else 'tasks'}")


def _bytes(file: str, max_bytes: int) -> bytes:
    """One byte more than allowed at most: the reader says that it is too much."""
    if file == "-":
        return sys.stdin.buffer.read(max_bytes + 1)
    with open(file, "rb") as source:
        return source.read(max_bytes + 1)


def _make(data: object) -> tuple[str, int]:
    if isinstance(data, list):
        raise CommandError("A list of tasks needs --group, the id of the group to add them to.")
    if not isinstance(data, dict):
        raise CommandError("The file must hold an object, or a list of tasks with --group.")
    tasks = _tasks(data.get("tasks", []))
    group = create.create_group(
        id=read_id(data.get("id")),
        name=read_text(data.get("name"), "name"),
        is_paused=read_bool(data.get("isPaused"), "isPaused"),
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
