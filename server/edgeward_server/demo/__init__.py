"""Whole journeys on one machine, with real processes: what `make demo` and `edgeward demo rollout` show.

`run` plays the acts of `journey`, `rollout_run` those of `rollout_acts`, both on
a `stage` with a `fleet`; `verdict` and `rollout_verdict` judge the figures.
"""

from edgeward_server.demo.performance import stop_demo
from edgeward_server.demo.rollout_run import RolloutDemoOptions, run_rollout_demo
from edgeward_server.demo.run import DemoOptions, run_demo

__all__ = ["DemoOptions", "RolloutDemoOptions", "run_demo", "run_rollout_demo", "stop_demo"]
