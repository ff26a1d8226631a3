"""A device's side of trust, ready to be lied to; and flavors to ask it about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from edgeward.protocol.digests import digest_of
from edgeward.protocol.model import Flavor, Signature, TensorSpec
from edgeward.protocol.targets import SignedTarget
from edgeward_agent.trust import Authority, TrustStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.trust.repository import SimulatedRepository

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)


def flavor_of(text: str = "model") -> Flavor:
    """A flavor whose bytes are this text."""
    spec = TensorSpec(name="x", dtype="float32", shape=(None, 4))
    return Flavor(
        name="onnx-fp32",
        format="onnx",
        precision="fp32",
        digest=digest_of(text.encode()),
        total_bytes=len(text),
        golden_digest=digest_of(b"golden"),
        golden_bytes=6,
        signature=Signature(inputs=(spec,), outputs=(replace(spec, name="y"),)),
    )


FLAVOR = flavor_of()


def target_of(model: str = "digits", version: int = 1, flavor: Flavor = FLAVOR) -> SignedTarget:
    """A target without special needs."""
    return SignedTarget(model=model, version=version, flavor=flavor)


@dataclass
class Device:
    """One that was enrolled with `repository`; its clock is set by hand."""

    folder: Path
    repository: SimulatedRepository
    now: datetime = NOON
    fresh_for: timedelta = timedelta(0)
    authority: Authority = field(init=False)

    def __post_init__(self) -> None:
        self.store.adopt_root(self.repository.roots[-1])
        self.restart()

    @property
    def store(self) -> TrustStore:
        """What it trusts."""
        return TrustStore(self.folder)

    @property
    def cache(self) -> Path:
        """Python-tuf's files."""
        return self.folder / "metadata"

    def restart(self) -> None:
        """As after a boot: only the disk is remembered."""
        self.authority = Authority(
            self.store,
            fetch_metadata=self._ask,
            clock=lambda: self.now,
            fresh_for=self.fresh_for,
        )

    async def authorize(self, model: str = "digits", version: int = 1, flavor: Flavor = FLAVOR) -> SignedTarget:
        """Ask."""
        return await self.authority.authorize(model, version, flavor)

    async def _ask(self, name: str, max_bytes: int) -> bytes | None:
        return await self.repository.fetch(name, max_bytes)

    def lose_cache(self) -> None:
        """What a power cut may do to files that nobody synced: all of them are empty."""
        for path in self.cache.rglob("*.json"):
            path.write_bytes(b"")
