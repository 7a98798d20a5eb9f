"""Every wrong setting is named, with a hint, and keeps the site from starting (S7, S22, T14)."""

import os
import subprocess
import sys

import pytest

from tasks.checks.settings import check_deployment, check_settings

from .processes import ROOT

GOOD_KEY = "a-key-of-many-letters-0123456789-for-a-test"
DEFAULT_TOKEN = "dae4082985ef202439d16f9b25a8823e"
# All that a production site sets.
PRODUCTION = {
    "SECRET_KEY": "a-key-of-fifty-characters-and-more-made-for-a-test-0123456789",
    "ALLOWED_HOSTS": "crew.example",
    "CREW_WORKER_BASE_URL": "https://workers.example/run/",
    "DATABASE_URL": "sqlite://:memory:",
    "TLS": "1",
    "CREW_TRUSTED_PROXIES": "1",
}


@pytest.fixture(autouse=True)
def production(settings):
    settings.DEBUG = False
    settings.SECRET_KEY = GOOD_KEY
    settings.CREW_WORKER_BASE_URL = "https://workers.example/run/"


def ids() -> list[str]:
    return [found.id for found in check_settings(None)]


def test_a_good_production_setting_passes():
    assert ids() == []
    assert check_deployment(None) == []


@pytest.mark.parametrize(
    ("name", "value", "id_"),
    [
        ("CREW_AUTH_PASSWORD", "crew", "crew.E001"),
        ("CREW_AUTH_PASSWORD", "admin", "crew.E001"),
        ("CREW_AUTH_TOKEN", DEFAULT_TOKEN, "crew.E001"),
        ("CREW_AUTH_TOKEN", "crew", "crew.E001"),
        ("CREW_AUTH_TOKEN", "short", "crew.E015"),
        ("CREW_AUTH_TOKEN", "fifteen-letters", "crew.E015"),
        ("CREW_AUTH_TOKEN", "with a space in the middle", "crew.E015"),
        ("CREW_AUTH_TOKEN", "with,a,comma,in,the,middle", "crew.E015"),
        ("CREW_AUTH_TOKEN", "with-a-\u20ac-in-the-middle", "crew.E015"),
        ("CREW_AUTH_TOKEN", "with-a-line-break-at-its-end\n", "crew.E015"),
        ("CREW_AUTH_TOKEN", b"bytes-are-not-what-is-sent", "crew.E005"),
        ("SECRET_KEY", "", "crew.E002"),
        ("SECRET_KEY", "short", "crew.E002"),
        ("SECRET_KEY", "insecure-development-key-that-is-long-enough", "crew.E002"),
        ("CREW_WORKER_BASE_URL", "", "crew.E003"),
        ("CREW_WORKER_BASE_URL", "ftp://workers.example/", "crew.E003"),
        ("CREW_WORKER_BASE_URL", "https://user:password@workers.example/", "crew.E003"),
        ("CREW_WORKER_BASE_URL", "https://workers.example/?a=b", "crew.E003"),
        ("CREW_WORKER_BASE_URL", "http://169.254.169.254/", "crew.E003"),
        ("CREW_WORKER_BASE_URL", "http://2852039166/", "crew.E003"),
        ("CREW_WORKER_CA_FILE", "/no/such/file.pem", "crew.E010"),
        ("CREW_WORKER_AUTHORIZATION_HEADER", "Bearer a\r\nX: y", "crew.E004"),
        ("CREW_WORKER_AUTHORIZATION_HEADER", "Bearer \u20ac", "crew.E004"),
        ("CREW_SLOTS", 0, "crew.E005"),
        ("CREW_SLOTS", 1.5, "crew.E005"),
        ("CREW_SLOTS", True, "crew.E005"),
        ("CREW_NOTIFY", "no", "crew.E005"),
        ("CREW_WORKER_BASE_URL", None, "crew.E005"),
        ("CREW_WORKER_AUTHORIZATION_HEADER", b"Bearer a", "crew.E005"),
        ("CREW_WORKER_ALLOW_NETS", "10.0.0.0/8", "crew.E005"),
        ("CREW_SIGNING_SECRETS", [b"whsec_"], "crew.E005"),
        ("CREW_KEEP_DAYS", 0, "crew.E005"),
        ("CREW_KEEP_CALL_BYTES", 10**9, "crew.E005"),
        ("CREW_LEASE_SECONDS", float("inf"), "crew.E005"),
        ("CREW_LEASE_SECONDS", -1, "crew.E005"),
        ("CREW_MAX_ANSWER_BYTES", "many", "crew.E005"),
        ("CREW_DRAIN_SECONDS", -1, "crew.E005"),
        ("CREW_SLOT_KEPT_SECONDS", -1, "crew.E005"),
        ("CREW_SLOT_KEPT_SECONDS", float("nan"), "crew.E005"),
        ("CREW_SLOT_KEPT_SECONDS", 90_000, "crew.E005"),
        ("CREW_AUDIT_DAYS", 0, "crew.E005"),
        ("CREW_AUDIT_DAYS", 36_526, "crew.E005"),
        ("CREW_WORKER_MAX_CONCURRENCY", -1, "crew.E005"),
        ("CREW_DELIVERER", "carrier.pigeon", "crew.E006"),
        ("CREW_DELIVERER", "threading.Event", "crew.E006"),
        ("CREW_FAILPOINTS", "after_claim=kill", "crew.E017"),
        ("CREW_THROTTLER", "nowhere.at_all", "crew.E007"),
        ("CREW_WORKER_ALLOW_NETS", ["10.0.0.0/99"], "crew.E008"),
        ("CREW_SIGNING_SECRETS", ["whsec_short"], "crew.E009"),
        ("CREW_AUTHENTICATION", "access.http.TokenAuthentication", "crew.E005"),
        ("CREW_AUTHENTICATION", None, "crew.E005"),
        ("CREW_AUTHENTICATION", iter([]), "crew.E005"),
        ("CREW_SIGNING_SECRETS", map(str, ["whsec_" + "a" * 40]), "crew.E005"),
        ("CREW_WORKER_ALLOW_NETS", iter(["10.0.0.0/8"]), "crew.E005"),
        ("CREW_AUTHENTICATION", ["access.http.NoSuchClass"], "crew.E011"),
        ("CREW_AUTHENTICATION", ["nowhere.at_all"], "crew.E011"),
        ("CREW_AUTHENTICATION", ["pathlib.Path"], "crew.E011"),
        ("CREW_AUTHENTICATION", [None], "crew.E005"),
        ("CREW_AUTHENTICATION", [], "crew.W002"),
        ("CREW_LOGIN", "nowhere.at_all", "crew.E012"),
        ("CREW_LOGIN", "sys.path", "crew.E012"),
        ("CREW_LOGIN_HOURS", 0, "crew.E005"),
        ("CREW_LOGIN_HOURS", 12.1, "crew.E005"),
        ("CREW_LOGIN_HOURS", "12", "crew.E005"),
        ("CREW_LOGIN_HOURS", float("nan"), "crew.E005"),
        ("CREW_STREAM_ORIGINS", ["ui.example"], "crew.E014"),
        ("CREW_STREAM_ORIGINS", ["https://ui.example/"], "crew.E014"),
        ("CREW_STREAM_ORIGINS", ["https://ui.example/path"], "crew.E014"),
        ("CREW_STREAM_ORIGINS", ["https://*.example"], "crew.E014"),
        ("CREW_STREAM_ORIGINS", ["null"], "crew.E014"),
        ("CREW_STREAM_ORIGINS", ["https://a.example", "b.example"], "crew.E014"),
        ("CREW_STREAM_ORIGINS", [5], "crew.E005"),
        ("CREW_TRUSTED_PROXIES", -1, "crew.E005"),
        ("CREW_TRUSTED_PROXIES", True, "crew.E005"),
        ("CREW_TRUSTED_PROXIES", "1", "crew.E005"),
    ],
)
def test_a_wrong_setting_is_named_with_a_hint(settings, name, value, id_):
    setattr(settings, name, value)

    (found,) = check_settings(None)

    assert found.id == id_
    assert name in found.msg
    assert found.hint


