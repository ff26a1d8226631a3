"""How a device becomes a member: tokens, and what spends them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from edgeward_coordinator.errors import CoordinatorError, InvalidArgument, Unauthenticated
from edgeward_coordinator.fleet.enrollment import device_id_of
from edgeward_coordinator.identity import PeerKind, read_peer_certificate
from edgeward_coordinator.storage import AuditLog, Database, schema
from tests.coordinator.fleet.joining import make_token
from tests.csr import make_csr, make_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeward_coordinator.fleet import Fleet
    from tests.conftest import SetClock


def _uses_left(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(select(schema.enrollment_token.c.uses_left)).scalar_one())


def test_a_device_joins_the_group_of_its_token(fleet: Fleet) -> None:
    """And is who its certificate says."""
    secret = make_token(fleet, group="lab")
    enrolled = fleet.enroll(secret=secret, csr_pem=make_csr(), name="edge-1", labels={"room": "12"})
    peer = read_peer_certificate(enrolled.certificate.pem)
    assert (peer.kind, peer.id, peer.serial) == (PeerKind.DEVICE, enrolled.device_id, enrolled.certificate.serial)
    device = fleet.get_device("edge-1")
    assert (device.id, device.group, device.labels) == (enrolled.device_id, "lab", {"room": "12"})
    assert fleet.authenticate_device(peer.id, peer.serial).group == "lab"


def test_a_token_says_what_it_is_good_for(fleet: Fleet, clock: SetClock) -> None:
    """Its secret carries 256 random bits and is told apart from an operator's by its first letters."""
    token, secret = fleet.create_enrollment_token(group="lab", uses=3, expires_in=timedelta(hours=1), actor="alice")
    assert (token.group, token.uses_total, token.uses_left) == ("lab", 3, 3)
    assert (token.expires_at, token.created_by) == (clock.now + timedelta(hours=1), "alice")
    assert secret.startswith("ewe_")
    assert len(secret) == 4 + 43


def test_the_secret_is_stored_nowhere(fleet: Fleet, database: Database) -> None:
    """Neither in its table nor in the audit log."""
    secret = make_token(fleet)
    fleet.enroll(secret=secret, csr_pem=make_csr(), name="edge-1", labels={})
    tables = (schema.enrollment_token, schema.device, schema.audit_entry)
    with database.read() as connection:
        stored = repr([connection.execute(select(table)).all() for table in tables])
    assert "edge-1" in stored
    assert secret not in stored


@pytest.mark.parametrize(
    ("group", "uses", "expires_in"),
    [
        ("", 1, timedelta(hours=1)),
        ("a b", 1, timedelta(hours=1)),
        ("lab", 0, timedelta(hours=1)),
        ("lab", -1, timedelta(hours=1)),
        ("lab", 10**9, timedelta(hours=1)),
        ("lab", 1, timedelta()),
        ("lab", 1, timedelta(days=1000)),
    ],
    ids=["no-group", "space", "no-uses", "negative", "too-many", "no-time", "too-long"],
)
def test_a_token_that_makes_no_sense_is_refused(fleet: Fleet, group: str, uses: int, expires_in: timedelta) -> None:
    """With the value and the bound."""
    with pytest.raises(InvalidArgument):
        make_token(fleet, group=group, uses=uses, expires_in=expires_in)


def test_a_token_is_spent_after_its_uses(fleet: Fleet) -> None:
    """The message says that it was right once, and for how many."""
    secret = make_token(fleet, uses=2)
    for name in ("edge-1", "edge-2"):
        fleet.enroll(secret=secret, csr_pem=make_csr(), name=name, labels={})
    with pytest.raises(Unauthenticated, match="spent: it was good for 2 devices"):
        fleet.enroll(secret=secret, csr_pem=make_csr(), name="edge-3", labels={})
    assert len(fleet.list_devices()) == 2


def test_an_expired_token_says_since_when(fleet: Fleet, clock: SetClock) -> None:
    """It works to its last moment and not after."""
    secret = make_token(fleet, uses=5, expires_in=timedelta(hours=1))
    clock.advance(timedelta(hours=1, microseconds=-1))
    fleet.enroll(secret=secret, csr_pem=make_csr(), name="edge-1", labels={})
    clock.advance(timedelta(microseconds=1))
    with pytest.raises(Unauthenticated, match="expired at 2026-01-01 13:00 UTC"):
        fleet.enroll(secret=secret, csr_pem=make_csr(), name="edge-2", labels={})


def test_an_unknown_token_is_refused_as_that(fleet: Fleet) -> None:
    """One of another coordinator, or mistyped."""
    with pytest.raises(Unauthenticated, match="does not know this enrollment token"):
        fleet.enroll(secret="ewe_" + "x" * 43, csr_pem=make_csr(), name="edge-1", labels={})


@pytest.mark.parametrize("secret", ["", "ewt_" + "x" * 43, "ewe_" + "x" * 5000], ids=["empty", "operators", "long"])
def test_what_is_no_token_is_refused_as_that(fleet: Fleet, secret: str) -> None:
    """An operator's token in the wrong place is the most likely."""
    with pytest.raises(Unauthenticated, match="not an enrollment token"):
        fleet.enroll(secret=secret, csr_pem=make_csr(), name="edge-1", labels={})


