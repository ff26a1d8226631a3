"""Whether what was signed is what is wanted, and fits this device: pure, the answers in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeward.protocol.model import Flavor
    from edgeward.protocol.state import RuntimeInfo
    from edgeward.protocol.targets import SignedTarget

_FIELDS = {
    "digest": "SHA-256",
    "total_bytes": "length in bytes",
    "format": "format",
    "precision": "precision",
    "golden_digest": "SHA-256 of the golden set",
    "golden_bytes": "length of the golden set",
    "signature": "inputs and outputs",
}


def difference_reason(target: SignedTarget, wanted: Flavor) -> str:
    """Why the desired flavor is not the one that was signed; empty where it is, in every field."""
    if target.flavor == wanted:
        return ""
    for name, title in _FIELDS.items():
        signed, desired = getattr(target.flavor, name), getattr(wanted, name)
        if signed != desired:
            return f"its {title} was signed as {_short(signed)}, and {_short(desired)} is desired"
    return f"{target.flavor.name} was signed, and {wanted.name} is desired"


def unfit_reason(target: SignedTarget, *, runtimes: Iterable[RuntimeInfo], memory_bytes: int) -> str:
    """Why this device can't run the target; empty where it can.

    Args:
        target: As it was signed.
        runtimes: Those that this device may run the target's format with.
        memory_bytes: What this device can give to a model; 0: not known, hence not judged.
    """
    present = {runtime.name: runtime.version for runtime in runtimes}
    if target.runtimes and not any(
        name in present and _release(present[name]) >= _release(least) for name, least in target.runtimes.items()
    ):
        needed = " or ".join(f"{name} {least}" for name, least in sorted(target.runtimes.items()))
        has = ", ".join(f"{name} {version}" for name, version in sorted(present.items())) or "none"
        return f"it needs {needed} or newer, and this device has {has}"
    if 0 < memory_bytes < target.memory_bytes:
        return f"it needs {target.memory_bytes} bytes of memory, and this device has {memory_bytes} for it"
    return ""


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without what is appended to them.

    >>> _release("1.23.0+cpu") == _release("1.23") < _release("1.23.1rc2")
    True
    """
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:79] + "…"
