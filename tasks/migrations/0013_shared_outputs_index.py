"""Only tasks that refer to a shared output are in the index, but all tasks are read to make it:
on PostgreSQL while everybody goes on writing, which takes a migration without a transaction.
"""

from django.db import migrations, models


class AddIndexBeside(migrations.AddIndex):
    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        schema_editor.add_index(model, self.index, **_beside(schema_editor))

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        schema_editor.remove_index(model, self.index, **_beside(schema_editor))


def _beside(schema_editor):
    return {"concurrently": True} if schema_editor.connection.vendor == "postgresql" else {}


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("crew", "0012_shared_outputs")]

    operations = [
        AddIndexBeside(
            model_name="task",
            index=models.Index(
                condition=models.Q(("shared_output__isnull", False)),
                fields=["shared_output"],
                name="crew_task_shared_output",
            ),
        ),
    ]
