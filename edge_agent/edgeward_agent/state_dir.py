"""Where everything lies in the state directory. One place, so that every process of the device agrees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_STATE_DIR = Path("/var/lib/edgeward-agent")


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths only; nothing is made here."""

    root: Path

    @property
    def identity(self) -> Path:
        """Key, certificate, who the device is."""
        return self.root / "identity"

    @property
    def trust(self) -> Path:
        """The root of trust in artifacts, and the floors of its metadata."""
        return self.root / "trust"

    @property
    def models(self) -> Path:
        """The slots."""
        return self.root / "models"

    @property
    def trials(self) -> Path:
        """What each process has seen of versions on trial."""
        return self.root / "trials"

    @property
    def metered(self) -> Path:
        """There while the link is metered."""
        return self.root / "metered"

    @property
    def outbox(self) -> Path:
        """Telemetry that waits for the coordinator."""
        return self.root / "outbox.db"

    @property
    def desired(self) -> Path:
        """The last desired state."""
        return self.root / "desired.json"

    @property
    def config(self) -> Path:
        """What the device's owner set."""
        return self.root / "agent.toml"
