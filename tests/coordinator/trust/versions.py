"""Versions to approve, made without running a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward_coordinator.registry import Lineage
from tests.registrations import ACTOR, make_flavor

if TYPE_CHECKING:
    from edgeward_coordinator.registry import ModelVersion, Registry


def add_version(registry: Registry, model: str, *, by: str = ACTOR, content: bytes = b"") -> ModelVersion:
    """The next version of a model, with one flavor "onnx-int8"."""
    flavor = make_flavor(registry, content=content)
    return registry._insert_version(model, flavor, Lineage(), actor=by)
