"""Models: artifacts by digest, immutable versions with lineage, flavors, golden sets."""

from edgeward_coordinator.registry.registry import Registry
from edgeward_coordinator.registry.version import (
    ARRAYS_FLAVOR,
    Evaluation,
    Lineage,
    ModelSummary,
    ModelVersion,
    RegisteredFlavor,
    RegisteredPatch,
    in_order_of_preference,
)

__all__ = [
    "ARRAYS_FLAVOR",
    "Evaluation",
    "Lineage",
    "ModelSummary",
    "ModelVersion",
    "RegisteredFlavor",
    "RegisteredPatch",
    "Registry",
    "in_order_of_preference",
]
