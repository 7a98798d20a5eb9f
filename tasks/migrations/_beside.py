"""An index that is made while everybody goes on writing.

All rows are read to make it. On PostgreSQL that takes a migration without a transaction
(`atomic = False`); SQLite has one writer in any case.
"""

from django.db import migrations


class AddIndexBeside(migrations.AddIndex):
    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        schema_editor.add_index(model, self.index, **_beside(schema_editor))

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        schema_editor.remove_index(model, self.index, **_beside(schema_editor))


def _beside(schema_editor):
    return {"concurrently": True} if schema_editor.connection.vendor == "postgresql" else {}
