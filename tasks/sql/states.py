"""The states of a task as conditions of hand-written SQL, for a table named or aliased `t`.

PostgreSQL's planner must see the words of an index's condition to use that index.
"""

from ..rules.states import FACTS, State, conditions


def in_state(state: State) -> str:
    """Rows in this state. READY and SCHEDULED are one here: their difference is the clock."""
    return " AND ".join(
        (fact.test.sql if is_so else fact.test.sql_opposite).format(f"t.{fact.column}")
        for fact, is_so in conditions(state)
    )


def none_of(*states: State) -> str:
    """Rows in none of these, as far as each one's own column says."""
    opposites = (
        fact.test.sql_opposite.format(f"t.{fact.column}") for fact in FACTS if fact.state in states
    )
    return " AND ".join(opposites)


def case(now: str) -> str:
    """The word for the state of a row that is not complete."""
    whens = (
        f"WHEN {fact.test.sql.format(f't.{fact.column}')} THEN '{fact.state}'" for fact in FACTS[1:]
    )
    return f"""
        CASE {" ".join(whens)}
             WHEN t.run_after > {now} OR t.workgroup <> '' AND t.workgroup IN
                 (SELECT name FROM crew_workgroup WHERE held_until > {now})
                 THEN '{State.SCHEDULED}'
             ELSE '{State.READY}' END"""
