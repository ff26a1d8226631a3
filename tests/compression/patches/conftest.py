"""A round trip through a patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from edgeward_compression.patches import apply_patch, make_patch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """A patch that was made and applied, and gave the target."""

    patch: bytes
    method: str
    target_bytes: int

    @property
    def share(self) -> float:
        """The patch's length over the target's."""
        return len(self.patch) / self.target_bytes


@pytest.fixture
def round_trip(tmp_path: Path) -> Callable[[bytes, bytes], RoundTrip]:
    """Make a patch, apply it, and see that the target comes out."""

    def go(base: bytes, target: bytes) -> RoundTrip:
        files = [tmp_path / name for name in ("base", "target", "patch", "out")]
        files[0].write_bytes(base)
        files[1].write_bytes(target)
        info = make_patch(*files[:3])
        apply_patch(files[0], files[2], files[3], max_bytes=len(target))
        assert files[3].read_bytes() == target
        patch = files[2].read_bytes()
        assert info.total_bytes == len(patch)
        for file in files:
            file.unlink()
        assert list(tmp_path.iterdir()) == []
        return RoundTrip(patch=patch, method=info.method, target_bytes=len(target))

    return go
