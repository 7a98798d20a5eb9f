"""Processes of `manage.py`, each forked from one that has imported everything already.

    python -m tests.chaos.nursery LOG runscheduler

For each line on stdin it forks a child that runs the command, and writes `started PID`, then
`ended CODE` when it is gone. A start costs some milliseconds then, not a second of imports; the
children share nothing that lives: no connection, no thread, no random state.
"""

import io
import os
import sys

import django
from django.core.management import call_command, execute_from_command_line

from .fleet import die_with_parent


def main(log: str, *command: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "crewsite.settings"
    django.setup()
    call_command("check", stdout=io.StringIO())  # what each start looks at, and so imports
    from tasks.management.commands import runscheduler  # noqa: F401

    for _ in sys.stdin:
        child = os.fork()
        if not child:
            _become(log, command)
        print(f"started {child}", flush=True)
        _, status = os.waitpid(child, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)


def _become(log: str, command: tuple[str, ...]) -> None:
    """Be the process that a shell would have started; never return."""
    die_with_parent()
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    code = 1
    try:
        execute_from_command_line(["manage.py", *command])
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:  # noqa: BLE001  as the interpreter does
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
