"""The tables and statements of the reference loop, for PostgreSQL and SQLite."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg

Tasks = Iterable[dict[str, Any]]


class Lease(NamedTuple):
    """A claimed task; `input` and `parents` are JSON, or None."""

    task_id: str
    attempt: int
    worker: str
    input: str | None
    parents: str | None


# `parents` counts the edges, `pending` those whose parent is not complete.
SCHEMA = """
    CREATE TABLE task (
        id text PRIMARY KEY, worker text NOT NULL, input {json}, output {json},
        parents int NOT NULL, pending int NOT NULL, remaining int NOT NULL DEFAULT 5,
        attempt int NOT NULL DEFAULT 0, leased_by text, leased_at {time},
        is_complete {bool} NOT NULL DEFAULT {false}, run_after {time} NOT NULL DEFAULT {now});
    CREATE INDEX task_ready ON task (run_after)
        WHERE NOT is_complete AND leased_by IS NULL AND pending = 0 AND remaining > 0;
    CREATE TABLE edge (child text, parent text, PRIMARY KEY (child, parent));
    CREATE INDEX edge_parent ON edge (parent, child);
"""
READY = "NOT is_complete AND leased_by IS NULL AND pending = 0 AND remaining > 0"


class Store:
    """One connection. A turn is one transaction: settle, free children, create children, claim."""

    CREATE_TASKS = CREATE_EDGES = SETTLE = FREE = CLAIM = ""

    def create(self, tasks: Tasks) -> None:
        with self._transaction():
            self._insert(*rows_of(tasks))

    def turn(self, settled: list[dict[str, Any]], free: int, me: str) -> list[Lease]:
        with self._transaction():
            if settled:
                self._settle(settled)
            found = self._rows(self.CLAIM, free, me) if free > 0 else []
        return [Lease(*row) for row in found]

    def _settle(self, settled: list[dict[str, Any]]) -> None:
        answers = json.dumps([{**row, "children": None} for row in settled])
        complete = [id_ for id_, is_good in self._rows(self.SETTLE, answers) if is_good]
        if complete:
            self._run(self.FREE, json.dumps(complete))
        self._insert(*_children(settled, set(complete)))

    def _insert(self, rows: list[dict[str, Any]], edges: list[tuple[str, str]]) -> None:
        if rows:
            self._run(self.CREATE_TASKS, json.dumps(rows))
        if edges:
            self._run(self.CREATE_EDGES, json.dumps(edges))

    def _transaction(self) -> AbstractContextManager[Any]:
        raise NotImplementedError

    def _run(self, statement: str, *params: Any) -> Any:
        raise NotImplementedError

    def _rows(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        return self._run(statement, *params).fetchall()

    def close(self) -> None:
        raise NotImplementedError


def open_store(url: str) -> Store:
    """The store of this URL, its tables made if they are not there."""
    return SqliteStore(url) if url.startswith("sqlite") else PostgresStore(url)


def rows_of(tasks: Tasks, maker: str = "") -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Rows for tasks and edges. A maker is one more parent, and complete."""
    rows, edges = [], []
    for task in tasks:
        id_ = task.get("id") or uuid4().hex
        parents = task.get("parentIds") or ()
        edges += [(id_, parent) for parent in parents]
        if maker:
            edges.append((id_, maker))
        rows.append({"id": id_, "worker": task.get("worker", ""), "input": task.get("input"),
                     "parents": len(parents) + bool(maker), "pending": len(parents)})  # fmt: skip
    return rows, edges


