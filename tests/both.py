"""All tests on SQLite and, at the same time, on PostgreSQL: each run waits half of its time.

    python -m tests.both [--without-notify | --pooled] [ARGUMENTS OF PYTEST]

What the run on SQLite says is seen live, that of the other one when both have ended. Without
NOTIFY, or through PgBouncer in transaction mode, there is only the run on PostgreSQL.
"""

import os
import signal
import subprocess
import sys
import tempfile

MODES = ("--without-notify", "--pooled")  # of PostgreSQL only, as tests.servers knows them
NONE_CHOSEN = 5  # pytest's word for it; a `-k` may fit the tests of one database only


def main() -> int:
    modes = [argument for argument in sys.argv[1:] if argument in MODES]
    chosen = [argument for argument in sys.argv[1:] if argument not in MODES]
    pytest = [sys.executable, "-m", "pytest", *chosen]
    servers = [sys.executable, "-m", "tests.servers", "run", *modes, "--"]
    if modes:
        os.execv(sys.executable, [*servers, *pytest])  # noqa: S606  in our place
    return run_both(servers, pytest)


def run_both(servers: list[str], pytest: list[str]) -> int:
    with tempfile.TemporaryFile("w+b") as said:
        on_postgres = subprocess.Popen([*servers, *pytest], stdout=said, stderr=subprocess.STDOUT)
        say("testing on SQLite, and on PostgreSQL behind it")
        on_sqlite = subprocess.Popen(pytest)
        # Ctrl-C reaches both by itself, and they stop what they started; wait for that.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(
            signal.SIGTERM, lambda *_: [run.terminate() for run in (on_postgres, on_sqlite)]
        )
        on_sqlite.wait()
        say("waiting for the tests on PostgreSQL")
        on_postgres.wait()
        said.seek(0)
        sys.stdout.buffer.write(said.read())
        sys.stdout.buffer.flush()
    results = {on_sqlite.returncode, on_postgres.returncode}
    return 0 if results in ({0}, {0, NONE_CHOSEN}) else 1


def say(text: str) -> None:
    print(f"crew: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
