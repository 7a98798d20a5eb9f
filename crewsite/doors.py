"""Tells whoever opens the admin what stands open."""

from typing import Any

from django.http import HttpRequest

from tasks.checks.logins import open_doors


def banners(request: HttpRequest) -> dict[str, Any]:
    """A context processor."""
    return {"crew_open_doors": open_doors()}
