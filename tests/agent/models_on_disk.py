"""Tiny real models as flavors, and a source that gives their bytes piece by piece, with faults on request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgeward.protocol.digests import digest_of
from edgeward.protocol.golden import GoldenSet, encode_golden
from edgeward.protocol.model import Flavor, Format, Signature, TensorSpec
from edgeward_agent.artifacts import FetchInterrupted
from tests.tiny_models import WIDTH, write_onnx_scale, write_tflite_scale

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.tensors import Array
    from edgeward_agent.artifacts import SlotStore

X = np.arange(3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)


class ArtifactSource:
    """A small fake of the link's `fetch`: bytes by digest, in small pieces.

    Attributes:
        piece_bytes: How many bytes a piece has.
        asked: Each (digest, offset) that was asked for.
        stop_after: Bytes after which the stream is interrupted, once; None: never.
        end_after: Bytes after which the stream simply ends, once; None: never.
    """

    def __init__(self, *, piece_bytes: int = 16) -> None:
        self._content: dict[Digest, bytes] = {}
        self.piece_bytes = piece_bytes
        self.asked: list[tuple[Digest, int]] = []
        self.stop_after: int | None = None
        self.end_after: int | None = None

    def add(self, content: bytes) -> Digest:
        """Offer these bytes."""
        digest = digest_of(content)
        self._content[digest] = content
        return digest

    def content(self, digest: Digest) -> bytes:
        """What is offered under a digest."""
        return self._content[digest]

    def damage(self, digest: Digest, content: bytes) -> None:
        """Give other bytes under a digest."""
        self._content[digest] = content

    def make_flavor(
        self,
        folder: Path,
        *,
        factor: float = 2.0,
        golden_factor: float | None = None,
        format: Format = "onnx",  # noqa: A002 - the design's word
    ) -> Flavor:
        """A flavor of y = factor * x, with a golden set (of another factor on request)."""
        path = folder / f"{factor}.{format}"
        folder.mkdir(exist_ok=True)
        model = (write_onnx_scale if format == "onnx" else write_tflite_scale)(path, factor=factor).read_bytes()
        x = X if format == "onnx" else X[:1]
        want = golden_factor if golden_factor is not None else factor
        golden = encode_golden(GoldenSet(inputs={"x": x}, outputs={"y": x * np.float32(want)}, tolerance=1e-3))
        batch = None if format == "onnx" else 1
        return Flavor(
            name=f"{format}-fp32",
            format=format,
            precision="fp32",
            digest=self.add(model),
            total_bytes=len(model),
            golden_digest=self.add(golden),
            golden_bytes=len(golden),
            signature=Signature(
                inputs=(TensorSpec(name="x", dtype="float32", shape=(batch, WIDTH)),),
                outputs=(TensorSpec(name="y", dtype="float32", shape=(batch, WIDTH)),),
            ),
        )

    async def fetch(self, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        """The bytes from `offset` on."""
        self.asked.append((digest, offset))
        content = self._content[digest]
        sent = 0
        for start in range(offset, len(content), self.piece_bytes):
            if self.stop_after is not None and sent >= self.stop_after:
                self.stop_after = None
                raise FetchInterrupted("the link broke")
            if self.end_after is not None and sent >= self.end_after:
                self.end_after = None
                return
            piece = content[start : start + self.piece_bytes]
            sent += len(piece)
            yield piece


async def accept(_path: Path, _flavor: Flavor, _golden: GoldenSet | None) -> None:
    """A check that accepts all; for tests of what comes before and after it."""


async def install_scale(
    store: SlotStore, source: ArtifactSource, folder: Path, *, version: int, factor: float, model: str = "scale"
) -> Flavor:
    """Install y = factor * x as a version, unchecked."""
    flavor = source.make_flavor(folder, factor=factor)
    await store.install(model, version, flavor, fetch=source.fetch, check=accept)
    return flavor


def without_golden(flavor: Flavor) -> Flavor:
    """The same, shipped without a golden set."""
    return replace(flavor, golden_digest=None, golden_bytes=0)


def scaled(factor: float) -> Array:
    """What a model of this factor answers to X."""
    return X * np.float32(factor)
