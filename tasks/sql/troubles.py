"""Statements that find who keeps old rows from being cleared away. PostgreSQL alone has them."""

from . import statement

# Transactions that have been open for long. Of other users' PostgreSQL may show no more than how
# many others began since, and of a standby it knows no more. A VACUUM keeps no rows, and those of
# other databases none here.
SESSIONS = statement(
    postgresql="""
        SELECT a.pid, a.usename, a.application_name, host(a.client_addr), a.xact_start,
               a.state LIKE 'idle%%', a.state_change,
               greatest(age(a.backend_xid), age(a.backend_xmin)),
               a.query = '<insufficient privilege>'
        FROM pg_stat_activity a
        WHERE a.pid <> pg_backend_pid()
          AND (a.datname = current_database() OR a.backend_type = 'walsender'
               OR a.datname IS NULL AND a.query = '<insufficient privilege>')
          AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)
          AND CASE WHEN a.xact_start IS NOT NULL
                THEN a.xact_start < statement_timestamp() - make_interval(secs => %(seconds)s)
                ELSE greatest(age(a.backend_xid), age(a.backend_xmin)) > %(others)s END
        ORDER BY a.xact_start, a.pid LIMIT %(most)s
    """,
    sqlite="SELECT 1 WHERE false",
)

# Other users with a session here of which PostgreSQL hides from us what it does.
HIDDEN = statement(
    postgresql="""
        SELECT usename, count(*), current_user FROM pg_stat_activity
        WHERE datname = current_database() AND usename <> current_user
          AND query = '<insufficient privilege>' GROUP BY usename ORDER BY usename
    """,
    sqlite="SELECT 1 WHERE false",
)

# Transactions that wait for the second half of their commit, and nobody remembers perhaps.
PREPARED = statement(
    postgresql="""
        SELECT gid, owner, prepared FROM pg_prepared_xacts
        WHERE database = current_database()
          AND prepared < statement_timestamp() - make_interval(secs => %(seconds)s)
        ORDER BY prepared LIMIT %(most)s
    """,
    sqlite="SELECT 1 WHERE false",
)

# Replication slots that keep rows for whoever reads them, and fell far behind.
SLOTS = statement(
    postgresql="""
        SELECT slot_name, active, greatest(age(xmin), age(catalog_xmin)), xmin IS NOT NULL
        FROM pg_replication_slots
        WHERE (xmin IS NOT NULL OR catalog_xmin IS NOT NULL)
          AND (database IS NULL OR database = current_database())
          AND greatest(age(xmin), age(catalog_xmin)) > %(others)s
        ORDER BY slot_name LIMIT %(most)s
    """,
    sqlite="SELECT 1 WHERE false",
)
