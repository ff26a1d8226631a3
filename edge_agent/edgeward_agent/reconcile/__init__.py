"""From what should run to what runs: desired state in, one step at a time, reported state out.

`decision` is the rule, `failures` what was learned, `report` what is said; all
three are pure. `Reconciler` is the loop around them, `DesiredStore` the memory
that a boot without network starts from.
"""

from edgeward_agent.reconcile.decision import Install, Nothing, Remove, Step, is_settled, next_step
from edgeward_agent.reconcile.desired_store import DesiredStore, StoredDesired
from edgeward_agent.reconcile.failures import Failures
from edgeward_agent.reconcile.loop import Reconciler
from edgeward_agent.reconcile.report import describe_state

__all__ = [
    "DesiredStore",
    "Failures",
    "Install",
    "Nothing",
    "Reconciler",
    "Remove",
    "Step",
    "StoredDesired",
    "describe_state",
    "is_settled",
    "next_step",
]
