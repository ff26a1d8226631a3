"""Running models, the same on a device and in the coordinator: load, predict, probe.

Light: importing this package imports numpy and no runtime; a runtime is imported
when a model is loaded. A file from elsewhere is met with `probe_model` first, in
a child process; `load_model` is for what passed.
"""

from edgeward_compression.runtimes.errors import (
    InputError,
    LoadError,
    ModelError,
    ProbeCutShort,
    ProbeError,
    RuntimeFailure,
    RuntimeMissing,
)
from edgeward_compression.runtimes.installed import available_runtimes, choose_runtime
from edgeward_compression.runtimes.model import LoadedModel, load_model
from edgeward_compression.runtimes.probe import ProbeResult, probe_model, probe_model_async

__all__ = [
    "InputError",
    "LoadError",
    "LoadedModel",
    "ModelError",
    "ProbeCutShort",
    "ProbeError",
    "ProbeResult",
    "RuntimeFailure",
    "RuntimeMissing",
    "available_runtimes",
    "choose_runtime",
    "load_model",
    "probe_model",
    "probe_model_async",
]
