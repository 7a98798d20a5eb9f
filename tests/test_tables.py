"""One definition of each rule: what is said of it elsewhere is made of it, or equal to it."""

import ast
import re
from dataclasses import fields

import pytest

from crewsite.environment import Environment
from crewsite.variables import variables
from tasks.admin.forms import TaskForm
from tasks.api.schema import shapes
from tasks.api.tasks import EDITABLE
from tasks.checks.settings import check_settings
from tasks.client import waiting
from tasks.client.values import Task as ClientTask
from tasks.client.values import TaskFields, Which
from tasks.conf import SETTINGS, Setting
from tasks.insight.find import IN_STATE
from tasks.models import Task
from tasks.rules.spec import FIELDS, PLAIN, ChildFields, Kind, TaskField, TaskSpec, read_time
from tasks.rules.states import FACTS, State
from tasks.sql.create import TASK_ROWS
from tasks.sql.states import case
from tasks.store import wire
from tasks.store.states import Progress

from . import settings_page
from .factories import make_task
from .processes import ROOT

# --- Settings ----------------------------------------------------------------------------------


def test_the_page_of_settings_shows_what_there_is():
    text = settings_page.PAGE.read_text()

    assert text == settings_page.page(text), "python -m tests.settings_page writes it"


def test_every_default_is_allowed():
    assert [name for name, each in SETTINGS.items() if not each.allows(each.default)] == []


def test_a_setting_is_in_use_and_what_is_used_is_a_setting():
    used = {
        name
        for path in (ROOT / "tasks").rglob("*.py")
        if path.name != "conf.py"
        # By `conf`, or by a name that is looked up in it.
        for name in re.findall(r"(?:\bconf\.|\")(CREW_[A-Z_]+)\b", path.read_text())
    }

    assert used == SETTINGS.keys()


def test_the_variables_of_the_site_stand_in_the_page():
    """Those that are no settings of the app; the others come from its list."""
    tree = ast.parse((ROOT / "crewsite/settings.py").read_text())
    read = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).startswith("env.")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    first, _, _ = settings_page.PAGE.read_text().partition(settings_page.HEADING)
    shown = {
        name
        for cell in re.findall(r"(?m)^\| (`.*?) \|", first)
        for name in re.findall(r"`(\w+)`", cell)
    }

    assert read - {"TEST_SQLITE_FILE"} - SETTINGS.keys() == shown


@pytest.fixture
def planted(monkeypatch):
    """A setting that stands in the list, and nowhere else."""
    monkeypatch.setitem(SETTINGS, "CREW_PLANTED", Setting(int, 7, "a test", above=0))


def test_a_setting_of_the_list_alone_is_known_everywhere(planted, settings, monkeypatch):
    text = settings_page.PAGE.read_text()
    monkeypatch.setenv("CREW_PLANTED", "9")

    assert variables(Environment(), SETTINGS, {})["CREW_PLANTED"] == 9
    assert "| `CREW_PLANTED` | 7 | a test |" in settings_page.page(text)
    assert settings_page.page(text) != text
    settings.CREW_PLANTED = 0
    assert "CREW_PLANTED" in {found.msg.split()[0] for found in check_settings(None)}


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_wrong_kind_is_named_and_not_shown(settings, name):
    value = b"\x00a secret of the wrong kind"
    setattr(settings, name, value)

    found = check_settings(None)

    assert [one.id for one in found if one.msg.startswith(name)] == ["crew.E005"]
    assert SETTINGS[name].kind in (int, float) or "secret" not in str(found)


# --- States ------------------------------------------------------------------------------------

WORDS = [state.value for state in State]
STATIC = ROOT / "tasks/static/crew"
# What lists the states, and how it lists them now. What is made of the table is not here.
LISTS = {
    "the facts, and what the clock says": lambda: [*(f.state for f in FACTS), "scheduled", "ready"],
    "what is counted": lambda: ["complete", *(each.name for each in fields(Progress)[1:])],
    "the signs of the pages": lambda: re.findall(
        r"(?m)^  (\w+): \{", (STATIC / "states.js").read_text()
    ),
    "the colours of the pages": lambda: re.findall(
        r'\[data-state="(\w+)"\] \{ --crew-state', (STATIC / "graph.css").read_text()
    ),
    "the words for the client": lambda: named(Which.__doc__ or ""),
    "the words for the API": lambda: named((ROOT / "docs/api.md").read_text()),
}


def named(text: str) -> list[str]:
    """The states where the text lists them."""
    listed = re.search(r"complete, executing,[\w,\s]+", text)
    assert listed, "no list of states"
    return listed[0].replace(" and ", ", ").replace(",", " ").split()


def missed(words: list[str]) -> set[str]:
    """The lists that are not these states in this order."""
    return {where for where, now in LISTS.items() if [str(each) for each in now()] != words}


