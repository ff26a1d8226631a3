"""What this device is and which of its runtimes the agent may use."""

from __future__ import annotations

import os
import platform
from importlib import metadata, util
from typing import TYPE_CHECKING

from edgeward.protocol.state import Inventory
from edgeward_compression.runtimes import RuntimeMissing, choose_runtime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.protocol.model import Format
    from edgeward.protocol.state import RuntimeInfo

_SERVED: tuple[Format, ...] = ("onnx", "tflite")


def usable_runtimes(allowed: Sequence[str] | None) -> dict[Format, RuntimeInfo]:
    """The runtime for each format that is installed and allowed; an empty one means that no model can serve.

    Args:
        allowed: Formats and names of runtimes (`AgentConfig.runtimes`); None: whatever is installed.
    """
    usable: dict[Format, RuntimeInfo] = {}
    for model_format in _SERVED:
        runtime = _first_installed(model_format, allowed)
        if runtime is not None:
            usable[model_format] = runtime
    return usable


def take_inventory(runtimes: Mapping[Format, RuntimeInfo]) -> Inventory:
    """What the coordinator is told of this device."""
    return Inventory(
        agent_version=agent_version(),
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        runtimes=tuple(runtimes.values()),
        can_train=can_train(),
    )


def can_train() -> bool:
    """Whether the training worker's packages are installed; none of them is imported."""
    return util.find_spec("flwr") is not None


def agent_version() -> str:
    """Of the installed distribution."""
    try:
        return metadata.version("edgeward")
    except metadata.PackageNotFoundError:
        return "unknown"


def _first_installed(model_format: Format, allowed: Sequence[str] | None) -> RuntimeInfo | None:
    # None as a name asks for the best that is installed.
    names: Sequence[str | None] = [None] if allowed is None or model_format in allowed else allowed
    for name in names:
        try:
            return choose_runtime(model_format, name)
        except RuntimeMissing:
            continue
    return None
