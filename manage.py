#!/usr/bin/env python
"""Django's command line for the Crew site."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crewsite.settings")
    from django.core.management import execute_from_command_line
    from django.db import Error

    from tasks.management.base import why

    try:
        execute_from_command_line(sys.argv)
    except Error as error:  # of Django's own commands; ours say it themselves
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"{sys.argv[1]}: {why(error)}")


if __name__ == "__main__":
    main()
