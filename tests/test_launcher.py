"""The script `crew` on machines that are not as it wants them: a copy of it, and a small PATH."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CREW = Path(__file__).resolve().parent.parent / "crew"
# What the script runs besides Python.
PROGRAMS = ("sh", "cat", "chmod", "cksum", "dirname", "mkdir", "readlink", "rm", "sleep")

# A Python that pretends: its venv is a copy of itself, and what it installs is a line in a log.
# Of what Debian could bring, nothing is missing where there is a Chromium.
WORKING = f"""#!/bin/sh
case "$*" in
    '-m venv .venv') mkdir -p .venv/bin; cat "$0" > .venv/bin/python; chmod +x .venv/bin/python ;;
    *'-m pip'*) echo "pip $*" >> "$PIP_LOG" ;;
    '-m tests.debian') command -v chromium >/dev/null || echo chromium pgbouncer ;;
    '-m tests.both'* | '-m tests.chaos'*) echo "ran $*" ;;
    'manage.py'*) echo "ran $*" ;;
    *) exec {sys.executable} "$@" ;;
esac
"""
# An apt that pretends: it only notes what it is asked for.
APT = '#!/bin/sh\necho "$*" >> "$APT_LOG"\n'
BROKEN_APT = APT + 'case "$*" in install*) echo "E: no network" >&2; exit 100 ;; esac\n'
BROKEN = "#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n"
TOO_OLD = "#!/bin/sh\nexit 1\n"  # what the question for its version comes to


@pytest.fixture
def place(tmp_path):
    """A copy of the project's top, in a folder whose name has a space, and an empty PATH."""
    top = tmp_path / "a place"
    programs = tmp_path / "bin"
    top.mkdir()
    programs.mkdir()
    shutil.copy(CREW, top / "crew")
    for name in ("requirements.txt", "requirements-dev.txt"):
        (top / name).write_text("nothing\n")
    for name in PROGRAMS:
        (programs / name).symlink_to(shutil.which(name))
    return top


def test_help_names_every_command(place):
    done = crew(place, "help")

    assert done.returncode == 0
    for command in ("demo", "test", "matrix", "mutants", "check", "chaos", "manage", "help"):
        assert f"\n  {command} " in done.stdout


def test_chaos_passes_its_arguments_on(place):
    program(place, "python3", WORKING)

    done = crew(place, "chaos", "--kills", "3")

    assert done.stdout == "ran -m tests.chaos --kills 3\n"


def test_an_unknown_command_fails_with_a_sentence(place):
    done = crew(place, "dance")

    assert done.returncode == 1
    assert done.stderr == "crew: there is no command 'dance'; './crew help' lists them\n"
    assert not (place / ".venv").exists()


def test_it_works_through_a_symlink_from_anywhere(place, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(place / "crew")
    program(place, "python3", WORKING)

    done = crew(place, "manage", "check", program=link, cwd="/")

    assert done.stdout == "ran manage.py check\n"


def test_a_broken_and_a_too_old_python_are_skipped(place):
    program(place, "python3.11", BROKEN)
    program(place, "python3", TOO_OLD)
    program(place, "python3.13", WORKING)

    done = crew(place, "manage", "check")

    assert done.returncode == 0, done.stderr
    assert "making .venv with python3.13" in done.stderr


def test_no_python_at_all_is_reported_with_the_remedy(place):
    program(place, "python3", TOO_OLD)

    done = crew(place, "demo")

    assert done.returncode == 1
    assert "no Python 3.11 or newer found" in done.stderr
    assert "apt install python3" in done.stderr


def test_the_python_named_is_the_only_one_tried(place):
    program(place, "python3", WORKING)

    done = crew(place, "manage", "check", PYTHON="/no/such python")

    assert done.returncode == 1
    assert "PYTHON=/no/such python does not run" in done.stderr


def test_a_python_without_the_venv_module_is_reported_with_the_remedy(place):
    program(place, "python3", '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\n')

    done = crew(place, "manage", "check")

    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr


def test_it_installs_again_only_when_the_requirements_change(place):
    program(place, "python3", WORKING)

    crew(place, "manage", "check")
    second = crew(place, "manage", "check")
    assert second.stderr == ""
    assert len(installations(place)) == 1

    (place / "requirements.txt").write_text("something\n")
    crew(place, "manage", "check")
    assert len(installations(place)) == 2


def test_what_an_interrupted_run_left_is_recreated(place):
    program(place, "python3", WORKING)
    crew(place, "manage", "check")
    half_made = place / ".venv" / "half-made"
    half_made.touch()
    (place / "var" / "installing").write_text("999999999\n")

    done = crew(place, "manage", "check")

    assert done.stdout == "ran manage.py check\n"
    assert not half_made.exists()
    assert not (place / "var" / "installing").exists()


def test_a_folder_that_cannot_be_written_to_is_a_sentence(place):
    (place / "var").write_text("in the way")

    done = crew(place, "demo")

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"crew: {place} and its folder var must be writable to install into .venv"
    ]


