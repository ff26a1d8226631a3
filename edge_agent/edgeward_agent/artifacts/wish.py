"""What should come into a slot, whether it may, and into which one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.protocol.errors import WireError
from edgeward.protocol.model import parse_model_name
from edgeward_agent.artifacts.active import slot_folder
from edgeward_agent.artifacts.errors import InstallError
from edgeward_agent.artifacts.manifest import SLOTS, Manifest, other_slot
from edgeward_agent.artifacts.refusals import find_refusal
from edgeward_agent.artifacts.slot_files import holds_same, newest_serial, read_intent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeward.protocol.model import Flavor
    from edgeward.protocol.targets import PatchOffer
    from edgeward_agent.artifacts.active import ActiveModel
    from edgeward_agent.artifacts.manifest import SlotName
    from edgeward_agent.artifacts.refusals import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A version that should serve or run beside what serves, under which release, and how it may be made."""

    model: str
    version: int
    flavor: Flavor
    release: int
    patches: Sequence[PatchOffer]

    def is_in(self, active: ActiveModel | None) -> bool:
        """Whether it is this very artifact."""
        return active is not None and (active.version, active.flavor, active.digest) == (
            self.version,
            self.flavor.name,
            self.flavor.digest,
        )

    def __str__(self) -> str:
        return f"{self.model} version {self.version} ({self.flavor.name})"


def verify_installable(wish: Wish) -> None:
    """Check what can be told without a look at the disk.

    Raises:
        InstallError: It can't be installed.
    """
    try:
        parse_model_name(wish.model)
    except WireError as error:
        raise InstallError(str(error)) from error
    if wish.flavor.format == "arrays":
        raise InstallError(f"{wish.flavor.name} is weights alone; no runtime can serve it")


def verify_not_refused(refusals: tuple[Refusal, ...], wish: Wish) -> None:
    """Check that nothing speaks against it.

    Raises:
        InstallError: It was refused under this release.
    """
    refusal = find_refusal(refusals, wish.version, wish.flavor.digest, release=wish.release)
    if refusal is not None:
        raise InstallError(f"{wish} was refused here: {refusal.reason}")


def place_for(folder: Path, wish: Wish, active: ActiveModel | None) -> tuple[SlotName, int]:
    """The slot to fill in a model's folder, and the serial of what comes into it."""
    serial = 1 + max(newest_serial(folder), active.generation if active else 0)
    if active is not None:
        return other_slot(active.slot), serial
    wanted = Manifest(model=wish.model, version=wish.version, flavor=wish.flavor, serial=serial)
    begun: list[SlotName] = [slot for slot in SLOTS if holds_same(read_intent(slot_folder(folder, slot)), wanted)]
    return begun[0] if begun else "a", serial
