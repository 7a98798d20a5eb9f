"""The app: label `crew`, so that its tables never collide with an app named `tasks`."""

from django.apps import AppConfig


class CrewConfig(AppConfig):
    name = __name__.rpartition(".")[0]
    label = "crew"
    verbose_name = "Crew"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from .checks import settings  # noqa: F401  registers the system checks
        from .live import lost_rights
        from .sql import patience

        lost_rights.connect()
        patience.greet_sessions()