@pytest.mark.parametrize("damage", ["python does not run", "the folder was moved"])
def test_a_venv_that_cannot_be_used_is_recreated(place, damage):
    program(place, "python3", WORKING)
    crew(place, "manage", "check")
    (place / ".venv" / "old").touch()
    if damage == "python does not run":
        program(place, ".venv/bin/python", BROKEN, folder=place)
    else:
        place = place.rename(place.with_name("another place"))

    done = crew(place, "manage", "check")

    assert done.stdout == "ran manage.py check\n"
    assert not (place / ".venv" / "old").exists()


def test_tests_find_a_chromium_that_is_there(place):
    program(place, "python3", WORKING)
    program(place, "chromium", BROKEN)
    machine(place, user=0, apt=APT)

    done = crew(place, "test")

    assert done.returncode == 0, done.stderr
    assert apt_calls(place) == []


def test_tests_install_a_chromium_as_root_with_apt(place):
    program(place, "python3", WORKING)
    machine(place, user=0, apt=APT)

    done = crew(place, "test")

    assert done.returncode == 0, done.stderr
    assert apt_calls(place) == INSTALLATION
    assert "installing Debian's chromium pgbouncer" in done.stderr


def test_an_installation_that_fails_is_tried_again_and_the_tests_run(place):
    program(place, "python3", WORKING)
    machine(place, user=0, apt=BROKEN_APT)

    done = crew(place, "test")

    assert apt_calls(place) == 2 * INSTALLATION
    assert "apt could not install chromium pgbouncer" in done.stderr
    assert done.stdout.splitlines()[0] == "ran -m tests.both"


@pytest.mark.parametrize(("user", "apt"), [(1000, APT), (0, None)], ids=["no root", "no apt"])
def test_nothing_is_installed_by_who_cannot(place, user, apt):
    program(place, "python3", WORKING)
    machine(place, user=user, apt=apt)

    done = crew(place, "test")

    assert done.returncode == 0, done.stderr
    assert apt_calls(place) == []
    assert "chromium" not in done.stderr


INSTALLATION = ["update -qq", "install -y -qq --no-install-recommends chromium pgbouncer"]


def machine(place: Path, *, user: int, apt: str | None) -> None:
    program(place, "id", f"#!/bin/sh\necho {user}\n")
    if apt:
        program(place, "apt-get", apt)


def apt_calls(place: Path) -> list[str]:
    log = place.parent / "apt.log"
    return log.read_text().splitlines() if log.exists() else []


def program(place: Path, name: str, script: str, folder: Path | None = None) -> None:
    file = (folder or place.parent / "bin") / name
    file.write_text(script)
    file.chmod(0o755)


def installations(place: Path) -> list[str]:
    lines = (place.parent / "pip.log").read_text().splitlines()
    return [line for line in lines if " install " in line]


def crew(
    place: Path, *args: str, program: Path | None = None, cwd: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    top = place.parent
    return subprocess.run(
        [str(program or place / "crew"), *args],
        cwd=cwd or place,
        env={
            "PATH": str(top / "bin"),
            "HOME": str(top),
            "PIP_LOG": str(top / "pip.log"),
            "APT_LOG": str(top / "apt.log"),
            **env,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
