"""What goes to workers and comes from them; long outputs that tasks have in common are one row."""

from json import JSONEncoder
from typing import Any
from uuid import uuid4

from django.db import models
from django.db.models.expressions import Col

from ..rules.jsonio import for_store, from_store

# The same words are `sql.OUTPUT`; a test holds the two together.
READ = (
    "(CASE WHEN {0}.shared_output_id IS NULL OR {0}.output IS NOT NULL THEN {0}.output"
    " ELSE (SELECT value FROM crew_sharedoutput"
    " WHERE crew_sharedoutput.id = {0}.shared_output_id) END)"
)


class _Encoder(JSONEncoder):
    def encode(self, o: Any) -> str:
        return for_store(super().encode(o))


class PayloadField(models.JSONField):
    """A JSON column whose numbers come back as they were stored.

    To the migrations it is the JSON column that it is in the table.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.encoder = _Encoder

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        text = from_store(value) if isinstance(value, str) else value
        return super().from_db_value(text, expression, connection)

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        del kwargs["encoder"]
        return name, "django.db.models.JSONField", args, kwargs


class SharedOutput(models.Model):
    """A long output that the duplicates of a key got from the task that ran for them.

    Written once and never changed, in the transaction that writes all who refer to it: nobody
    joins later. So one that nobody refers to any more may go at any time
    (`upkeep/expired_rows.py`).
    """

    id = models.UUIDField(primary_key=True, default=uuid4)
    value = PayloadField()

    class Meta:
        verbose_name = "shared output"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.pk)


class OutputField(PayloadField):
    """It is read through to the shared output, where its row refers to one.

    Every query of Django's goes this way: values, filters, deferred fields.
    """

    def get_col(self, alias: Any, output_field: Any = None) -> Any:
        return _OutputCol(alias, self, output_field)


class _OutputCol(Col):
    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return READ.format(compiler.quote_name_unless_alias(self.alias)), []
