"""The changes of what serves of one model, each persisted in one replacement of `active.json`.

A version that serves is sent back in this order: the refusal is written, the
pointer moves (or goes), the slot that failed stops to count. A kill in between
leaves a refusal of what is on probation, which the next boot acts on.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeward.durable import fsync_folder, write_atomic
from edgeward.protocol.errors import WireError
from edgeward_agent.artifacts import pointer as moves
from edgeward_agent.artifacts.active import (
    POINTER,
    ActiveModel,
    active_of,
    read_active,
    read_manifest,
    read_pointer,
    slot_folder,
    verify_slot,
)
from edgeward_agent.artifacts.errors import NO_ROOM
from edgeward_agent.artifacts.manifest import SLOTS
from edgeward_agent.artifacts.pointer import CandidatePointer, Pointer, Probation, encode_pointer
from edgeward_agent.artifacts.refusals import Refusal, decode_refusals, encode_refusals, find_refusal, with_refusal
from edgeward_agent.artifacts.slot_files import clear_slot, make_folder, newest_serial, retire_slot

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path
    from threading import RLock

    from edgeward.protocol.digests import Digest
    from edgeward_agent.artifacts.manifest import SlotName
    from edgeward_agent.artifacts.steps import Checkpoint

_LOG = logging.getLogger(__name__)

REFUSALS = "refusals.json"

# Two boots for a power cut or a kernel that died for reasons of its own; a model that ends its process at each start
# is sent back at the third.
MAX_STARTS = 3


class ModelFolder:
    """One model's folder, `models/<model>`. Thread-safe; every change is durable when it returns.

    Args:
        path: The folder; made at the first change.
        lock: Held while the pointer or the refusals change.
        checkpoint: Called with each of `STEPS` once it is durable.
        clock: The wall clock.
    """

    def __init__(self, path: Path, *, lock: RLock, checkpoint: Checkpoint, clock: Callable[[], datetime]) -> None:
        self.path = path
        self._lock = lock
        self._checkpoint = checkpoint
        self._clock = clock

    def pointer(self) -> Pointer | None:
        """The pointer; None where nothing serves or it can't be read, which a boot repairs."""
        try:
            return read_pointer(self.path)
        except (OSError, WireError):
            return None

    def activate(self, slot: SlotName, *, serial: int, probation: Probation | None) -> ActiveModel:
        """A slot that was verified and checked serves from now on."""
        with self._lock:
            manifest = read_manifest(slot_folder(self.path, slot))
            current = self.pointer()
            if current is None or current.slot != slot:
                former = current.slot if current is not None and self._is_finished(current.slot) else None
                current = moves.activate(current, slot, serial=serial, former=former, probation=probation)
                self._write(current, "activated")
            return active_of(self.path, current, manifest)

    def stage(self, candidate: CandidatePointer) -> None:
        """A slot that was verified and checked runs beside what serves, from now on, or does so otherwise."""
        with self._lock:
            current = self.pointer()
            if current is not None:
                step = "staged" if current.candidate is None else "candidate-changed"
                self._change(current, moves.stage(current, candidate), step)

    def drop_candidate(self) -> None:
        """The candidate takes part no more; nothing where there is none."""
        with self._lock:
            current = self.pointer()
            if current is not None and current.candidate is not None:
                self._change(current, replace(current, candidate=None), "candidate-dropped")
                self._retire(current.candidate.slot)

    def give_up(self, slot: SlotName) -> None:
        """Say that what is in a slot that does not serve counts no more, before its files go."""
        with self._lock:
            current = self.pointer()
            if current is not None:
                self._change(current, moves.give_up(current, slot), "given-up")

    def commit(self) -> None:
        """The version that serves has proven itself; nothing where none is on probation."""
        with self._lock:
            current = self.pointer()
            if current is not None:
                self._change(current, moves.commit(current), "committed")

    def step_back(self) -> bool:
        """Serve the former version again in place of one on probation that nobody wants any more.

        Returns:
            False where there is nothing sound to go back to; nothing has changed.
        """
        with self._lock:
            current = self.pointer()
            former = self._sound_former(current) if current and current.probation else None
            if current is None or former is None:
                return False
            self._write(moves.step_back(current, former), "stepped-back")
            self._retire(current.slot)
            return True

    def roll_back(self, reason: str) -> ActiveModel | None:
        """Refuse the version on probation and serve the former one again, or nothing where that is not sound.

        Returns:
            What serves now. Without a probation nothing changes.
        """
        with self._lock:
            current = self.pointer()
            if current is not None and current.probation is not None:
                is_noted = self._try_refuse(current.probation, reason)
                self._send_back(current)
                if not is_noted:
                    clear_slot(slot_folder(self.path, current.slot))
                    self._try_refuse(current.probation, reason)
            return read_active(self.path)

    def finish_roll_back(self) -> str | None:
        """Go on with a roll-back in whose middle the process was killed; the reason, None where there was none."""
        with self._lock:
            current = self.pointer()
            if current is None or current.probation is None:
                return None
            probation = current.probation
            refusal = find_refusal(self.refusals(), probation.version, probation.digest, release=probation.release)
            if refusal is None:
                return None
            self._send_back(current)
            return refusal.reason

    def count_start(self, change: int) -> Probation | None:
        """The agent has begun (1) or has come to an orderly end (-1).

        Returns:
            The probation with that start counted; None where there is none.
        """
        with self._lock:
            current = self.pointer()
            if current is None or current.probation is None:
                return None
            counted = moves.count_starts(current, change)
            self._change(current, counted, "start-counted" if change > 0 else "start-taken-back")
            return counted.probation

    def retire_unused(self) -> None:
        """Let slots that the pointer does not name count no more; only where it can be read."""
        with self._lock:
            current = self.pointer()
            unused = [slot for slot in SLOTS if slot not in current.slots_in_use] if current is not None else []
            for slot in unused:
                if self._is_finished(slot):
                    self._retire(slot)

    def point_to(self, active: ActiveModel) -> None:
        """Repair: what was found to be sound serves, and nothing is behind it."""
        with self._lock:
            generation = max(active.generation, newest_serial(self.path)) + 1
            self._write(Pointer(slot=active.slot, former=None, generation=generation), "activated")

    def remove_pointer(self) -> None:
        """Nothing serves."""
        with self._lock:
            (self.path / POINTER).unlink(missing_ok=True)
            fsync_folder(self.path)

    def refusals(self) -> tuple[Refusal, ...]:
        """What must not serve here, oldest first; none where the file is damaged."""
        try:
            return decode_refusals((self.path / REFUSALS).read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, WireError) as error:
            _LOG.warning("the refusals of %s are lost: %s", self.path.name, error)
            return ()

    def refuse(self, version: int, digest: Digest, release: int, reason: str) -> None:
        """Remember that an artifact must not serve here under a release."""
        with self._lock:
            refusal = Refusal(version=version, digest=digest, release=release, reason=reason, at=self._clock())
            make_folder(self.path)
            write_atomic(self.path / REFUSALS, encode_refusals(with_refusal(self.refusals(), refusal)))
            self._checkpoint("refusal-written")

    def _send_back(self, current: Pointer) -> None:
        """Move the pointer away from a version that was refused."""
        former = self._sound_former(current)
        if former is None:
            # In this order: a slot that counts would be found by whoever looks without a pointer.
            self._retire(current.slot)
            self.remove_pointer()
            self._checkpoint("rolled-back")
            return
        try:
            self._write(moves.step_back(current, former), "rolled-back")
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            # Not one byte is free for the pointer, so what failed gives its room first.
            clear_slot(slot_folder(self.path, current.slot))
            self._write(moves.step_back(current, former), "rolled-back")
        self._retire(current.slot)

    def _try_refuse(self, probation: Probation, reason: str) -> bool:
        """A disk that takes no refusal must not keep a version in service that fails there."""
        try:
            self.refuse(probation.version, probation.digest, probation.release, reason)
        except OSError as error:
            _LOG.error("that %s %d is refused can't be written: %s", self.path.name, probation.version, error)
            return False
        return True

    def _sound_former(self, pointer: Pointer) -> SlotName | None:
        if pointer.former is None:
            return None
        try:
            verify_slot(self.path, pointer.former)
        except (OSError, WireError) as error:
            _LOG.error("slot %s of %s can't serve again: %s", pointer.former, self.path.name, error)
            return None
        return pointer.former

    def _is_finished(self, slot: SlotName) -> bool:
        try:
            read_manifest(slot_folder(self.path, slot))
        except (OSError, WireError):
            return False
        return True

    def _retire(self, slot: SlotName) -> None:
        retire_slot(slot_folder(self.path, slot))
        self._checkpoint("slot-retired")

    def _change(self, before: Pointer, after: Pointer, step: str) -> None:
        if after != before:
            self._write(after, step)

    def _write(self, pointer: Pointer, step: str) -> None:
        write_atomic(self.path / POINTER, encode_pointer(pointer))
        self._checkpoint(step)