def test_a_secret_is_not_repeated_in_the_error(settings):
    settings.CREW_SIGNING_SECRETS = ["whsec_aGVsbG8="]

    (found,) = check_settings(None)

    assert "aGVsbG8" not in str(found)


@pytest.mark.parametrize("secret", ["fifteen-letters", DEFAULT_TOKEN])
def test_a_token_is_not_repeated_in_the_error(settings, secret):
    settings.CREW_AUTH_TOKEN = secret

    (found,) = check_settings(None)

    assert secret not in str(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CREW_AUTH_TOKEN", "sixteen-letters-"),
        ("CREW_AUTH_TOKEN", ""),
        ("CREW_WORKER_ALLOW_NETS", ("10.0.0.0/8",)),
        ("CREW_WORKER_AUTHORIZATION_HEADER", None),
        ("CREW_WORKER_MAX_CONCURRENCY", 0),
        ("CREW_KEEP_DAYS", 0.5),
        ("CREW_AUTH_TOKEN", "!" * 16 + "+-./~"),
        ("CREW_LOGIN", "tasks.api.login.log_in"),
        ("CREW_LOGIN_HOURS", 12),
        ("CREW_LOGIN_HOURS", 0.5),
        ("CREW_STREAM_ORIGINS", []),
        ("CREW_STREAM_ORIGINS", ["*"]),
        ("CREW_STREAM_ORIGINS", ["https://ui.example", "http://[::1]:8080", "app://crew"]),
        ("CREW_TRUSTED_PROXIES", 2),
        ("CREW_AUTHENTICATION", ["rest_framework.authentication.BasicAuthentication"]),
    ],
)
def test_what_is_right_passes(settings, name, value):
    setattr(settings, name, value)

    assert ids() == []


