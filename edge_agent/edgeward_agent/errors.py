"""What the agent says no with; families by who must act.

The caller (`Misuse`: a bad argument, the wrong order), the peer (`Refused`: it
said no, or can't be believed; trying again alone does not help), and time
(`Interrupted`: try again). The command line prints `message` and `hint`.
"""

from __future__ import annotations


class AgentError(Exception):
    """Base. `message` says what was wrong with the value in it, `hint` what to do instead."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class Misuse(AgentError):
    """What was asked can't be done as it was asked."""


class Refused(AgentError):
    """The other side said no, or is not who it should be."""


class Interrupted(AgentError):
    """The other side is away, or a wait ended; the same again may succeed."""
