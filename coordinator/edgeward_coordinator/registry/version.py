"""What the registry holds of a model: numbered versions, where each comes from, and its flavors."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edgeward_coordinator.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from edgeward.protocol.digests import Digest
    from edgeward.protocol.model import Flavor, Precision

ARRAYS_FLAVOR: Final = "arrays-fp32"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# int16 activations come last although they are small: they run 7 to 37 times slower than fp32.
_PRECISIONS_BEST_FIRST: tuple[Precision, ...] = ("int8", "mixed", "fp16", "fp32", "int16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a version comes from; empty where it is not known.

    What an operator pushes carries what the operator says; `run_id` of a version
    with an "arrays-fp32" flavor was written by the coordinator.
    """

    parent_version: int = 0
    run_id: str = ""
    job_id: str = ""
    code_digest: str = ""
    data_digest: str = ""
    environment_digest: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How a flavor did on held-out data: share of right answers in [0, 1], seconds for one example.

    `examples` is 0 where there was no held-out data; then `accuracy` says nothing.
    """

    examples: int
    accuracy: float
    latency_p50_s: float
    runtime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredPatch:
    """Bytes that make an artifact out of another one, of the version `base_version` (0: not looked up)."""

    base_digest: Digest
    digest: Digest
    total_bytes: int
    base_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredFlavor:
    """A flavor, what was measured of it, and whether devices may run it.

    `created_by` pushed or trained it, or asked for the job that made it.
    Somebody approves it (`approved_at`, `approved_by`); it may be installed once
    the signed metadata in force says so (`signed_at`). `runtimes` are the least
    versions of the runtimes that can run it, found at its approval.
    """

    flavor: Flavor
    evaluation: Evaluation | None
    created_at: datetime
    created_by: str = ""
    approved_at: datetime | None = None
    approved_by: str = ""
    signed_at: datetime | None = None
    runtimes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_approved(self) -> bool:
        """Whether somebody approved it and nobody took that back."""
        return self.approved_at is not None

    @property
    def is_signed(self) -> bool:
        """Whether devices may install it: approved, and in the signed metadata in force."""
        return self.approved_at is not None and self.signed_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """An immutable state of a model; flavors may join it, none changes or leaves."""

    model: str
    number: int
    lineage: Lineage
    flavors: tuple[RegisteredFlavor, ...]
    created_at: datetime
    created_by: str

    def flavor(self, name: str) -> RegisteredFlavor | None:
        """The flavor of that name, None where there is none."""
        return next((registered for registered in self.flavors if registered.flavor.name == name), None)

    @property
    def runnable(self) -> tuple[Flavor, ...]:
        """What a device could run, best first."""
        return in_order_of_preference(self.flavors)

    @property
    def deployable(self) -> tuple[Flavor, ...]:
        """What a device can be offered, best first: what it could run and is signed."""
        return in_order_of_preference([each for each in self.flavors if each.is_signed])

    def verify_runnable(self) -> None:
        """Check that a device could run it.

        Raises:
            FailedPrecondition: It is only trained arrays.
        """
        if not self.runnable:
            raise FailedPrecondition(
                f"{self.model}:{self.number} is only trained arrays, which no device can run",
                hint=f"compress it first: edgeward models compress {self.model}:{self.number}",
            )

    def verify_deployable(self) -> None:
        """Check that it can be deployed.

        Raises:
            FailedPrecondition: No flavor of it can; the message says what to do about it.
        """
        self.verify_runnable()
        if self.deployable:
            return
        name = f"{self.model}:{self.number}"
        if not any(each.is_approved for each in self.flavors):
            raise FailedPrecondition(
                f"{name} is not approved", hint=f"approve it first: edgeward models approve {name}"
            )
        raise FailedPrecondition(
            f"{name} is approved and not signed yet: a signature of a key that is not on the coordinator is missing",
            hint="take it to that key: edgeward trust export, edgeward trust sign, edgeward trust import",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """A line of the list of models."""

    name: str
    newest_version: int
    created_at: datetime
    flavors: tuple[str, ...]


def verify_name(name: str, *, of: str) -> None:
    """Check the name of a model or a flavor; narrower than other names, for they also become names of files.

    Args:
        name: The name.
        of: What it names, for the message: "a model".

    Raises:
        InvalidArgument: It is none.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidArgument(
            f"{name[:80]!r} can't name {of}",
            hint="use 1 to 64 of a-z 0-9 . _ - and begin with a letter or a digit",
        )


def in_order_of_preference(flavors: Sequence[RegisteredFlavor]) -> tuple[Flavor, ...]:
    """The flavors that a device can run, the one to try first at the front.

    By precision, int8 first. Of equal precision the faster comes first where
    each was timed by the coordinator, else ONNX does. "arrays" is for training
    and compression: no device runs it.
    """
    ordered: list[Flavor] = []
    for precision in _PRECISIONS_BEST_FIRST:
        equals = [each for each in flavors if each.flavor.precision == precision and each.flavor.format != "arrays"]
        ordered += [each.flavor for each in _fastest_first(equals)]
    return tuple(ordered)


def _fastest_first(flavors: list[RegisteredFlavor]) -> list[RegisteredFlavor]:
    latencies = {each.flavor.name: _latency_s(each) for each in flavors}
    all_timed = all(math.isfinite(latency) for latency in latencies.values())
    return sorted(
        flavors,
        key=lambda each: (
            latencies[each.flavor.name] if all_timed else 0.0,
            each.flavor.format != "onnx",
            each.flavor.name,
        ),
    )


def _latency_s(registered: RegisteredFlavor) -> float:
    measured = registered.evaluation.latency_p50_s if registered.evaluation else 0.0
    return measured if measured > 0 else math.inf
