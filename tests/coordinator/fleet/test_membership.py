"""Letting devices in, renewing, revoking."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument, NotFound, Unauthenticated
from edgeward_coordinator.storage import AuditLog, Database
from tests.coordinator.fleet.joining import join
from tests.csr import make_csr

if TYPE_CHECKING:
    from edgeward_coordinator.fleet import Fleet
    from tests.conftest import SetClock


def test_a_renewed_device_has_two_keys_to_the_door(fleet: Fleet) -> None:
    """The old certificate is good until the new one is used: the answer may be lost on its way."""
    device = join(fleet)
    renewed = fleet.renew(device.id, make_csr())
    assert renewed.serial != device.serial
    for _ in range(2):
        fleet.authenticate_device(device.id, device.serial)
    fleet.authenticate_device(device.id, renewed.serial)


def test_the_old_certificate_ends_with_the_first_use_of_the_new(fleet: Fleet) -> None:
    """From then on whoever shows it has stolen it."""
    device = join(fleet)
    renewed = fleet.renew(device.id, make_csr())
    fleet.authenticate_device(device.id, renewed.serial)
    with pytest.raises(Unauthenticated, match=r"edge-1.*superseded"):
        fleet.authenticate_device(device.id, device.serial)
    fleet.authenticate_device(device.id, renewed.serial)
    assert fleet.get_device(device.id).certificate_not_after == renewed.not_after


def test_a_renewal_that_was_lost_is_replaced_by_the_next(fleet: Fleet) -> None:
    """Of two renewals in a row the later counts."""
    device = join(fleet)
    lost, kept = fleet.renew(device.id, make_csr()), fleet.renew(device.id, make_csr())
    with pytest.raises(Unauthenticated, match="superseded"):
        fleet.authenticate_device(device.id, lost.serial)
    fleet.authenticate_device(device.id, device.serial)
    fleet.authenticate_device(device.id, kept.serial)


def test_a_device_renews_again_and_again(fleet: Fleet, clock: SetClock) -> None:
    """For years."""
    device = join(fleet)
    for _ in range(5):
        clock.advance(timedelta(days=60))
        renewed = fleet.renew(device.id, make_csr())
        assert renewed.not_after == clock.now + timedelta(days=90)
        fleet.authenticate_device(device.id, renewed.serial)


def test_an_expired_certificate_is_refused_on_an_open_connection(fleet: Fleet, clock: SetClock) -> None:
    """TLS looked when the connection opened, months ago."""
    device = join(fleet)
    clock.advance(timedelta(days=90, microseconds=-1))
    fleet.authenticate_device(device.id, device.serial)
    clock.advance(timedelta(microseconds=1))
    with pytest.raises(Unauthenticated, match="expired at 2026-04-01 12:00 UTC"):
        fleet.authenticate_device(device.id, device.serial)


def test_a_foreign_serial_is_refused(fleet: Fleet) -> None:
    """One that the CA signed for another device, say."""
    device, other = join(fleet), join(fleet, "edge-2")
    for serial in (other.serial, "", "0"):
        with pytest.raises(Unauthenticated):
            fleet.authenticate_device(device.id, serial)


def test_an_unknown_device_is_refused(fleet: Fleet) -> None:
    """One whose coordinator lost its database."""
    with pytest.raises(Unauthenticated, match="no device '0123456789abcdef' is in this fleet"):
        fleet.authenticate_device("0123456789abcdef", "1")
    with pytest.raises(Unauthenticated):
        fleet.renew("0123456789abcdef", make_csr())


def test_renewing_needs_a_request(fleet: Fleet) -> None:
    """A bad one changes nothing."""
    device = join(fleet)
    with pytest.raises(InvalidArgument):
        fleet.renew(device.id, b"garbage")
    fleet.authenticate_device(device.id, device.serial)


def test_a_revoked_device_is_out(fleet: Fleet, clock: SetClock) -> None:
    """It is refused at its next call, by the old and a renewed certificate, and can't renew."""
    device = join(fleet)
    renewed = fleet.renew(device.id, make_csr())
    assert fleet.revoke("edge-1", reason="stolen", actor="alice") == device.id
    for serial in (device.serial, renewed.serial):
        with pytest.raises(Unauthenticated, match=r"edge-1.*was revoked at 2026-01-01 12:00 UTC"):
            fleet.authenticate_device(device.id, serial)
    with pytest.raises(Unauthenticated, match="revoked"):
        fleet.renew(device.id, make_csr())
    assert fleet.get_device(device.id).revoked_at == clock.now


def test_revoking_is_audited_with_its_reason(fleet: Fleet, database: Database) -> None:
    """However long it is."""
    device = join(fleet)
    fleet.revoke(device.id, reason="stolen " * 200, actor="bob")
    entry = AuditLog(database).entries(after=2, limit=1)[0]
    assert (entry.actor, entry.action, entry.subject) == ("bob", "device.revoke", device.id)
    assert "stolen" in entry.detail


def test_revoking_twice_says_since_when(fleet: Fleet, clock: SetClock) -> None:
    """The first instant stays."""
    device = join(fleet)
    fleet.revoke(device.id, reason="", actor="alice")
    clock.advance(timedelta(hours=1))
    with pytest.raises(FailedPrecondition, match="already revoked at 2026-01-01 12:00 UTC"):
        fleet.revoke(device.id, reason="", actor="alice")


def test_revoking_what_does_not_exist_is_not_found(fleet: Fleet) -> None:
    """By name."""
    with pytest.raises(NotFound, match="edge-9"):
        fleet.revoke("edge-9", reason="", actor="alice")


def test_other_coordinators_learn_of_revocations(fleet: Fleet, clock: SetClock) -> None:
    """By asking what was revoked since they looked last."""
    first, second, _ = join(fleet, "edge-1"), join(fleet, "edge-2"), join(fleet, "edge-3")
    start = clock.now
    fleet.revoke(first.id, reason="", actor="alice")
    clock.advance(timedelta(seconds=10))
    fleet.revoke(second.id, reason="", actor="alice")
    assert fleet.revoked_since(start) == sorted([first.id, second.id])
    assert fleet.revoked_since(start + timedelta(seconds=1)) == [second.id]
    assert fleet.revoked_since(clock.now + timedelta(seconds=1)) == []
