"""The tables that grow are kept as the migrations say, on PostgreSQL; elsewhere they do nothing."""

from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection

pytestmark = pytest.mark.django_db

settings = import_module("tasks.migrations.0008_table_settings")
prefixes = import_module("tasks.migrations.0009_no_prefixes_of_task_ids")


def options():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, reloptions FROM pg_class WHERE relkind = 'r' AND reloptions <> '{}'"
        )
        return {
            name: {key: float(value) for key, value in (word.split("=") for word in words)}
            for name, words in cursor.fetchall()
        }


def indexes():
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'crew_task'")
        return [line for (line,) in cursor.fetchall()]


@pytest.mark.postgres
def test_the_settings_are_there_and_go_and_come_with_their_migration():
    later = {"crew_limit": {"fillfactor": 50}}
    assert options() == settings.SETTINGS | later

    with connection.schema_editor() as editor:
        settings.take_back(apps, editor)
        assert options() == later
        settings.give(apps, editor)
    assert options() == settings.SETTINGS | later


@pytest.mark.postgres
def test_task_ids_are_indexed_once_and_the_other_index_comes_back_with_its_migration():
    assert len(alone := [line for line in indexes() if line.endswith("(id)")]) == 1, alone
    assert not any("pattern_ops" in line for line in indexes())

    with connection.schema_editor() as editor:
        prefixes.create(apps, editor)
        assert any("(id varchar_pattern_ops)" in line for line in indexes())
        prefixes.drop(apps, editor)
    assert not any("pattern_ops" in line for line in indexes())


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_on_sqlite_there_is_nothing_to_set():
    with connection.schema_editor(collect_sql=True) as editor:
        for step in (settings.give, settings.take_back, prefixes.drop, prefixes.create):
            step(apps, editor)

    assert editor.collected_sql == []
