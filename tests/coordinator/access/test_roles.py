"""Roles: an order, and words."""

from __future__ import annotations

import pytest

from edgeward_coordinator.access import Role, parse_role, verify_may_grant
from edgeward_coordinator.errors import InvalidArgument, PermissionDenied


def test_roles_include_the_ones_before() -> None:
    """Whoever may more compares greater."""
    assert Role.VIEWER < Role.OPERATOR < Role.APPROVER < Role.ADMIN


@pytest.mark.parametrize("role", Role, ids=lambda role: role.word)
def test_a_role_is_its_word(role: Role) -> None:
    """What is shown can be said."""
    assert parse_role(role.word) is role


@pytest.mark.parametrize("word", ["", "Admin", "root", "1"])
def test_no_other_word_is_a_role(word: str) -> None:
    """The message lists those that are."""
    with pytest.raises(InvalidArgument, match="viewer, operator, approver, admin"):
        parse_role(word)


@pytest.mark.parametrize("by", Role, ids=lambda role: role.word)
def test_nobody_grants_above_themselves(by: Role) -> None:
    """Up to one's own role it is allowed, above it is not."""
    for granted in Role:
        if granted <= by:
            verify_may_grant(granted, by=by)
        else:
            with pytest.raises(PermissionDenied, match=granted.word):
                verify_may_grant(granted, by=by)
