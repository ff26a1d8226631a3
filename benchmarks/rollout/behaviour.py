"""How a version behaves on the devices of the scenario, which have no runtime: what its users would have counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Of each call; `crashes`: processes that have it in memory die."""

    latency_s: float = 0.002
    accuracy: float = 0.95
    crashes: bool = False


GOOD = Behaviour()
WRONG = Behaviour(accuracy=0.5)
SLOW = Behaviour(latency_s=0.02)
CRASHING = Behaviour(crashes=True)
