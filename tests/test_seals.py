"""The audit history is sealed as a chain: what is changed in it afterwards is seen."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from tasks import audit
from tasks.models import AuditEntry, AuditSeal
from tasks.upkeep import expired_rows, seals

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(seals, "BATCH", 3)


def act(count=1, **detail):
    with audit.by("user:ann", address="192.0.2.1"):
        for number in range(count):
            audit.record("pause", audit.Kind.GROUP, f"g{number}", group_id=f"g{number}", **detail)


def seal():
    for _ in expired_rows.prune_and_seal():
        pass


def numbers():
    return list(AuditEntry.objects.order_by("pk").values_list("seal", flat=True))


def age(**which):
    """As if the days had passed: entries and their seals."""
    days = timedelta(days=500)
    AuditEntry.objects.filter(**which).update(at=F("at") - days)
    for each in AuditSeal.objects.filter(is_pruned=False):
        each.newest_at = max(
            AuditEntry.objects.filter(seal=each.number).values_list("at", flat=True)
        )
        rows = AuditEntry.objects.filter(seal=each.number).order_by("id")
        before = AuditSeal.objects.filter(number=each.number - 1).first()
        each.previous = before.digest if before else ""
        each.digest = seals.digest_of(each.number, each.previous, rows)
        each.save()


def test_all_that_was_done_is_sealed_in_batches():
    act(7)
    assert numbers() == [None] * 7
    seal()
    assert numbers() == [1, 1, 1, 2, 2, 2, 3]
    act(1, until="2026-01-01", more=[1, 2.5, {"b": None, "a": "é\u2028"}])
    seal()

    assert numbers()[-1] == 4
    assert seals.broken() == []


def test_an_entry_that_came_late_is_under_the_next_seal():
    act(2)
    late = AuditEntry.objects.order_by("pk").first()
    AuditEntry.objects.filter(pk=late.pk).delete()
    seal()
    late.save(force_insert=True)  # a transaction that took longer than those that began after it
    seal()

    assert numbers() == [2, 1]
    assert seals.broken() == []


TAMPERS = {
    "who": lambda rows: rows.filter(seal=2).update(who="user:eve"),
    "when": lambda rows: rows.filter(seal=2).update(at=F("at") + timedelta(microseconds=1)),
    "count": lambda rows: rows.filter(seal=2).update(count=F("count") + 1),
    "detail": lambda rows: rows.filter(seal=2).update(detail={"a": 1}),
    "imported": lambda rows: rows.filter(seal=2).update(is_imported=True),
    "one gone": lambda rows: rows.filter(pk=rows.filter(seal=2).first().pk).delete(),
    "all gone": lambda rows: rows.filter(seal=2).delete(),
    "one more": lambda rows: rows.filter(seal=None).update(seal=2),
    "moved": lambda rows: rows.filter(pk=rows.filter(seal=2).first().pk).update(seal=1),
    "unsealed": lambda rows: rows.filter(pk=rows.filter(seal=2).first().pk).update(seal=None),
    "seal gone": lambda rows: AuditSeal.objects.filter(number=2).delete(),
    "seal and all": lambda rows: (
        AuditSeal.objects.filter(number=2).delete(),
        rows.filter(seal=2).delete(),
    ),
    "beginning gone": lambda rows: (
        AuditSeal.objects.filter(number=1).delete(),
        rows.filter(seal=1).delete(),
    ),
    "marked as pruned": lambda rows: AuditSeal.objects.filter(number=2).update(is_pruned=True),
    "recreated": lambda rows: (
        rows.filter(seal=2).update(who="user:eve"),
        AuditSeal.objects.filter(number=2).update(
            digest=seals.digest_of(
                2,
                AuditSeal.objects.get(number=1).digest,
                AuditEntry.objects.filter(seal=2).order_by("id"),
            )
        ),
    ),
}


@pytest.mark.parametrize("how", TAMPERS)
def test_what_is_changed_afterwards_is_seen(how):
    act(9)
    seal()
    act(1)
    TAMPERS[how](AuditEntry.objects.all())

    assert seals.broken()


def test_crewcheck_proves_it():
    act(4)
    seal()
    out = StringIO()
    call_command("crewcheck", stdout=out)
    assert "ok audit_seal" in out.getvalue()

    AuditEntry.objects.filter(seal=1).update(target="other")
    with pytest.raises(CommandError, match="audit_seal"):
        call_command("crewcheck", stdout=out)
    assert "seal 1" in out.getvalue()


def test_what_is_pruned_leaves_the_rest_provable():
    act(8)
    seal()
    age(seal__lte=2)
    assert seals.broken() == []
    assert expired_rows.prune()["audit"] == 6
    assert numbers() == [3, 3]
    assert seals.broken() == []
    act(1)
    seal()
    age()
    assert expired_rows.prune()["audit"] == 3
    assert AuditSeal.objects.count() == 1  # what the next one follows
    act(1)
    seal()
    assert numbers() == [5]
    assert seals.broken() == []


def test_a_seal_with_a_young_entry_stays_whole():
    act(6)
    seal()
    age(pk=AuditEntry.objects.first().pk)
    assert expired_rows.prune()["audit"] == 0
    assert seals.broken() == []


def test_the_user_of_an_entry_may_go(django_user_model):
    user = django_user_model.objects.create_user("bob")
    with audit.by("user:bob", user=user):
        audit.record("pause", audit.Kind.GROUP, "g", group_id="g")
    seal()
    user.delete()

    assert AuditEntry.objects.get().user_id is None
    assert seals.broken() == []


def test_no_act_waits_for_a_seal(django_assert_num_queries):
    with django_assert_num_queries(1), transaction.atomic(savepoint=False):
        act()


def test_the_newest_seal_is_logged(caplog):
    act()
    with caplog.at_level("INFO", "crew.upkeep.seals"):
        seal()

    assert f"up to seal 1: {AuditSeal.objects.get().digest}" in caplog.text


def test_old_entries_without_a_seal_go_too():
    act(2)
    AuditEntry.objects.update(at=Now() - timedelta(days=500))

    assert audit.prune(10) == 2
