"""Ends a server that would start with wrong settings: it imports the site without Django's checks,
which commands run."""

import sys

from tasks.checks.settings import check_settings


def refuse_wrong_settings() -> None:
    """End the process with a line for each error."""
    wrong = [found for found in check_settings(None) if found.is_serious()]
    lines = [f"{found.msg} {found.hint}" for found in wrong if not found.is_silenced()]
    if lines:
        sys.exit("\n".join(lines))
