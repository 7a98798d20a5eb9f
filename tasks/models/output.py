"""Outputs that many tasks have in common: one row, to which each of them refers."""

from typing import Any
from uuid import uuid4

from django.db import models
from django.db.models.expressions import Col

# The same words are `sql.OUTPUT`; a test holds the two together.
READ = (
    "(CASE WHEN {0}.shared_output_id IS NULL OR {0}.output IS NOT NULL THEN {0}.output"
    " ELSE (SELECT value FROM crew_sharedoutput"
    " WHERE crew_sharedoutput.id = {0}.shared_output_id) END)"
)


class SharedOutput(models.Model):
    """A long output that the duplicates of a key got from the task that ran for them.

    Written once and never changed, in the transaction that writes all who refer to it: nobody
    joins later. So one that nobody refers to any more may go at any time (`prune.py`).
    """

    id = models.UUIDField(primary_key=True, default=uuid4)
    value = models.JSONField()

    class Meta:
        verbose_name = "shared output"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.pk)


class OutputField(models.JSONField):
    """A JSON column that is read through to the shared output, where its row refers to one.

    Every query of Django's goes this way: values, filters, deferred fields. To the migrations it
    is the JSON column that it is in the table.
    """

    def get_col(self, alias: Any, output_field: Any = None) -> Any:
        return _OutputCol(alias, self, output_field)

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs


class _OutputCol(Col):
    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return READ.format(compiler.quote_name_unless_alias(self.alias)), []
