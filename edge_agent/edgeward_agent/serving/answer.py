"""What a prediction gives back, and which version it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from edgeward.protocol.tensors import Array

Arm = Literal["active", "candidate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Each output by name; `arm` is "candidate" where a version on trial served this request."""

    outputs: dict[str, Array]
    model: str
    version: int
    flavor: str
    arm: Arm = "active"
