"""The columns of a task that are stored as they were sent, as pieces of statements.

A batch of tasks is a JSON parameter of objects with these names: `n` is its row on PostgreSQL, `v`
its object on SQLite.
"""

from ..rules.spec import PLAIN, Kind, TaskField

COLUMNS = ", ".join(field.column for field in PLAIN)
# The columns of a record, for `jsonb_to_recordset`.
RECORD = ", ".join(f"{field.column} {field.kind.value}" for field in PLAIN)


def given(vendor: str) -> str:
    """The values of `COLUMNS` in a batch."""
    return ", ".join(_given(field, vendor) for field in PLAIN)


def child_set(vendor: str) -> str:
    """What gives a task that is there what a new answer says of it."""
    fields = (field for field in PLAIN if field.is_for_children)
    return ", ".join(f"{field.column} = {_given(field, vendor)}" for field in fields)


def shown(vendor: str) -> str:
    """`COLUMNS` of a task `t`, payloads as text."""
    cast = {"postgresql": "::text", "sqlite": ""}[vendor]
    return ", ".join(
        f"t.{field.column}{cast if field.kind == Kind.JSON else ''}" for field in PLAIN
    )


def _given(field: TaskField, vendor: str) -> str:
    if vendor == "postgresql":
        return f"n.{field.column}"
    if field.kind == Kind.JSON:
        return f"nullif(v -> '{field.column}', 'null')"
    return f"v ->> '{field.column}'"
