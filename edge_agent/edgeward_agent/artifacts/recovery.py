"""The boot: what serves is verified, what was interrupted is finished, and a start on probation is counted.

A power cut counts as a start like a crash does: from the disk they can't be told
apart, and a model that draws so much power that the device resets is a bad model
too. So it takes three starts that count before a version is sent back; once is
chance, twice can be. A start counts until the agent has come to an orderly end or
has lived with the version for a while (`SlotStore.settle_start`): whoever pulls
the plug three times in a week of probation sends no good version back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward_agent.artifacts.active import resolve_active, resolve_candidate
from edgeward_agent.artifacts.model_folder import MAX_STARTS
from edgeward_agent.artifacts.slot_files import remove_temporary_files

if TYPE_CHECKING:
    from edgeward_agent.artifacts.active import ActiveModel
    from edgeward_agent.artifacts.model_folder import ModelFolder
    from edgeward_agent.artifacts.pointer import Probation


def recover_model(folder: ModelFolder) -> list[str]:
    """Bring one model's folder in order.

    Returns:
        What was repaired, in words; nothing after an orderly end.
    """
    remove_temporary_files(folder.path)
    words = _finish_roll_back(folder)
    resolved = resolve_active(folder.path)
    words += resolved.problems
    active = resolved.active
    if active is None:
        if words:
            folder.remove_pointer()
            words.append(f"nothing of {folder.path.name} can serve until it is installed again")
        return words
    pointer = folder.pointer()
    if pointer is None or pointer.slot != active.slot:
        folder.point_to(active)
        words.append(_say_serving(folder, active))
    if pointer is not None and pointer.candidate is not None and resolve_candidate(folder.path) is None:
        folder.drop_candidate()
        words.append(f"the candidate of {folder.path.name} is damaged and takes part no more")
    folder.retire_unused()
    return words


def count_start(folder: ModelFolder) -> tuple[list[str], Probation | None]:
    """Count that the agent begins, before anything loads the model; at the third time send it back.

    Returns:
        What happened, in words, and the probation that goes on.
    """
    probation = folder.count_start(1)
    if probation is None or probation.starts < MAX_STARTS:
        return [], probation
    reason = f"started {MAX_STARTS} times on probation without getting through it"
    active = folder.roll_back(reason)
    return [_say_rolled_back(folder, probation.version, reason, active)], None


def _finish_roll_back(folder: ModelFolder) -> list[str]:
    before = folder.pointer()
    reason = folder.finish_roll_back()
    if reason is None or before is None or before.probation is None:
        return []
    return [_say_rolled_back(folder, before.probation.version, reason, resolve_active(folder.path).active)]


def _say_rolled_back(folder: ModelFolder, version: int, reason: str, active: ActiveModel | None) -> str:
    serving = _say_serving(folder, active) if active is not None else f"nothing of {folder.path.name} serves"
    return f"version {version} of {folder.path.name} was rolled back: {reason}; {serving}"


def _say_serving(folder: ModelFolder, active: ActiveModel) -> str:
    return f"{folder.path.name} serves version {active.version} ({active.flavor}) from slot {active.slot}"
