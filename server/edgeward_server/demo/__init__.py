"""The whole journey on one machine, with real processes: what `make demo` shows.

`run` plays the acts of `journey` on a `stage`; `verdict` judges the figures.
"""

from edgeward_server.demo.run import DemoOptions, run_demo, stop_demo

__all__ = ["DemoOptions", "run_demo", "stop_demo"]
