"""The check's patience: what was cut short is tried again, what is wrong is refused at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeward_agent.artifacts import FetchInterrupted, InstallError, probe_check

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.models_on_disk import ArtifactSource

AT_ONCE_S = 0.001


async def test_a_probe_that_is_cut_short_is_refused_at_the_third_time(source: ArtifactSource, tmp_path: Path) -> None:
    """A machine under load is not the model's fault; a model that never ends is."""
    flavor = source.make_flavor(tmp_path)
    path = tmp_path / "2.0.onnx"
    check = probe_check(timeout_s=AT_ONCE_S)
    for _ in range(2):
        with pytest.raises(FetchInterrupted, match="onnx-fp32 is checked again: the model did not open"):
            await check(path, flavor, None)
    with pytest.raises(InstallError, match=r"onnx-fp32 does not run here: .*, 3 times in a row"):
        await check(path, flavor, None)


async def test_each_artifact_is_counted_alone(source: ArtifactSource, tmp_path: Path) -> None:
    """What was cut short of one says nothing of another."""
    flavors = [source.make_flavor(tmp_path, factor=float(factor)) for factor in range(1, 5)]
    check = probe_check(timeout_s=AT_ONCE_S)
    for factor, flavor in enumerate(flavors, start=1):
        with pytest.raises(FetchInterrupted):
            await check(tmp_path / f"{float(factor)}.onnx", flavor, None)


async def test_a_model_that_does_not_open_is_refused_at_once(source: ArtifactSource, tmp_path: Path) -> None:
    """Another attempt would say the same."""
    flavor = replace(source.make_flavor(tmp_path), golden_digest=None, golden_bytes=0)
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08 no model")
    with pytest.raises(InstallError, match="onnx-fp32 does not run here"):
        await probe_check()(path, flavor, None)
