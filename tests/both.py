"""All tests on SQLite and, at the same time, on PostgreSQL: each run waits half of its time.

    python -m tests.both [ARGUMENTS OF PYTEST]

What the run on SQLite says is seen live, that of the other one when both have ended.
"""

import signal
import subprocess
import sys
import tempfile

NONE_CHOSEN = 5  # pytest's word for it; a `-k` may fit the tests of one database only


def main() -> int:
    pytest = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    servers = [sys.executable, "-m", "tests.servers", "run", "--"]
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
