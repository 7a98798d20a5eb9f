"""Sessions in the database, as Django's own; what can be no key is not looked for."""

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    def _validate_session_key(self, key: str) -> bool:
        """A cookie may hold a NUL, and PostgreSQL could not even look for it."""
        return bool(super()._validate_session_key(key)) and key.isascii() and key.isalnum()