@pytest.mark.parametrize(
    ("debug", "host", "passes"),
    [
        (True, "127.0.0.1", True),
        (True, "localhost", True),
        (True, "::1", True),
        (True, "0.0.0.0", False),  # noqa: S104
        (True, "192.0.2.1", False),
        (True, "", False),
        (False, "127.0.0.1", False),
    ],
)
@pytest.mark.parametrize(
    ("name", "value"), [("CREW_AUTH_PASSWORD", "crew"), ("CREW_AUTH_TOKEN", DEFAULT_TOKEN)]
)
def test_s7_the_old_defaults_pass_on_one_s_own_machine_only(
    settings, debug, host, passes, name, value
):
    settings.DEBUG, settings.HOST = debug, host
    setattr(settings, name, value)

    found = check_settings(None)

    assert [one.id for one in found] == ([] if passes else ["crew.E001"])
    assert all("HOST=127.0.0.1" in one.hint for one in found)


def test_no_authentication_is_no_warning_in_development(settings):
    settings.DEBUG, settings.CREW_AUTHENTICATION = True, []

    assert ids() == []


def test_s7_no_login_is_shipped(settings):
    for name in ("CREW_AUTH_USERNAME", "CREW_AUTH_PASSWORD", "CREW_AUTH_TOKEN"):
        assert getattr(settings, name) == ""


def test_the_development_key_passes_with_debug_only(settings):
    settings.SECRET_KEY = "insecure-development-key"
    settings.DEBUG = True

    assert ids() == []


def test_http_to_workers_is_a_warning_on_deploy(settings):
    settings.CREW_WORKER_BASE_URL = "http://workers.example/"

    assert ids() == []
    assert [found.id for found in check_deployment(None)] == ["crew.W001"]