@pytest.mark.parametrize(
    ("name", "csr_pem", "labels"),
    [
        ("", None, {}),
        ("edge 1", None, {}),
        ("x" * 65, None, {}),
        ("edge-1", b"garbage", {}),
        ("edge-1", None, {"": "x"}),
        ("edge-1", None, {"room": "a\nb"}),
        ("edge-1", None, {"room": "x" * 129}),
        ("edge-1", None, {f"key-{number}": "x" for number in range(65)}),
    ],
    ids=["no-name", "space", "long-name", "no-csr", "no-key", "control-character", "long-value", "many-labels"],
)
def test_a_bad_request_spends_nothing(
    fleet: Fleet, database: Database, name: str, csr_pem: bytes | None, labels: Mapping[str, str]
) -> None:
    """The operator need not make a new token because of a typing mistake."""
    secret = make_token(fleet)
    with pytest.raises(InvalidArgument):
        fleet.enroll(secret=secret, csr_pem=csr_pem or make_csr(), name=name, labels=labels)
    assert _uses_left(database) == 1
    assert fleet.list_devices() == []


def test_devices_at_once_share_the_uses_exactly(fleet: Fleet, database: Database) -> None:
    """Of twenty at the same time, seven uses let in seven, and each was told the truth."""
    secret = make_token(fleet, uses=7)
    requests = [make_csr() for _ in range(20)]

    def enroll(number: int) -> str:
        try:
            return fleet.enroll(secret=secret, csr_pem=requests[number], name=f"edge-{number}", labels={}).device_id
        except Unauthenticated:
            return ""

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(enroll, range(20)))
    let_in = {device_id for device_id in outcomes if device_id}
    assert len(let_in) == 7
    assert {device.id for device in fleet.list_devices()} == let_in
    assert _uses_left(database) == 0


def test_a_device_whose_answer_was_lost_asks_again(fleet: Fleet, database: Database) -> None:
    """The same token and key are the same device: no second use is spent, and both certificates open the door."""
    secret, csr_pem = make_token(fleet), make_csr()
    lost = fleet.enroll(secret=secret, csr_pem=csr_pem, name="edge-1", labels={})
    again = fleet.enroll(secret=secret, csr_pem=csr_pem, name="edge-1", labels={})
    assert again.device_id == lost.device_id
    assert again.certificate.serial != lost.certificate.serial
    assert _uses_left(database) == 0
    assert len(fleet.list_devices()) == 1
    for enrolled in (lost, again):
        fleet.authenticate_device(enrolled.device_id, enrolled.certificate.serial)


def test_a_device_that_asks_twice_at_once_is_one(fleet: Fleet, database: Database) -> None:
    """A client that gave up waiting and tried again meets its first call."""
    secret, csr_pem = make_token(fleet, uses=5), make_csr()

    def enroll(_: int) -> str:
        return fleet.enroll(secret=secret, csr_pem=csr_pem, name="edge-1", labels={}).device_id

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(enroll, range(6)))) == 1
    assert _uses_left(database) == 4


def test_a_revoked_device_does_not_come_back_with_its_old_key(fleet: Fleet) -> None:
    """Not even while its token is good; with a new key it is a new device."""
    secret, key = make_token(fleet, uses=2), make_key()
    enrolled = fleet.enroll(secret=secret, csr_pem=make_csr(key), name="edge-1", labels={})
    fleet.revoke(enrolled.device_id, reason="stolen", actor="alice")
    with pytest.raises(Unauthenticated, match="revoked"):
        fleet.enroll(secret=secret, csr_pem=make_csr(key), name="edge-1", labels={})
    anew = fleet.enroll(secret=secret, csr_pem=make_csr(), name="edge-1", labels={})
    assert anew.device_id != enrolled.device_id
    assert fleet.resolve("edge-1") == anew.device_id


def test_a_device_id_is_a_flower_node_id() -> None:
    """16 hexadecimal digits, hence 64 bits, and the same question gives the same answer."""
    ids = {device_id_of(token_id="a", key_fingerprint=str(number)) for number in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 16 and 1 < int(each, 16) < 2**64 for each in ids)
    assert device_id_of(token_id="a", key_fingerprint="0") in ids
    assert device_id_of(token_id="b", key_fingerprint="0") not in ids


def test_enrollment_is_audited(fleet: Fleet, database: Database) -> None:
    """With the token by which the device came."""
    token, secret = fleet.create_enrollment_token(group="lab", uses=1, expires_in=timedelta(hours=1), actor="alice")
    enrolled = fleet.enroll(secret=secret, csr_pem=make_csr(), name="edge-1", labels={})
    entries = AuditLog(database).entries(after=0, limit=9)
    assert [(each.actor, each.action, each.subject) for each in entries] == [
        ("alice", "enrollment_token.create", token.id),
        (f"enrollment token {token.id}", "device.enroll", enrolled.device_id),
    ]


def _unknown_token(fleet: Fleet) -> None:
    fleet.enroll(secret="ewe_" + "x" * 43, csr_pem=make_csr(), name="edge-1", labels={})


def _no_csr(fleet: Fleet) -> None:
    fleet.enroll(secret=make_token(fleet), csr_pem=b"", name="edge-1", labels={})


@pytest.mark.parametrize("refused", [_unknown_token, _no_csr], ids=["unknown-token", "no-csr"])
def test_each_refusal_says_what_to_do(fleet: Fleet, refused: Callable[[Fleet], None]) -> None:
    """A hint goes with the sentence."""
    with pytest.raises(CoordinatorError) as caught:
        refused(fleet)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
