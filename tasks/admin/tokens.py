"""Tokens in the admin: made with a secret that is shown once, revoked, never edited."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers

from ..access import tokens
from ..access.callers import SCOPES, UserScopes
from ..audit import Kind
from ..models import Token
from .base import CrewAdmin, plural
from .forms import IdsField, ModelForm

_SHOWN = (
    "kind",
    "scopes_shown",
    "groups_shown",
    "user",
    "expires_at",
    "last_used_at",
    "revoked_at",
)


class NewTokenForm(ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES], widget=forms.CheckboxSelectMultiple
    )
    groups = IdsField(
        required=False, help_text="Ids of the only groups it may see, one a line; empty for all."
    )
    days = forms.IntegerField(
        required=False, min_value=1, max_value=36_500, help_text="It expires then; empty for never."
    )

    class Meta:
        model = Token
        fields = ("name", "user")
        help_texts = {"user": "With a user the token may do only what the user may, too."}


class RenameForm(ModelForm):
    class Meta:
        model = Token
        fields = ("name",)


@admin.register(Token)
class TokenAdmin(CrewAdmin):
    kind, audited = Kind.TOKEN, ("edit", "delete")
    list_display = ("name", "prefix", *_SHOWN)
    list_filter = ("kind",)
    list_select_related = ("user",)
    search_fields = ("name__startswith", "prefix__startswith")
    ordering = ("-id",)
    raw_id_fields = ("user",)
    actions = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Token]:
        """Tickets live for a minute and would only hide the rest."""
        rows: QuerySet[Token] = super().get_queryset(request)
        return rows.exclude(kind=Token.Kind.TICKET)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        kwargs["form"] = RenameForm if obj else NewTokenForm
        form = super().get_form(request, obj, change, **kwargs)
        if obj is None:
            # Nobody gives what they do not have.
            given = [(scope, scope) for scope in UserScopes(request.user)]
            form.base_fields["scopes"].choices = given
        return form

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None:
            return ("name", "prefix", *_SHOWN, "created_at")
        fields = ("name", "scopes", "groups", "days")
        return (*fields, "user") if _is_superuser(request) else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("prefix", *_SHOWN, "created_at") if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            Token.objects.filter(pk=obj.pk).update(name=obj.name)
            return
        given = form.cleaned_data
        token, secret = tokens.issue(
            name=given["name"],
            scopes=given["scopes"],
            group_ids=given["groups"] or None,
            user=given["user"] if _is_superuser(request) else request.user,
            lifetime=timedelta(days=given["days"]) if given["days"] else None,
        )
        obj.pk = token.pk
        obj.secret = secret

    def response_add(self, request: HttpRequest, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """The secret, on the page that answers the form: a message would be kept in a cookie."""
        context = self.admin_site.each_context(request) | {
            "title": "Your new token",
            "opts": self.opts,
            "token": obj,
            "secret": obj.secret,
        }
        page = TemplateResponse(request, "crew/admin/new_token.html", context)
        add_never_cache_headers(page)  # not even for the way back
        return page

    @admin.action(description="Revoke selected tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Token]) -> None:
        _, revoked = self.each(request, queryset, tokens.revoke)
        self.message_user(request, f"Revoked {plural(revoked, 'token')}.", messages.SUCCESS)

    @admin.display(description="scopes")
    def scopes_shown(self, token: Token) -> str:
        return ", ".join(token.scopes) or "its user's"

    @admin.display(description="groups")
    def groups_shown(self, token: Token) -> str:
        return "all" if token.group_ids is None else ", ".join(token.group_ids)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))