@pytest.mark.parametrize(("proxies", "warned"), [(0, ["crew.W003"]), (1, [])])
def test_s11_tls_without_a_trusted_proxy_is_a_warning_on_deploy(settings, proxies, warned):
    settings.SECURE_SSL_REDIRECT, settings.CREW_TRUSTED_PROXIES = True, proxies

    assert ids() == []
    assert [found.id for found in check_deployment(None)] == warned


# --- The site, as it is started ----------------------------------------------------------------


def manage(*args: str, **env: str) -> subprocess.CompletedProcess:
    """manage.py with these variables and no others of ours."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *args],
        env=plain | {"PYTEST_VERSION": "any"} | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_s22_a_production_site_passes_the_deployment_checks():
    said = manage(*("check", "--deploy", "--fail-level", "WARNING"), **PRODUCTION)

    assert (said.returncode, said.stdout) == (
        0,
        "System check identified no issues (2 silenced).\n",
    ), said.stderr


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"CREW_AUTH_USERNAME": "admin", "CREW_AUTH_PASSWORD": "crew"}, "crew.E001"),
        ({"CREW_AUTH_USERNAME": "admin", "CREW_AUTH_PASSWORD": "admin"}, "crew.E001"),
        ({"CREW_AUTH_TOKEN": DEFAULT_TOKEN}, "crew.E001"),
        ({"SECRET_KEY": ""}, "crew.E002"),
        ({"CREW_WORKER_BASE_URL": ""}, "crew.E003"),
        ({"CREW_FAILPOINTS": "after_claim=kill"}, "crew.E017"),
    ],
)
def test_t14_a_production_site_does_not_start_with_what_everybody_knows(env, named):
    said = manage("runscheduler", **(PRODUCTION | env))

    assert said.returncode == 1
    assert named in said.stderr
    assert "Traceback" not in said.stderr


SETTINGS = (
    "from django.conf import settings as s; print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE,"
    " s.SECURE_SSL_REDIRECT, s.SECURE_HSTS_SECONDS, s.SESSION_COOKIE_NAME,"
    " s.SECURE_PROXY_SSL_HEADER)"
)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"TLS": "0", "CREW_TRUSTED_PROXIES": "0"}, "False False False 0 sessionid None"),
        ({"CREW_TRUSTED_PROXIES": "0"}, "True True True 31536000 __Host-sessionid None"),
        (
            {"HSTS_SECONDS": "60"},
            "True True True 60 __Host-sessionid ('HTTP_X_FORWARDED_PROTO', 'https')",
        ),
    ],
)
def test_s12_behind_tls_nothing_travels_in_the_clear(env, said):
    done = manage("shell", "-v", "0", "-c", SETTINGS, **(PRODUCTION | env))

    assert done.stdout.strip() == said, done.stderr


@pytest.mark.parametrize(("under_pytest", "read"), [("", True), ("9", False)])
def test_the_env_file_is_read_but_by_tests(under_pytest, read):
    code = (
        "import environs; seen = [];"
        "environs.Env.read_env = lambda self, *args, **kwargs: seen.append(args);"
        "import crewsite.settings; print(bool(seen))"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_VERSION"}
    env |= {"PYTEST_VERSION": under_pytest} if under_pytest else {}

    said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=env, text=True)

    assert said == f"{read}\n"


@pytest.mark.parametrize(
    ("kept", "options", "warned"),
    [
        (0, {}, []),
        (60, {}, ["crew.W004"]),
        (None, {}, ["crew.W004"]),
        (60, {"pool": {"max_size": 5}}, []),
    ],
)
def test_connections_that_are_kept_under_asgi_are_named(
    monkeypatch, settings, kept, options, warned
):
    database = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": options}
    monkeypatch.setitem(settings.DATABASES, "default", database | {"CONN_MAX_AGE": kept})

    assert ids() == warned


def test_connections_that_are_kept_by_threads_of_wsgi_are_no_fault(monkeypatch, settings):
    database = {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": 60}
    monkeypatch.setitem(settings.DATABASES, "default", database)
    settings.ASGI_APPLICATION = None

    assert ids() == []
