"""Rollouts: deployments that change in phases, each with gates, and that go back by themselves."""

from edgeward_coordinator.rollouts.phases import describe_phase
from edgeward_coordinator.rollouts.plan import DEFAULT_PLAN_TOML, Plan
from edgeward_coordinator.rollouts.rollout import (
    DeviceState,
    GateResult,
    GateState,
    PhaseRecord,
    Rollout,
    RolloutDevice,
    RolloutState,
)
from edgeward_coordinator.rollouts.rollouts import Rollouts, RolloutView

__all__ = [
    "DEFAULT_PLAN_TOML",
    "DeviceState",
    "GateResult",
    "GateState",
    "PhaseRecord",
    "Plan",
    "Rollout",
    "RolloutDevice",
    "RolloutState",
    "RolloutView",
    "Rollouts",
    "describe_phase",
]
