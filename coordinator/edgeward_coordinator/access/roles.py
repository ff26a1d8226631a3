"""The roles of operators, each including the ones before it."""

from __future__ import annotations

from enum import IntEnum

from edgeward_coordinator.errors import InvalidArgument, PermissionDenied


class Role(IntEnum):
    """What an operator may do; a greater role may all that a smaller one may."""

    VIEWER = 1
    OPERATOR = 2
    APPROVER = 3
    ADMIN = 4

    @property
    def word(self) -> str:
        """As it is written in requests and tables: "viewer"."""
        return self.name.lower()


def parse_role(text: str) -> Role:
    """The role of that word.

    Raises:
        InvalidArgument: There is none.
    """
    for role in Role:
        if role.word == text:
            return role
    raise InvalidArgument(f"unknown role {text[:40]!r}", hint=f"the roles are {', '.join(role.word for role in Role)}")


def verify_may_grant(granted: Role, *, by: Role) -> None:
    """Nobody makes a credential that may more than they may themselves.

    Raises:
        PermissionDenied: `granted` is above `by`.
    """
    if granted > by:
        raise PermissionDenied(
            f"the role {by.word} can't grant the role {granted.word}",
            hint=f"grant {by.word} or less, or ask somebody who is {granted.word}",
        )
