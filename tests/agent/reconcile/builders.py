"""Desired models with real bytes, and a fetch that gives them, for the tests of the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.protocol.digests import Digest, digest_of
from edgeward.protocol.model import Flavor, Signature
from edgeward.protocol.state import DesiredModel, DesiredState
from edgeward_agent.artifacts import FetchInterrupted, InstallError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from edgeward.protocol.golden import GoldenSet
    from edgeward.protocol.model import Format


class Shelf:
    """The coordinator's artifacts, as a `Fetch` and a `Check` see them; what fails is set by attributes."""

    def __init__(self) -> None:
        self.artifacts: dict[Digest, bytes] = {}
        self.fetched: list[str] = []
        self.checked: list[str] = []
        self.is_offline = False
        self.refused: set[str] = set()
        self.hold: asyncio.Event | None = None
        self._names: dict[Digest, str] = {}

    def desired_model(self, model: str, version: int, *names: str) -> DesiredModel:
        """A version with these flavors, on the shelf."""
        return DesiredModel(
            model=model, version=version, flavors=tuple(self._flavor(model, version, name) for name in names)
        )

    async def fetch(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        """In two pieces; between them it waits for `hold`."""
        name = self._names[digest]
        self.fetched.append(name)
        if self.is_offline:
            raise FetchInterrupted("no network")
        data = self.artifacts[digest]
        middle = max(offset, len(data) // 2)
        yield data[offset:middle]
        if self.hold is not None:
            await self.hold.wait()
        yield data[middle:]

    async def check(self, _path: object, flavor: Flavor, _golden: GoldenSet | None) -> None:
        """Refuses the flavors in `refused`."""
        name = self._names[flavor.digest]
        self.checked.append(name)
        if name in self.refused:
            raise InstallError(f"{flavor.name} computes wrong numbers")

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
