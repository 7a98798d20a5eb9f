"""`manage.py crewroles`: make the roles of Crew, as groups that people can be put into."""

from typing import Any

from django.core.management.base import CommandError

from ...access import roles
from ...errors import CrewError
from ..base import CrewCommand


class Command(CrewCommand):
    help = (
        f"Make the groups {', '.join(roles.ROLES)}, or set their permissions on Crew back to what"
        " the roles mean. Their other permissions and their members stay."
    )
    requires_migrations_checks = True

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            changed = roles.ensure()
        except CrewError as error:
            raise CommandError(str(error)) from error
        for name in roles.ROLES:
            self.stdout.write(f"{name}: {'set' if name in changed else 'as it should be'}")
