"""`make_patch` in a child process, with limits: it parses files that anyone may have pushed.

The child (`process_child`) answers with one line of JSON on stdout.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from edgeward_compression.patches.errors import PatchError
from edgeward_compression.patches.make import PatchInfo

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_TIMEOUT_S: Final = 600.0
DEFAULT_MEMORY_LIMIT_BYTES: Final = 2 << 30

_CHILD: Final = "edgeward_compression.patches.process_child"


def make_patch_in_child(
    base: Path,
    target: Path,
    out: Path,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES,
) -> PatchInfo:
    """`make_patch`, in a process that may crash, hang or ask for too much without harm.

    Args:
        base: What a device has.
        target: What it shall have.
        out: Where the patch goes, in a folder that is removed afterwards: a killed child leaves files beside it.
        timeout_s: How long the child may take.
        memory_limit_bytes: How much the child may allocate; the files themselves do not count.

    Raises:
        PatchError: No patch can be made within the limits; in words.
        OSError: The child can't be started.
    """
    request = {
        "base": str(base),
        "target": str(target),
        "out": str(out),
        "timeout_s": timeout_s,
        "memory_limit_bytes": memory_limit_bytes,
    }
    # -P: what lies in the current folder is no module of ours.
    command = [sys.executable, "-P", "-m", _CHILD, json.dumps(request)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise PatchError(f"no patch was made within {timeout_s:g} s") from error
    if done.returncode:
        raise PatchError(_describe_end(done.returncode, done.stderr))
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise PatchError(answer["error"])
    return PatchInfo(total_bytes=answer["total_bytes"], method=answer["method"])


def _describe_end(returncode: int, stderr: str) -> str:
    if returncode < 0:
        return f"the process that made the patch was ended by {signal.Signals(-returncode).name}"
    last_words = stderr.strip().splitlines()[-1:]
    said = f": {last_words[0][:200]}" if last_words else ""
    return f"the process that made the patch ended with status {returncode}{said}"
