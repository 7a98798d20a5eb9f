"""`manage.py crewtoken`: make, list and revoke the tokens of programs that call the API."""

from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

from ... import audit
from ...access import tokens
from ...access.callers import SCOPES
from ...errors import CrewError
from ...models import Token
from ..base import CrewCommand


class Command(CrewCommand):
    help = "Make a token for the API and print it, this once; or list or revoke tokens."
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="what the new token is for")
        parser.add_argument(
            "--scope", action="append", default=[], choices=SCOPES, help="may be given again"
        )
        parser.add_argument("--days", type=float, help="how long it lives; without it, forever")
        parser.add_argument(
            "--group", action="append", metavar="ID", help="see this group only; may be given again"
        )
        parser.add_argument("--user", metavar="NAME", help="may do no more than this user may")
        parser.add_argument("--list", action="store_true", dest="listed", help="list all tokens")
        parser.add_argument(
            "--revoke", metavar="PREFIX_OR_ID", help="let a token open nothing from now on"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name, listed, revoked = options["name"], options["listed"], options["revoke"]
        if [name is not None, listed, revoked is not None].count(True) != 1:
            raise CommandError("give the name of a new token, or --list, or --revoke")
        given = [f"--{word}" for word in ("scope", "days", "group", "user") if options[word]]
        if name is None and given:
            raise CommandError(f"{', '.join(given)}: for new tokens only")
        if listed:
            self._list()
            return
        with audit.by(audit.at_shell().who):
            if revoked is not None:
                self._revoke(revoked)
            else:
                self._make(name, options)

    def _make(self, name: str, options: dict[str, Any]) -> None:
        days = options["days"]
        try:
            _, secret = tokens.issue(
                name=name,
                scopes=options["scope"],
                group_ids=options["group"],
                user=None if options["user"] is None else _user(options["user"]),
                lifetime=None if days is None else timedelta(days=days),
            )
        except (CrewError, OverflowError, ValueError) as error:
            raise CommandError(str(error)) from error
        # Alone on standard output, so that it can be put into a file or a variable.
        self.stderr.write("This is shown only now:")
        self.stdout.write(secret)

    def _list(self) -> None:
        for token in Token.objects.exclude(kind=Token.Kind.TICKET).order_by("pk"):
            self.stdout.write("  ".join(_cells(token)))

    def _revoke(self, given: str) -> None:
        which = {"pk": int(given)} if given.isdecimal() and len(given) < 19 else {"prefix": given}
        found = list(Token.objects.exclude(kind=Token.Kind.TICKET).filter(**which)[:2])
        if len(found) != 1:
            raise CommandError(f"{'no' if not found else 'more than one'} token is {given}")
        if not tokens.revoke(found[0]):
            raise CommandError(f"token {given} was revoked before")
        self.stdout.write(f"Revoked {found[0]}")


def _user(name: str) -> Any:
    users = get_user_model()
    user = users.objects.filter(**{users.USERNAME_FIELD: name}).first()
    if user is None:
        raise CommandError(f"there is no user {name}")
    return user


def _cells(token: Token) -> Sequence[str]:
    groups = "all groups" if token.group_ids is None else ",".join(token.group_ids)
    if token.revoked_at is not None:
        state = f"revoked {_day(token.revoked_at)}"
    else:
        state = f"expires {_day(token.expires_at)}"
    scopes = ",".join(token.scopes) or "its user's"
    used = f"last used {_day(token.last_used_at)}"
    return (str(token.pk), token.prefix, token.kind, scopes, groups, state, used, repr(token.name))


def _day(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d}"
