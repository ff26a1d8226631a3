"""Bytes that are no patch for this base: an error of ours, nothing left behind, never more written than allowed."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeward.protocol.errors import WireError
from edgeward_compression.patches import PatchError, apply_patch, make_patch
from edgeward_compression.patches.format import Header, encode_varint
from tests.compression.patches.model_files import onnx_model

if TYPE_CHECKING:
    from pathlib import Path

HEADER_BYTES = 20
ZEROS = 5 * encode_varint(0)


class Bench:
    """A base, and patches to be tried on it."""

    def __init__(self, folder: Path) -> None:
        self.base, self.patch, self.out = (folder / name for name in ("base", "patch", "out"))
        rng = np.random.default_rng(0)
        before = rng.normal(size=3000).astype(np.float32)
        after = (before.view(np.uint32) + rng.integers(0, 2**18, 3000, np.uint32)).view(np.float32)
        self.base.write_bytes(onnx_model({"a": before, "b": np.zeros(100, np.int8)}))
        self.target = onnx_model({"a": after, "extra": after[:40], "b": np.arange(100, dtype=np.int8)})
        target = folder / "target"
        target.write_bytes(self.target)
        make_patch(self.base, target, self.patch)
        self.good = self.patch.read_bytes()

    def apply(self, patch: bytes, *, max_bytes: int = 1 << 20) -> bytes:
        """What the patch makes."""
        self.patch.write_bytes(patch)
        apply_patch(self.base, self.patch, self.out, max_bytes=max_bytes)
        return self.out.read_bytes()

    def try_hostile(self, patch: bytes, *, max_bytes: int = 1 << 20) -> None:
        """It is refused and leaves nothing, or what it makes is within the limit."""
        try:
            assert len(self.apply(patch, max_bytes=max_bytes)) <= max_bytes
        except PatchError:
            assert not self.out.exists()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One base for all."""
    return Bench(tmp_path_factory.mktemp("bench"))


def test_good_patch_has_every_kind_of_segment(bench: Bench) -> None:
    """What the other tests damage: copies, differences in dense and sparse planes, literals with a dictionary."""
    assert bench.apply(bench.good) == bench.target
    assert bench.good.startswith(b"EWP1")


@given(garbage=st.binary(max_size=200))
def test_garbage(bench: Bench, garbage: bytes) -> None:
    """Bytes of no meaning are refused."""
    with pytest.raises(PatchError):
        bench.apply(garbage)
    assert not bench.out.exists()


@given(garbage=st.binary(max_size=200), target_bytes=st.integers(0, 1 << 21))
@example(garbage=b"", target_bytes=1)
def test_garbage_behind_a_good_header(bench: Bench, garbage: bytes, target_bytes: int) -> None:
    """Nor does it help to begin like a patch."""
    header = Header(base_bytes=bench.base.stat().st_size, target_bytes=target_bytes).encode()
    bench.try_hostile(header + garbage)


def test_truncated_anywhere(bench: Bench) -> None:
    """A patch that ends early, wherever, is refused."""
    steps = [*range(200), *range(200, len(bench.good), 97), len(bench.good) - 1]
    for length in steps:
        with pytest.raises(PatchError):
            bench.apply(bench.good[:length])


@given(at=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_flipped_bit(bench: Bench, at: int, bit: int) -> None:
    """Whatever a bit turns into, it is refused or makes other bytes of a bounded length."""
    damaged = bytearray(bench.good)
    damaged[at % len(damaged)] ^= 1 << bit
    bench.try_hostile(bytes(damaged), max_bytes=len(bench.target))


@given(at=st.integers(HEADER_BYTES, HEADER_BYTES + 40), value=st.binary(min_size=1, max_size=9))
def test_damaged_group_header(bench: Bench, at: int, value: bytes) -> None:
    """The lengths of streams and of the dictionary are where most harm could be done."""
    damaged = bench.good[:at] + value + bench.good[at + len(value) :]
    bench.try_hostile(damaged, max_bytes=len(bench.target))


def test_trailing_bytes(bench: Bench) -> None:
    """A patch that goes on is none."""
    with pytest.raises(PatchError, match="goes on past its end"):
        bench.apply(bench.good + b"x")


def test_target_beyond_the_limit(bench: Bench) -> None:
    """The limit is looked at before a byte is written."""
    with pytest.raises(PatchError, match=f"makes {len(bench.target)} bytes, at most 100 "):
        bench.apply(bench.good, max_bytes=100)
    assert not bench.out.exists()


def test_other_base(bench: Bench, tmp_path: Path) -> None:
    """A base of another length is noticed here; of the same length, by the target's digest."""
    other = tmp_path / "other"
    other.write_bytes(b"other")
    bench.patch.write_bytes(bench.good)
    with pytest.raises(PatchError, match="this one has 5"):
        apply_patch(other, bench.patch, bench.out, max_bytes=1 << 20)


def test_claim_of_many_groups(bench: Bench) -> None:
    """A group may not be small where much is missing: groups of a byte would cost a dictionary each."""
    header = Header(base_bytes=bench.base.stat().st_size, target_bytes=1 << 20).encode()
    group = encode_varint(1) + encode_varint(0) + ZEROS
    with pytest.raises(PatchError, match="a group of the patch makes 1 bytes"):
        bench.apply(header + group)


def test_frame_that_claims_more_than_it_should(bench: Bench) -> None:
    """The decompressor makes room for what a frame claims, so the claim is compared first."""
    header = Header(base_bytes=bench.base.stat().st_size, target_bytes=100).encode()
    sizes = encode_varint(0) * 4 + encode_varint(100) + encode_varint(20)
    # A frame header of a single segment with eight bytes of content size, 1 TiB.
    frame = (bytes([0b1110_0000]) + struct.pack("<Q", 1 << 40)).ljust(20, b"\0")
    with pytest.raises(PatchError, match=f"makes {1 << 40} bytes, not 100"):
        bench.apply(header + encode_varint(100) + encode_varint(0) + sizes + frame)


@pytest.mark.parametrize("step", [1 << 40, (1 << 41) + 1, 1], ids=["past the end", "before the front", "just before"])
def test_region_outside_the_base(bench: Bench, step: int) -> None:
    """A copy from where the base is not."""
    header = Header(base_bytes=bench.base.stat().st_size, target_bytes=100).encode()
    table = encode_varint(0) + encode_varint(100) + encode_varint(step)
    sizes = encode_varint(len(table)) * 2 + encode_varint(0) * 4
    with pytest.raises(PatchError, match="asks for bytes"):
        bench.apply(header + encode_varint(100) + encode_varint(0) + sizes + table)


def test_error_is_of_the_decoders_family() -> None:
    """Whoever catches the errors of foreign bytes catches this one."""
    assert issubclass(PatchError, WireError)
