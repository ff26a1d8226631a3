"""The check before activation: the model runs the golden set on this device's own runtime, in a child process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.protocol.golden import GoldenSet
from edgeward.protocol.model import Flavor, Format
from edgeward_agent.artifacts.errors import FetchInterrupted, InstallError
from edgeward_compression.runtimes import ProbeCutShort, ProbeError, probe_model_async
from edgeward_compression.runtimes.probe import DEFAULT_MEMORY_LIMIT_BYTES, DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from edgeward.protocol.digests import Digest

# A machine that is starting, or short of memory for a moment, cuts a probe of a good model short; not this often.
_ATTEMPTS = 3

# Returns where the model may serve; raises InstallError where it may not, FetchInterrupted where that can't be told.
Check = Callable[[Path, Flavor, GoldenSet | None], Awaitable[None]]


def probe_check(
    *,
    runtimes: Mapping[Format, str] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES,
) -> Check:
    """Make the check; it counts, in memory, how often the probe of an artifact was cut short.

    What was is tried again by whoever retries a `FetchInterrupted`, and refused at the third time in a row. A model
    that does not open or computes wrong numbers is refused at once.

    Args:
        runtimes: The runtime for a format, where it should not be the best one that is installed.
        timeout_s: How long the child process may take.
        memory_limit_bytes: How much it may allocate.
    """
    cut_short: Counter[Digest] = Counter()

    async def check(path: Path, flavor: Flavor, golden: GoldenSet | None) -> None:
        try:
            result = await probe_model_async(
                path,
                format=flavor.format,
                golden=golden,
                runtime=(runtimes or {}).get(flavor.format),
                timeout_s=timeout_s,
                memory_limit_bytes=memory_limit_bytes,
            )
        except ProbeCutShort as error:
            cut_short[flavor.digest] += 1
            if cut_short[flavor.digest] < _ATTEMPTS:
                raise FetchInterrupted(f"{flavor.name} is checked again: {error}") from error
            del cut_short[flavor.digest]
            raise InstallError(f"{flavor.name} does not run here: {error}, {_ATTEMPTS} times in a row") from error
        except ProbeError as error:
            raise InstallError(f"{flavor.name} does not run here: {error}") from error
        except OSError as error:
            raise FetchInterrupted(f"{flavor.name} can't be checked at the moment: {error}") from error
        cut_short.pop(flavor.digest, None)
        if result.golden is not None and not result.golden.passed:
            runtime = f"{result.runtime} {result.runtime_version}"
            raise InstallError(f"{flavor.name} computes wrong numbers on {runtime}: {result.golden.problem}")

    return check
