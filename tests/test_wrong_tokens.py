"""Wrong tokens, again and again: the address waits, but for who has a right one (S10, S29)."""

from types import SimpleNamespace

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from tasks.access import tokens, wrong_tokens

pytestmark = pytest.mark.django_db
PATH = "/api/v1/task_groups"


@pytest.fixture(autouse=True)
def few(settings):
    settings.CREW_MAX_WRONG_TOKENS = 3
    settings.CREW_TRUSTED_PROXIES = 1


def call(client, secret, address="192.0.2.1"):
    return client.get(PATH, HTTP_AUTHORIZATION=f"Bearer {secret}", HTTP_X_FORWARDED_FOR=address)


def test_an_address_that_guesses_waits_and_a_right_token_does_not(client):
    _, secret = tokens.issue(name="n", scopes=["read"])
    assert [call(client, f"wrong{n}").status_code for n in range(5)] == [401] * 3 + [429] * 2

    said = call(client, "wrong")
    assert 1 <= int(said["Retry-After"]) <= 61
    assert b"too many wrong tokens" in said.content
    assert call(client, secret).status_code == 200
    assert call(client, "wrong", "192.0.2.2").status_code == 401
    assert call(client, "wrong", "192.0.2.1, 192.0.2.3").status_code == 401
    assert client.get(PATH, HTTP_X_FORWARDED_FOR="192.0.2.1").status_code == 401  # sent none


def test_a_network_of_ipv6_is_one_address(client):
    for host in range(3):
        call(client, "wrong", f"2001:db8::{host}")

    assert call(client, "wrong", "2001:db8::9").status_code == 429
    assert call(client, "wrong", "2001:db8:0:1::9").status_code == 401


def test_after_a_minute_it_begins_again(client, monkeypatch):
    now = 1_000.0
    monkeypatch.setattr(wrong_tokens, "time", SimpleNamespace(monotonic=lambda: now))
    assert [wrong_tokens.seconds_to_wait("a") for _ in range(4)][2:] == [0, 60]
    now += 61

    assert wrong_tokens.seconds_to_wait("a") == 0


def test_not_more_addresses_are_remembered_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(wrong_tokens, "MOST_ADDRESSES", 5)
    for number in range(100):
        wrong_tokens.seconds_to_wait(str(number))

    assert len(wrong_tokens._counts) <= 5


@pytest.mark.parametrize("password", ["Kettle7pond", "123456789012", "password1234"])
def test_a_password_has_twelve_characters_and_is_not_common(password):
    with pytest.raises(ValidationError):
        validate_password(password)


def test_a_longer_password_is_taken():
    validate_password("Kettle7ponds")
