"""Desired models with real bytes, a fetch that gives them and an authority that signs them, for tests of the loop."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from edgeward.protocol.digests import Digest, digest_of
from edgeward.protocol.model import Flavor, Signature
from edgeward.protocol.state import CandidateMode, DesiredCandidate, DesiredModel, DesiredState, ProbationRules
from edgeward.protocol.targets import SignedTarget
from edgeward_agent.artifacts import FetchInterrupted, InstallError
from edgeward_agent.trust import Untrusted

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Mapping

    from edgeward.protocol.golden import GoldenSet
    from edgeward.protocol.model import Format

NO_PROBATION = ProbationRules(duration=timedelta(0))


class Shelf:
    """The coordinator's artifacts, as a `Fetch`, a `Check` and an `Authorize` see them.

    Attributes:
        fetched: The flavors that were asked for, as "model:version:flavor".
        checked: Those that were tested.
        authorized: Those for which it was asked whether they are signed.
        is_offline: Whether no byte comes.
        refused: The flavors that compute wrong numbers.
        unsigned: The flavors that are in no signed metadata.
        needs: The least runtimes that are signed with each target.
        memory_bytes: What is signed as needed, with each target.
        holds: By model: in the middle of its downloads it is waited for this.
    """

    def __init__(self) -> None:
        self.artifacts: dict[Digest, bytes] = {}
        self.fetched: list[str] = []
        self.checked: list[str] = []
        self.authorized: list[str] = []
        self.is_offline = False
        self.refused: set[str] = set()
        self.unsigned: set[str] = set()
        self.needs: Mapping[str, str] = {}
        self.memory_bytes = 0
        self.holds: dict[str, asyncio.Event] = {}
        self._names: dict[Digest, str] = {}

    def desired_model(
        self,
        model: str,
        version: int,
        *names: str,
        release: int = 0,
        probation: ProbationRules = NO_PROBATION,
        candidate: DesiredCandidate | None = None,
    ) -> DesiredModel:
        """A version with these flavors, on the shelf."""
        return DesiredModel(
            model=model,
            version=version,
            flavors=self._flavors(model, version, names),
            release=release,
            probation=probation,
            candidate=candidate,
        )

    def candidate(
        self,
        model: str,
        version: int,
        *names: str,
        mode: CandidateMode = CandidateMode.SHADOW,
        share: float = 0.0,
    ) -> DesiredCandidate:
        """A candidate with these flavors, on the shelf."""
        return DesiredCandidate(version=version, flavors=self._flavors(model, version, names), mode=mode, share=share)

    async def authorize(self, model: str, version: int, flavor: Flavor) -> SignedTarget:
        """Signs for all but what is `unsigned`."""
        name = self._names[flavor.digest]
        self.authorized.append(name)
        if name in self.unsigned:
            raise Untrusted(f"{name} is in no signed metadata")
        return SignedTarget(
            model=model, version=version, flavor=flavor, runtimes=self.needs, memory_bytes=self.memory_bytes
        )

    async def fetch(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        """The first half, then the rest; before the rest it waits for what `holds` the model."""
        name = self._names[digest]
        self.fetched.append(name)
        if self.is_offline:
            raise FetchInterrupted("no network")
        data = self.artifacts[digest]
        middle = max(offset, len(data) // 2)
        if offset < middle:
            yield data[offset:middle]
        hold = self.holds.get(name.partition(":")[0])
        if hold is not None:
            await hold.wait()
        yield data[middle:]

    async def check(self, _path: object, flavor: Flavor, _golden: GoldenSet | None) -> None:
        """Refuses the flavors in `refused`."""
        name = self._names[flavor.digest]
        self.checked.append(name)
        if name in self.refused:
            raise InstallError(f"{flavor.name} computes wrong numbers")

    def _flavors(self, model: str, version: int, names: tuple[str, ...]) -> tuple[Flavor, ...]:
        return tuple(self._flavor(model, version, name) for name in names)

    def _flavor(self, model: str, version: int, name: str) -> Flavor:
        data = f"{model} {version} {name}".encode() * 100
        digest = digest_of(data)
        self.artifacts[digest] = data
        self._names[digest] = f"{model}:{version}:{name}"
        model_format: Format = "onnx" if name.startswith("onnx") else "tflite"
        return Flavor(
            name=name,
            format=model_format,
            precision="int8",
            digest=digest,
            total_bytes=len(data),
            golden_digest=None,
            golden_bytes=0,
            signature=Signature(inputs=(), outputs=()),
        )


def desired_state(generation: int, *models: DesiredModel) -> DesiredState:
    """In short."""
    return DesiredState(generation=generation, models=models)
