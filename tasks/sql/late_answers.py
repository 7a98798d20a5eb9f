"""The statement that keeps answers which came after their lease was lost."""

from . import PROBED, statement

# An answer under a lease that is no longer held: kept beside the attempt, never applied.
LATE = statement(
    postgresql=f"""
        UPDATE crew_attempt h SET late_at = {{now}}, late_outcome = l.outcome,
                                  late_status = l.status, late_error = l.error,
                                  request = l.request, answer = l.answer
        FROM jsonb_to_recordset(%(rows)s::jsonb)
            AS l(id text, attempt int, scheduler text, outcome text, status int, error text,
                 request text, answer text)
        WHERE h.task_id{PROBED.format("l.id")} AND h.number = l.attempt
          AND h.scheduler = l.scheduler
          AND h.late_at IS NULL AND h.outcome IN ('abandoned', 'cancelled')
        RETURNING h.task_id, h.number
    """,
    sqlite="""
        UPDATE crew_attempt AS h SET late_at = {now}, late_outcome = l.value ->> 'outcome',
            late_status = l.value ->> 'status', late_error = l.value ->> 'error',
            request = l.value ->> 'request', answer = l.value ->> 'answer'
        FROM json_each(%(rows)s) l
        WHERE h.task_id = l.value ->> 'id' AND h.number = l.value ->> 'attempt'
          AND h.scheduler = l.value ->> 'scheduler'
          AND h.late_at IS NULL AND h.outcome IN ('abandoned', 'cancelled')
        RETURNING task_id, number
    """,
)
