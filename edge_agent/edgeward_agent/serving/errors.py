"""What a prediction says no with."""

from __future__ import annotations

from edgeward_agent.errors import AgentError, Misuse


class UnknownModel(Misuse):
    """No model of this name serves on this device."""


class InvalidInput(Misuse):
    """The inputs don't fit the model."""


class ServingError(AgentError):
    """The model fits the request and can't be loaded or run here."""
