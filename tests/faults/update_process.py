"""A process that boots a device's models and brings one of them to a version; a test may have it killed at a step.

    update_process.py STATE SOURCE VERSION [KILL_AT]

prints what serves after the boot, then what serves after the update, one JSON
line each: the version (0: nothing), what was repaired, and whether its golden
set passes and a prediction is right in this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.protocol.golden import compare_with_golden, decode_golden
from edgeward_agent.artifacts import SlotStore, probe_check
from edgeward_agent.artifacts.manifest import decode_manifest
from edgeward_agent.serving import Agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from edgeward.protocol.digests import Digest

MODEL = "scale"

_PIECE_BYTES = 16


def main() -> None:
    """Boot, say what serves, update, say it again."""
    state, source, version = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    kill_at = sys.argv[4] if len(sys.argv) > 4 else ""

    def checkpoint(step: str) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    store = SlotStore(state / "models", checkpoint=checkpoint)
    repaired = store.recover()
    say(store, state, repaired)
    asyncio.run(update(store, source, version))
    say(store, state, [])
    store.close()


async def update(store: SlotStore, source: Path, version: int) -> None:
    """Install a version, checked by a real runtime in a child process."""
    flavor = decode_manifest((source / f"{version}.json").read_bytes()).flavor

    async def fetch(digest: Digest, offset: int) -> AsyncIterator[bytes]:
        content = (source / digest).read_bytes()
        for start in range(offset, len(content), _PIECE_BYTES):
            yield content[start : start + _PIECE_BYTES]

    await store.install(MODEL, version, flavor, fetch=fetch, check=probe_check())


def say(store: SlotStore, state: Path, repaired: list[str]) -> None:
    """Print what serves, and whether it serves well."""
    active = store.active(MODEL)
    facts: dict[str, object] = {"version": active.version if active else 0, "repaired": repaired}
    if active is not None and active.golden_path is not None:
        golden = decode_golden(active.golden_path.read_bytes())
        with Agent(state, record=False) as agent:
            outputs = agent.predict(MODEL, golden.inputs)
        facts["problem"] = compare_with_golden(golden, outputs).problem
        facts["factor"] = float(outputs["y"][0, 1] / golden.inputs["x"][0, 1])
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
