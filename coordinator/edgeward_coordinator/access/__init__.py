"""Who may operate the fleet: roles, tokens, client certificates of operators."""

from edgeward_coordinator.access.access import Access
from edgeward_coordinator.access.credentials import Credential, CredentialKind, Principal
from edgeward_coordinator.access.roles import Role, parse_role, verify_may_grant

__all__ = [
    "Access",
    "Credential",
    "CredentialKind",
    "Principal",
    "Role",
    "parse_role",
    "verify_may_grant",
]
