"""From what should run to what runs: desired state in, one step a model at a time, reported state out.

`decision` is the rule of the steps, `probation` that of versions on trial,
`allowance` what the device's owner allows, `rests` what is left alone, `report`
what is said; all of these are pure. `Reconciler` and `ProbationKeeper` are the
loops around them, `DesiredStore` the memory that a boot without network starts from.
"""

from edgeward_agent.reconcile.decision import (
    DropCandidate,
    Install,
    Observed,
    Remove,
    Stage,
    Step,
    is_settled,
    next_steps,
)
from edgeward_agent.reconcile.desired_store import DesiredStore, StoredDesired
from edgeward_agent.reconcile.downloads import Downloads
from edgeward_agent.reconcile.installer import Authorize, Installer
from edgeward_agent.reconcile.keeper import ProbationKeeper
from edgeward_agent.reconcile.loop import Reconciler
from edgeward_agent.reconcile.probation import Commit, Progress, RollBack, Wait, judge_probation
from edgeward_agent.reconcile.report import describe_state
from edgeward_agent.reconcile.rests import Cause, Rest, Rests
from edgeward_agent.reconcile.turns import Turns

__all__ = [
    "Authorize",
    "Cause",
    "Commit",
    "DesiredStore",
    "Downloads",
    "DropCandidate",
    "Install",
    "Installer",
    "Observed",
    "ProbationKeeper",
    "Progress",
    "Reconciler",
    "Remove",
    "Rest",
    "Rests",
    "RollBack",
    "Stage",
    "Step",
    "StoredDesired",
    "Turns",
    "Wait",
    "describe_state",
    "is_settled",
    "judge_probation",
    "next_steps",
]
