#!/usr/bin/env python
"""Django's command line for the Crew site."""

import sys


def main() -> None:
    from crewsite.environment import choose_settings

    choose_settings()
    from django.core.management import execute_from_command_line
    from django.db import Error

    from tasks.management.base import why
    from tasks.redact import one_line

    try:
        execute_from_command_line(sys.argv)
    except Error as error:  # of Django's own commands; ours say it themselves
        if "--traceback" in sys.argv:
            raise
        sys.exit(one_line(f"{sys.argv[1]}: {why(error)}"))


if __name__ == "__main__":
    main()
