"""Renewal by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from edgeward_agent.backoff import Backoff, BackoffLimits
from edgeward_agent.errors import Interrupted
from edgeward_agent.identity import Identity, IdentityStore, IssuedCredential, Renewer, renewal_due_at
from tests.agent.enrolled import enroll_device
from tests.agent.simulator import SimulatedCA, SimulatedCoordinator
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import SetClock


class Issuer:
    """The coordinator's part of a renewal, as the link shows it; fails so many times first."""

    def __init__(self, ca: SimulatedCA, identity: Identity, *, failures: int = 0) -> None:
        self.ca = ca
        self.in_use = identity
        self.failures = failures
        self.asked: list[bytes] = []
        self.adopted: list[Identity] = []

    async def request(self, csr_pem: bytes) -> IssuedCredential:
        """Sign, for a long life, so that the next renewal is far."""
        self.asked.append(csr_pem)
        if len(self.asked) <= self.failures:
            raise Interrupted("no connection")
        certificate_pem = self.ca.sign(csr_pem, common_name="device", lifetime=timedelta(days=1))
        return IssuedCredential(certificate_pem=certificate_pem, fleet_ca_pem=self.ca.certificate_pem)

    async def adopt(self, identity: Identity) -> None:
        """Note it."""
        self.in_use = identity
        self.adopted.append(identity)


def renewer(store: IdentityStore, issuer: Issuer, clock: SetClock) -> Renewer:
    return Renewer(
        store,
        in_use=lambda: issuer.in_use,
        request=issuer.request,
        adopt=issuer.adopt,
        backoff=Backoff(BackoffLimits(initial_s=0.01, maximum_s=0.02), rng=Random(1)),
        clock=clock,
    )


async def enrolled_store(tmp_path: Path) -> tuple[IdentityStore, Identity, SimulatedCA]:
    async with SimulatedCoordinator() as coordinator:
        identity = await enroll_device(coordinator, tmp_path)
    return IdentityStore(tmp_path / "identity"), identity, coordinator.ca


def test_renewal_is_due_at_two_thirds_of_the_life() -> None:
    """90 days: after 60."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    assert renewal_due_at(begin, begin + timedelta(days=90)) == begin + timedelta(days=60)


async def test_a_certificate_past_two_thirds_is_renewed_and_adopted(tmp_path: Path, clock: SetClock) -> None:
    """Once; after that it waits for the next time."""
    store, identity, ca = await enrolled_store(tmp_path)
    issuer = Issuer(ca, identity)
    clock.now = renewal_due_at(identity.not_before, identity.not_after)
    task = asyncio.create_task(renewer(store, issuer, clock).run())
    await wait_until_async(lambda: issuer.adopted)
    clock.now = datetime.now(UTC)
    (renewed,) = issuer.adopted
    assert renewed.key_pem != identity.key_pem
    assert store.load() == renewed
    task.cancel()
    await asyncio.wait([task])
    assert len(issuer.asked) == 1


async def test_a_young_certificate_is_left_alone(tmp_path: Path, clock: SetClock) -> None:
    """One moment before two thirds nothing is asked."""
    store, identity, ca = await enrolled_store(tmp_path)
    issuer = Issuer(ca, identity)
    clock.now = renewal_due_at(identity.not_before, identity.not_after) - timedelta(minutes=1)
    task = asyncio.create_task(renewer(store, issuer, clock).run())
    done, _ = await asyncio.wait([task], timeout=0.2)
    assert not done
    assert not issuer.asked
    task.cancel()
    await asyncio.wait([task])


async def test_a_clock_that_is_years_ahead_does_not_renew_without_end(tmp_path: Path, clock: SetClock) -> None:
    """By such a clock the new certificate, too, is past two thirds; it rests all the same."""
    store, identity, ca = await enrolled_store(tmp_path)
    issuer = Issuer(ca, identity)
    clock.now = identity.not_after + timedelta(days=1000)
    task = asyncio.create_task(renewer(store, issuer, clock).run())
    await wait_until_async(lambda: issuer.adopted)
    done, _ = await asyncio.wait([task], timeout=0.2)
    assert not done
    assert len(issuer.asked) == 1
    task.cancel()
    await asyncio.wait([task])


async def test_a_device_that_was_enrolled_anew_becomes_the_new_one(tmp_path: Path, clock: SetClock) -> None:
    """The agent that runs meanwhile takes the identity on disk, and renews nothing for it."""
    async with SimulatedCoordinator() as coordinator:
        first = await enroll_device(coordinator, tmp_path)
        second = await enroll_device(coordinator, tmp_path, force=True)
    issuer = Issuer(coordinator.ca, first)
    clock.now = second.not_before
    task = asyncio.create_task(renewer(IdentityStore(tmp_path / "identity"), issuer, clock).run())
    await wait_until_async(lambda: issuer.adopted)
    task.cancel()
    await asyncio.wait([task])
    assert issuer.adopted == [second]
    assert not issuer.asked


async def test_being_offline_when_it_is_due_only_delays_it(tmp_path: Path, clock: SetClock) -> None:
    """The same key is asked for again, until there is an answer."""
    store, identity, ca = await enrolled_store(tmp_path)
    issuer = Issuer(ca, identity, failures=3)
    clock.now = renewal_due_at(identity.not_before, identity.not_after)
    task = asyncio.create_task(renewer(store, issuer, clock).run())
    await wait_until_async(lambda: issuer.adopted)
    task.cancel()
    await asyncio.wait([task])
    assert len({csr_key(csr) for csr in issuer.asked[:4]}) == 1


def csr_key(csr_pem: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_pem_x509_csr(csr_pem).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