def _children(
    settled: Sequence[dict[str, Any]], live: set[str]
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Rows for what the answers created whose leases still held."""
    rows: list[dict[str, Any]] = []
    edges: list[tuple[str, str]] = []
    for row in settled:
        if row["children"] and row["id"] in live:
            more_rows, more_edges = rows_of(row["children"], row["id"])
            rows += more_rows
            edges += more_edges
    return rows, edges


class PostgresStore(Store):
    CREATE_TASKS = """
        INSERT INTO task (id, worker, input, parents, pending)
        SELECT n.* FROM jsonb_to_recordset(%s::jsonb)
            AS n(id text, worker text, input jsonb, parents int, pending int)
    """
    CREATE_EDGES = """
        INSERT INTO edge SELECT e ->> 0, e ->> 1 FROM jsonb_array_elements(%s::jsonb) e
    """
    SETTLE = """
        WITH answer AS (
            SELECT * FROM jsonb_to_recordset(%s::jsonb)
                AS a(id text, attempt int, by text, ok bool, output jsonb)
        ), live AS MATERIALIZED (
            SELECT a.* FROM answer a JOIN task t ON t.id = a.id
            WHERE t.attempt = a.attempt AND t.leased_by IS NOT DISTINCT FROM a.by
            ORDER BY t.id FOR NO KEY UPDATE OF t
        ), done AS (
            UPDATE task t SET leased_by = NULL, leased_at = NULL, is_complete = a.ok,
                output = a.output, remaining = t.remaining - 1,
                run_after = CASE WHEN a.ok THEN t.run_after
                                 ELSE statement_timestamp() + interval '1 minute' END
            FROM live a WHERE t.id = a.id
        )
        SELECT id, ok FROM live
    """
    FREE = """
        WITH freed AS MATERIALIZED (
            SELECT e.child, count(*) AS n
            FROM jsonb_array_elements_text(%s::jsonb) p(id) CROSS JOIN LATERAL (
                SELECT child FROM edge WHERE edge.parent = p.id OFFSET 0) e
            GROUP BY e.child
        ), child AS MATERIALIZED (
            SELECT t.id, f.n FROM freed f CROSS JOIN LATERAL (
                SELECT id FROM task WHERE task.id = f.child OFFSET 0) t
            ORDER BY t.id
        ), locked AS MATERIALIZED (
            SELECT c.id, c.n FROM child c JOIN task t ON t.id = c.id
            ORDER BY t.id FOR NO KEY UPDATE OF t
        )
        UPDATE task t SET pending = t.pending - l.n FROM locked l WHERE t.id = l.id
    """
    CLAIM = f"""
        WITH due AS MATERIALIZED (
            SELECT id FROM task WHERE {READY} AND run_after <= statement_timestamp()
            ORDER BY run_after LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE task t SET attempt = t.attempt + 1, leased_by = %s,
                          leased_at = statement_timestamp()
        FROM due WHERE t.id = due.id
        RETURNING t.id, t.attempt, t.worker, t.input::text, CASE WHEN t.parents > 0 THEN (
            SELECT json_agg(json_build_object('taskId', p.id, 'worker', p.worker,
                'input', p.input, 'output', p.output))::text
            FROM edge e JOIN task p ON p.id = e.parent WHERE e.child = t.id) END
    """

    def __init__(self, url: str) -> None:
        self._db = psycopg.connect(url, prepare_threshold=0)
        with self._db.transaction():
            self._db.execute("SELECT pg_advisory_xact_lock(1)")
            if not self._db.execute("SELECT to_regclass('task')").fetchone()[0]:  # type: ignore[index]
                schema = SCHEMA.format(
                    json="jsonb", time="timestamptz", bool="bool", false="false", now="now()"
                )
                for statement in schema.split(";"):
                    self._db.execute(statement)  # type: ignore[call-overload]
        # A batch is small beside the tables, which the planner cannot know.
        for name in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"):
            self._db.execute(f"SET {name} = off")
        self._db.commit()

    def _transaction(self) -> AbstractContextManager[Any]:
        return self._db.transaction()

    def _run(self, statement: str, *params: Any) -> Any:
        return self._db.execute(statement, params)  # type: ignore[call-overload]

    def close(self) -> None:
        self._db.close()


class SqliteStore(Store):
    NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    CREATE_TASKS = """
        INSERT INTO task (id, worker, input, parents, pending)
        SELECT value ->> 'id', value ->> 'worker', nullif(value -> 'input', 'null'),
            value ->> 'parents', value ->> 'pending' FROM json_each(?)
    """
    CREATE_EDGES = "INSERT INTO edge SELECT value ->> 0, value ->> 1 FROM json_each(?)"
    # One process, one writer: what the fence lets through is what RETURNING gives.
    SETTLE = f"""
        UPDATE task AS t SET leased_by = NULL, leased_at = NULL, is_complete = a.value ->> 'ok',
            output = nullif(a.value -> 'output', 'null'), remaining = t.remaining - 1,
            run_after = CASE WHEN a.value ->> 'ok' THEN t.run_after
                             ELSE {NOW.replace("'now'", "'now', '+60 seconds'")} END
        FROM json_each(?) a
        WHERE t.id = a.value ->> 'id' AND t.attempt = a.value ->> 'attempt'
          AND t.leased_by = a.value ->> 'by'
        RETURNING id, is_complete
    """
    FREE = """
        WITH freed AS MATERIALIZED (
            SELECT e.child, count(*) AS n FROM json_each(?) p
            CROSS JOIN edge e ON e.parent = p.value GROUP BY e.child
        )
        UPDATE task AS t SET pending = t.pending - f.n FROM freed f WHERE t.id = f.child
    """
    CLAIM = f"""
        WITH due AS MATERIALIZED (
            SELECT id FROM task WHERE {READY} AND run_after <= {NOW} ORDER BY run_after LIMIT ?
        )
        UPDATE task SET attempt = attempt + 1, leased_by = ?, leased_at = {NOW}
        WHERE id IN (SELECT id FROM due)
        RETURNING id, attempt, worker, input, CASE WHEN parents > 0 THEN (
            SELECT json_group_array(json_object('taskId', p.id, 'worker', p.worker,
                'input', json(p.input), 'output', json(p.output)))
            FROM edge e CROSS JOIN task p ON p.id = e.parent WHERE e.child = task.id) END
    """

    def __init__(self, url: str) -> None:
        self._db = sqlite3.connect(
            url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
        )
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
        if not self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'task'").fetchone():
            self._db.executescript(SCHEMA.format(json="text", time="text", bool="bool",
                                                 false="0", now=f"({self.NOW})"))  # fmt: skip

    def _transaction(self) -> AbstractContextManager[Any]:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db  # commits, or rolls back, as it is left

    def _run(self, statement: str, *params: Any) -> Any:
        return self._db.execute(statement, params)

    def close(self) -> None:
        self._db.close()