def test_every_list_of_states_is_the_list_of_states():
    assert missed(WORDS) == set()


@pytest.mark.parametrize("words", [[*WORDS, "planted"], WORDS[1:], WORDS[::-1]])
def test_a_state_of_the_table_alone_is_missed_by_each_list(words):
    assert missed(words) == set(LISTS)


def test_what_is_made_of_the_table_has_every_state():
    assert list(IN_STATE) == WORDS
    assert shapes.STATES == WORDS
    assert set(shapes.Progress().fields) == {"completedPercent", "total", *WORDS}
    assert re.findall(r"'(\w+)'", case("now"))[-len(WORDS) + 1 :] == WORDS[1:]


def test_the_client_waits_for_states_that_are_there():
    assert {*waiting.MOVING, *waiting.STUCK} <= set(WORDS)


def test_a_fact_is_a_column_of_a_task():
    assert {fact.column for fact in FACTS} <= {field.attname for field in Task._meta.fields}


# --- Fields of a task --------------------------------------------------------------------------

# What the client shows and no field of the table: the server alone sets it.
SHOWN_ONLY = {"task_group_id", "busy_executing", "etag", "raw"}
# What the worker kit takes of a child in a way of its own.
OF_A_CHILD = {"id", "worker", "parent_ids", "run_after"}
SAMPLES = {
    Kind.TEXT: "a text",
    Kind.NUMBER: 7,
    Kind.SWITCH: True,
    Kind.TIME: "2026-11-24T06:18:00.000Z",
    Kind.JSON: {"a": [1]},
    Kind.LIST: ["a", "b"],
}


def columns_of_the_model() -> set[str]:
    """What people set, and what only the machine does."""
    return {field.name for field in Task._meta.fields if field.editable} | {"id"}


def names_that_miss(table: tuple[TaskField, ...]) -> set[str]:
    """Who does not know just the fields of this table. What is made of it is not here."""
    columns = {field.column for field in table}
    children = {field.column for field in table if field.is_for_children}
    lists = {
        "spec": ({each.name for each in fields(TaskSpec)} - {"is_named"}, attributes(table)),
        "model": (
            columns_of_the_model() - {"group", "completed_at"},
            columns - {"parent_ids"},
        ),
        "client, shown": ({each.name for each in fields(ClientTask)} - SHOWN_ONLY, columns),
        "client, given": (set(TaskFields.__annotations__), columns - {"created_at"}),
        "a child, given": (set(ChildFields.__annotations__), children - OF_A_CHILD),
    }
    return {who for who, (known, wanted) in lists.items() if known != wanted}


def attributes(table: tuple[TaskField, ...]) -> set[str]:
    return {field.attribute for field in table}


def test_a_field_of_a_task_is_known_to_all():
    assert names_that_miss(FIELDS) == set()


PLANTED = TaskField("planted", Kind.NUMBER, high=9)


def test_a_field_of_the_table_alone_is_missed():
    missed = {"spec", "model", "client, shown", "client, given", "a child, given"}

    assert names_that_miss((*FIELDS, PLANTED)) == missed
    assert names_that_miss(FIELDS[:-1]) == missed


def test_what_is_made_of_the_table_has_every_field(db):
    words = {field.word for field in FIELDS}
    server = {"taskGroupId", "busyExecuting", "state"}
    task = wire.task(make_task())

    assert task.keys() == words | server
    assert shapes.Task().fields.keys() == words | server
    assert shapes.NewTask().fields.keys() == words
    assert EDITABLE.keys() == {field.word for field in FIELDS if field.is_editable}
    assert ClientTask.of(task).raw.keys() == task.keys()
    plain = {field.column for field in PLAIN}
    assert plain <= set(re.findall(r"\w+", TASK_ROWS.sqlite.partition("VALUES")[0]))
    assert {*TaskForm.Meta.fields, "input", "output", "errors"} == {
        field.column for field in FIELDS if field.is_editable
    } - {"parent_ids"}


def test_what_the_api_gives_the_client_shows():
    raw = {field.word: SAMPLES[field.kind] for field in FIELDS}

    task = ClientTask.of(raw)

    for field in FIELDS:
        sent = raw[field.word]
        as_value = {Kind.TIME: read_time(SAMPLES[Kind.TIME], ""), Kind.LIST: ("a", "b")}
        assert getattr(task, field.column) == as_value.get(field.kind, sent), field.word


# --- Databases ---------------------------------------------------------------------------------


def test_only_the_statements_ask_which_database_it_is():
    """`tasks/sql` knows; whoever else must, asks it."""
    asks = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tasks").rglob("*.py")
        if path.parent.name not in ("sql", "migrations")
        and re.search(r"\bvendor\b", path.read_text())
    }

    assert asks == set()
