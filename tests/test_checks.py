"""Every wrong setting is named, with a hint."""

import pytest

from tasks.checks import check_deployment, check_settings

GOOD_KEY = "k" * 40


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
        ("CREW_AUTH_TOKEN", "dae4082985ef202439d16f9b25a8823e", "crew.E001"),
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
        ("CREW_LEASE_SECONDS", -1, "crew.E005"),
        ("CREW_MAX_ANSWER_BYTES", "many", "crew.E005"),
        ("CREW_DRAIN_SECONDS", -1, "crew.E005"),
        ("CREW_WORKER_MAX_CONCURRENCY", -1, "crew.E005"),
        ("CREW_DELIVERER", "carrier.pigeon", "crew.E006"),
        ("CREW_THROTTLER", "nowhere.at_all", "crew.E007"),
        ("CREW_WORKER_ALLOW_NETS", ["10.0.0.0/99"], "crew.E008"),
        ("CREW_SIGNING_SECRETS", ["whsec_short"], "crew.E009"),
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


def test_the_development_key_passes_with_debug_only(settings):
    settings.SECRET_KEY = "insecure-development-key"
    settings.DEBUG = True

    assert ids() == []


def test_http_to_workers_is_a_warning_on_deploy(settings):
    settings.CREW_WORKER_BASE_URL = "http://workers.example/"

    assert ids() == []
    assert [found.id for found in check_deployment(None)] == ["crew.W001"]
