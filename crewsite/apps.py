"""The site as an app: it makes the roles by itself; a project that embeds Crew asks for them."""

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class SiteConfig(AppConfig):
    name = "crewsite"

    def ready(self) -> None:
        from .people import ensure_roles

        # Sent for `crew`, as this app has no models; Django makes the permissions before.
        post_migrate.connect(ensure_roles, sender=apps.get_app_config("crew"))
