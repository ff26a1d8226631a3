"""The child's side of `process`: limits on itself first, then one patch.

The alarm ends it even if its parent is gone; it runs at low priority and goes
first when the kernel runs out of memory.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeward_compression.patches.errors import PatchError
from edgeward_compression.patches.make import make_patch

_NICENESS = 10


def main() -> None:
    """Answer the request in the arguments."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    _limit(request["timeout_s"], request["memory_limit_bytes"])
    try:
        answer = asdict(make_patch(Path(request["base"]), Path(request["target"]), Path(request["out"])))
    except PatchError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"a patch needs more memory than the {request['memory_limit_bytes'] >> 20} MiB it may take"}
    sys.stdout.write(json.dumps(answer))


def _limit(timeout_s: float, memory_limit_bytes: int) -> None:
    signal.alarm(math.ceil(timeout_s) + 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # DATA, not AS: the files are mapped, and a large one is no reason to fail.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, memory_limit_bytes))
    os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
